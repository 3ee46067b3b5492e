"""Folders as annotation tools and data sets leave them: recognised by their own files, with the classes they name.

| recognised by | whose |
|---|---|
| `SegmentationClass/` | CVAT "Segmentation mask 1.1" and "PASCAL VOC" (docs.cvat.ai, formats), VOC2012's devkit |
| `label_colors.txt`, `gtFine/` | CVAT "Cityscapes" (datumaro, plugins/data_formats/cityscapes.py) |
| `meta.json`, `DATASET/img/` | Supervisely's project (docs.supervisely.com), also with masks_machine |
| `SPLIT/_classes.csv` | Roboflow "Semantic Segmentation Masks" |
| `config*.json`, `training/images/` | Mapillary Vistas v1.2 and v2.0, its README |
| `images/10k/`, `labels/sem_seg/masks/` | BDD100K (doc.bdd100k.com, format) |
"""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from runtime.accuracy.cityscapes import FRAME, named
from runtime.accuracy.own import Color, OwnClasses
from runtime.accuracy.pairing import Images, images_below, matched, pairs_in
from runtime.errors import DatasetError
from runtime.json_values import read_json, told
from runtime.labels import CITYSCAPES, IGNORED, Label, distinct_color
from runtime.texts import shown

Paths = list[tuple[Path, Path]]
BORDER = (224, 224, 192)  # VOC's, between objects: index 255
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# What tools call a split.
ALSO = {"train": ("training",), "val": ("valid", "validation"), "test": ("testing",)}
COLOR_LABEL = re.compile(r"(.+)_gtFine_color$")


class Found(NamedTuple):
    """A folder that was recognised."""

    tool: str
    own: OwnClasses
    pairs: Callable[[str], Paths]  # of a split
    colors: dict[Color, int] | None = None  # in which labels are painted, where it is not the classes' own


def recognised(root: Path) -> Found | None:
    """What tool left this folder, and the classes that its files name; None: none that is known.

    Raises:
        DatasetError: one did, and a file of it cannot be understood.
    """
    for what, reader in _READERS.items():
        try:
            found = reader(root)
            if found:
                return found
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"no {error} is in it" if isinstance(error, KeyError) else str(error)
            raise DatasetError(f"{shown(root)}: {what} cannot be understood: {why[:200]}") from None
        except OSError as error:
            raise DatasetError(f"{shown(root)}: {what} cannot be read ({error.strerror})") from None
    return None


def _voc(root: Path) -> Found | None:
    if not (root / "SegmentationClass").is_dir():
        return None
    labelmap = root / "labelmap.txt"
    rows = _labelmap(labelmap) if labelmap.is_file() else [(name, _voc_color(i)) for i, name in enumerate(VOC)]
    own = _own(rows, ignored=[BORDER] if BORDER not in [color for _, color in rows] else [])
    return Found("CVAT's labelmap.txt" if labelmap.is_file() else "PASCAL VOC", own, lambda split: _in_voc(root, split))


def _labelmap(path: Path) -> list[tuple[str, Color]]:
    # "label:red,green,blue:parts:actions"; where CVAT knew no colours these are VOC's, by the line.
    rows: list[tuple[str, Color]] = []
    for line in _lines(path):
        name, *rest = line.split(":")
        numbers = (rest or [""])[0]
        rows.append((name, _color(numbers.split(",")) if numbers else _voc_color(len(rows))))
    return rows


def _in_voc(root: Path, split: str) -> Paths:
    lists = root / "ImageSets" / "Segmentation"
    frames = root / "JPEGImages"
    if not frames.is_dir():
        raise DatasetError(f"there is no folder {shown(frames)}: export with the images, or put the frames there")
    names = set(_lines(_named_so(lists, split, [path for path in sorted(lists.glob("*.txt")) if path.name[0] != "."])))
    of_split = [_only(images_below(folder), names) for folder in (frames, root / "SegmentationClass")]
    if missing := sorted(names - of_split[0].keys()):
        raise DatasetError(f"{shown(frames)} has no frame {missing[0]!r}; {len(missing)} of {split} are missing")
    return matched(*of_split)


def _only(images: Images, names: set[str]) -> Images:
    return {name: path for name, path in images.items() if name in names}


def _cvat_cityscapes(root: Path) -> Found | None:
    path = root / "label_colors.txt"
    if not (path.is_file() and (root / "gtFine").is_dir()):
        return None
    rows = [(line.split(maxsplit=3)[3], _color(line.split()[:3])) for line in _lines(path)]
    return Found("CVAT's Cityscapes", _own(rows), lambda split: _in_cityscapes(root, split))


def _in_cityscapes(root: Path, split: str) -> Paths:
    frames = next((root / name for name in ("imgsFine/leftImg8bit", "leftImg8bit") if (root / name).is_dir()), None)
    if frames is None:
        raise DatasetError(f"there is no folder {shown(root / 'imgsFine')}: export with the images")
    of_frames = named(_folder_so(frames, split), FRAME)
    of_labels = named(_folder_so(root / "gtFine", split), COLOR_LABEL)
    bare = {FRAME.sub(r"\1", key): path for key, path in of_frames.items()}
    return matched(bare, {COLOR_LABEL.sub(r"\1", key): path for key, path in of_labels.items()})


def _supervisely(root: Path) -> Found | None:
    if not ((root / "meta.json").is_file() and any(root.glob("*/img"))):
        return None
    rows = [(each["title"], _hex(each["color"])) for each in read_json(root / "meta.json")["classes"]]
    machine = root / "obj_class_to_machine_color.json"
    if not (machine.is_file() and any(root.glob("*/masks_machine"))):
        return Found("Supervisely's JSON", _own(rows), lambda split: _in_supervisely(root, split, "ann"))
    by_name = {name: _color(color) for name, color in read_json(machine).items()}
    ids = {name: i for i, (name, _) in enumerate(rows)}
    # What no object covers is 0.
    colors = {(0, 0, 0): ids.get("background", IGNORED)} | {color: ids[name] for name, color in by_name.items()}
    pairs = lambda split: _in_supervisely(root, split, "masks_machine")  # noqa: E731
    return Found("Supervisely's masks_machine", _own(rows), pairs, colors)


def _in_supervisely(root: Path, split: str, labels: str) -> Paths:
    folder = _folder_so(root, split, [path.parent for path in sorted(root.glob("*/img"))])
    return pairs_in(folder / "img", folder / labels)


def _roboflow(root: Path) -> Found | None:
    tables = sorted(path for path in root.glob("*/_classes.csv") if path.parent.name[0] != ".")
    if not tables:
        return None
    written = [[row for row in csv.reader(_lines(path)) if row][1:] for path in tables]
    if any(table != written[0] for table in written):
        raise ValueError("the splits' differ from each other")
    names = [name.strip() for value, name in written[0]]
    if [int(value) for value, _ in written[0]] != list(range(len(names))):
        raise ValueError("its values are not 0, 1, 2 ...")
    rows = [(name, distinct_color(i)) for i, name in enumerate(names)]
    folders = [path.parent for path in tables]
    return Found("Roboflow's _classes.csv", _own(rows), lambda split: pairs_in(*[_folder_so(root, split, folders)] * 2))


def _mapillary(root: Path) -> Found | None:
    paths = [path for path in sorted(root.glob("config*.json"), reverse=True) if path.is_file()]
    if not (paths and (root / "training" / "images").is_dir()):
        return None
    # Of several versions the newest whose labels are there.
    version = {path: next(iter(re.findall(r"v\d\.\d", path.name)), "") for path in paths}
    path = next((path for path in paths if (root / "training" / version[path] / "labels").is_dir()), paths[0])
    labels = read_json(path)["labels"]
    rows = [(each["readable"], _color(each["color"])) for each in labels]
    kept = [i for i, each in enumerate(labels) if each.get("evaluate", True)]
    colors = {color: kept.index(i) if i in kept else IGNORED for i, (_, color) in enumerate(rows)}

    def pairs(split: str) -> Paths:
        folder = _folder_so(root, split)
        return pairs_in(folder / "images", folder / version[path] / "labels")

    return Found(f"Mapillary Vistas ({path.name})", _own([rows[i] for i in kept]), pairs, colors)


def _bdd100k(root: Path) -> Found | None:
    frames, labels = root / "images" / "10k", root / "labels" / "sem_seg" / "masks"
    if not (frames.is_dir() and labels.is_dir()):
        return None
    own = OwnClasses(CITYSCAPES, (), (), {}, "values")
    return Found("BDD100K", own, lambda split: pairs_in(_folder_so(frames, split), _folder_so(labels, split)))


_READERS = {
    "labelmap.txt": _voc, "label_colors.txt": _cvat_cityscapes, "meta.json": _supervisely, "_classes.csv": _roboflow,
    "config.json": _mapillary, "the folders": _bdd100k,
}  # fmt: skip


def _own(rows: list[tuple[str, Color]], ignored: list[Color] | None = None) -> OwnClasses:
    if not 0 < len(rows) <= IGNORED:
        raise ValueError(f"it names {len(rows)} classes, expected 1 to {IGNORED}")
    return OwnClasses(tuple(Label(name.strip(), color) for name, color in rows), (), tuple(ignored or ()), {})


def _lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _folder_so(folder: Path, split: str, there: list[Path] | None = None) -> Path:
    if there is None:
        there = [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
    return _named_so(folder, split, [path for path in there if path.name[0] != "."])


def _named_so(folder: Path, split: str, there: list[Path]) -> Path:
    # Of these the one that is called like the split, in a tool's own word for it.
    for name in (split, *ALSO.get(split, ())):
        for path in there:
            if path.stem.casefold() == name:
                return path
    names = ", ".join(path.name for path in there[:5]) or "nothing"
    raise DatasetError(
        f'{shown(folder)} has no {split} split, it has {names}; rename one, or say in classes.json which: "folders"'
    )


def _color(values: Any) -> Color:
    red, green, blue = (int(value) for value in values)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(f"{told([red, green, blue])} is no colour")
    return red, green, blue


def _hex(text: str) -> Color:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{told(text)} is no colour such as #FF8000")
    return _color(bytes.fromhex(text[1:]))


def _voc_color(index: int) -> Color:
    return distinct_color(index - 1)
