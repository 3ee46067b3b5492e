"""The classes of a checkpoint: by the user's classes.json, by what the file says, or by their number."""

import json
from pathlib import Path
from typing import Any

from export.checkpoints.pickles import mapping_of
from runtime.cli import log
from runtime.commands import option
from runtime.errors import WeightsError
from runtime.json_values import values_from_json
from runtime.labels import CAMVID, CITYSCAPES, Label, distinct_color
from runtime.spec import MOST_CLASSES

DATASETS = {"camvid": CAMVID, "cityscapes": CITYSCAPES}
NAMES, COLORS = ("classes", "CLASSES", "class_names"), ("palette", "PALETTE", "colors")
# Where programs note them: mmsegmentation 0.x in meta, 1.x below that, Lightning in its options.
PLACES = ((), ("meta",), ("meta", "dataset_meta"), ("dataset_meta",), ("hyper_parameters",))


def noted_classes(content: Any) -> tuple[Label, ...]:
    """The names, and colours where there are some, that a program noted in its checkpoint; empty where none did."""
    for place in PLACES:
        values = mapping_of(content)
        for key in place:
            values = mapping_of((values or {}).get(key))
        names: Any = next((values[key] for key in NAMES if key in values), None) if values else None
        if values and _are_names(names):
            colors = next((values[key] for key in COLORS if _are_colors(values.get(key), len(names))), None)
            return tuple(Label(name, tuple(colors[i]) if colors else distinct_color(i)) for i, name in enumerate(names))
    return ()


def classes_of(
    path: Path,
    count: int | None,
    metadata: dict[str, str],
    noted: tuple[Label, ...],
    given: tuple[Label, ...],
    *,
    published: bool = False,
) -> tuple[Label, ...]:
    """The classes: those given, else those that the file names, else of the data set that has so many, which is said.

    Raises:
        WeightsError: those given are more or fewer than the checkpoint has, or nothing names them.
    """
    if given:
        if count not in (None, len(given)):
            raise WeightsError(f"weights {path} have {count} classes, but {len(given)} are named: {_listed(given)}")
        return given
    if "classes" in metadata:
        return _in_metadata(path, metadata["classes"])
    if noted and count in (None, len(noted)):
        return noted
    if noted:
        log(f"{path} names {len(noted)} classes and has {count}: its names are not taken")
    if metadata.get("dataset") in DATASETS:
        return DATASETS[metadata["dataset"]]
    return _by_count(path, count, quiet=published and not noted)


def _by_count(path: Path, count: int | None, *, quiet: bool) -> tuple[Label, ...]:
    counts = {len(classes): name for name, classes in DATASETS.items()}
    if count is None:
        log(f"{path} does not tell its classes: they are taken for Cityscapes' {len(CITYSCAPES)}; {_hint()}")
        return CITYSCAPES
    if count not in counts:
        known = sorted(counts)
        raise WeightsError(f"weights {path} have {count} classes and do not name them; known are {known}; {_hint()}")
    if not quiet:
        log(f"{path} does not name its {count} classes: they are taken for those of {counts[count]}; {_hint()}")
    return DATASETS[counts[count]]


def _hint() -> str:
    return f"name your own: {option('classes')}"


def _in_metadata(path: Path, text: str) -> tuple[Label, ...]:
    try:
        return tuple(_label(name, *color) for name, color in values_from_json(text))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"weights {path} name their classes in a form that is not read: {error}") from None


def _label(name: object, *color: object) -> Label:
    red, green, blue = (int(value) for value in color if isinstance(value, int) and 0 <= value <= 255)
    if not isinstance(name, str):
        raise ValueError(f"a class is named {name!r}")
    return Label(name, (red, green, blue))


def _are_names(values: Any) -> bool:
    if not isinstance(values, (list, tuple)) or not 0 < len(values) <= MOST_CLASSES:
        return False
    good = all(isinstance(name, str) and name.strip() and name.isprintable() for name in values)
    return good and len(set(values)) == len(values)


def _are_colors(values: Any, count: int) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) == count
        and all(isinstance(color, (list, tuple)) and len(color) == 3 for color in values)
        and all(type(part) is int and 0 <= part <= 255 for color in values for part in color)
    )


def _listed(classes: tuple[Label, ...]) -> str:
    return json.dumps([label.name for label in classes], ensure_ascii=False)[:200]
