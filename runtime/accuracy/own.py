"""A user's own data set: its classes.json, and labels that are stored as colours."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.json_values import TOLD, told, values_from_json
from runtime.labels import IGNORED, Label

Color = tuple[int, int, int]
NUMBERS = ("values", "indices")  # of a label with a palette: its greys, or its places
READINGS = ("colors", *NUMBERS)
NO_CLASS = -1  # what `ids_from_colors` gives for a colour that the data set does not name


class OwnClasses(NamedTuple):
    """What a classes.json says."""

    classes: tuple[Label, ...]  # their order gives the ids
    ignored_ids: tuple[int, ...]
    ignored_colors: tuple[Color, ...]
    folders: dict[str, tuple[str, str]]  # split -> frames, labels; a split that is not there has SPLIT, SPLITannot
    labels: str | None = None  # how labels are read, one of `READINGS`; None: as each file tells

    def colors(self) -> dict[Color, int]:
        """The train id of every colour that a label may hold."""
        return {label.color: i for i, label in enumerate(self.classes)} | dict.fromkeys(self.ignored_colors, IGNORED)


def own_classes_from_json(text: str) -> OwnClasses:
    """A user's classes, what of their labels is ignored, and where frames and labels are.

    Args:
        text: `{"classes": [{"name": "road", "color": [128, 64, 128]}, ...], "ignored": [254, [0, 0, 0]],
            "folders": {"train": ["images/train", "labels/train"]}}`; the last two may be left out.

    Raises:
        ValueError: it is not JSON of that form, or contradicts itself.
    """
    return own_classes_from_values(values_from_json(text))


def own_classes_from_values(content: Any) -> OwnClasses:
    """As `own_classes_from_json`, of what stands in the JSON.

    Raises:
        ValueError: it is not of that form, or contradicts itself.
    """
    if not isinstance(content, dict) or not content.keys() <= {"classes", "ignored", "folders", "labels"}:
        raise ValueError('expected {"classes": [...]} and at most "ignored", "folders" and "labels" beside it')
    rows, ignored = content.get("classes"), content.get("ignored", [])
    if not isinstance(rows, list) or not 0 < len(rows) <= IGNORED:
        raise ValueError(f'"classes" is not a list of 1 to {IGNORED}')
    if not isinstance(ignored, list) or not all(_is_byte(each) or _is_color(each) for each in ignored):
        raise ValueError('"ignored" is not a list of values 0..255 and colors [red, green, blue]')
    ids = tuple(each for each in ignored if not isinstance(each, list))
    colors = tuple(_color(each) for each in ignored if isinstance(each, list))
    if content.get("labels") not in (None, *READINGS):
        raise ValueError(f'"labels" is {told(content["labels"])}, expected one of {", ".join(READINGS)}')
    own = OwnClasses(tuple(map(_label, rows)), ids, colors, _folders(content), content.get("labels"))
    refuse_contradictions(own)
    return own


def ids_from_colors(stored: np.ndarray, colors: dict[Color, int]) -> np.ndarray:
    """A label that was painted, as train ids.

    Args:
        stored: uint8 (H, W, 3) RGB.
        colors: `OwnClasses.colors`.

    Returns:
        int16 (H, W), NO_CLASS where a colour is none of them.
    """
    known = sorted((_packed(np.array(color)).item(), train_id) for color, train_id in colors.items())
    values, ids = (np.array(column) for column in zip(*known, strict=True))
    pixels = _packed(stored)
    place = np.searchsorted(values, pixels).clip(max=len(values) - 1)
    return np.where(values[place] == pixels, ids[place], NO_CLASS).astype(np.int16)


def _packed(colors: np.ndarray) -> np.ndarray:
    return np.asarray(colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32))


def refuse_contradictions(own: OwnClasses) -> None:
    """Raises ValueError: two classes have one name or colour, or one is ignored."""
    _refuse_twice("named", [label.name for label in own.classes])
    _refuse_twice("of colour", [*(label.color for label in own.classes), *own.ignored_colors])
    taken = [value for value in own.ignored_ids if value < len(own.classes)]
    if taken:
        raise ValueError(f"{taken[0]} is ignored, but it is the id of {own.classes[taken[0]].name!r}, by its place")


def _refuse_twice(what: str, values: Sequence[object]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        shown = list(twice[0]) if isinstance(twice[0], tuple) else repr(twice[0])
        raise ValueError(f"two are {what} {shown}; nothing tells them apart")


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


def _color(value: list[int]) -> Color:
    red, green, blue = value
    return red, green, blue


def _label(row: Any) -> Label:
    good = isinstance(row, dict) and row.keys() == {"name", "color"} and isinstance(row["name"], str)
    if not (good and row["name"].strip() and row["name"].isprintable() and _is_color(row["color"])):
        raise ValueError(f'{json.dumps(row)[:TOLD]} is not {{"name": ..., "color": [red, green, blue]}}')
    return Label(row["name"], _color(row["color"]))


def _folders(content: dict[str, Any]) -> dict[str, tuple[str, str]]:
    folders = content.get("folders", {})
    pairs = list(folders.values()) if isinstance(folders, dict) else [None]
    if not all(isinstance(pair, list) and [type(path) for path in pair] == [str, str] for pair in pairs):
        raise ValueError('"folders" is not {"train": [FRAMES, LABELS], "val": [FRAMES, LABELS]}')
    return {split: (frames, labels) for split, (frames, labels) in folders.items()}
