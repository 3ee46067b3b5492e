"""Cityscapes' folders as people have them: which frame has which label, and what its values stand for."""

import re
from pathlib import Path
from typing import NamedTuple

from runtime.accuracy.pairing import Images, matched, pictures_below
from runtime.accuracy.readings import OUT_OF_RANGE
from runtime.cli import log
from runtime.errors import DatasetError
from runtime.labels import IGNORED
from runtime.texts import shown

# mcordts/cityscapesScripts, helpers/labels.py: the id of each train id, in order; every other id up to 33 is ignored.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LAST_ID = 33
FRAME = re.compile(
    r"(.+)_leftImg8bit(_.+)?$"
)  # what follows is of Foggy and Rainy Cityscapes: one label, many weathers
LABEL = re.compile(r"(.+)_gt(Fine|Coarse)_(labelTrainIds|labelIds)$")


class Labelled(NamedTuple):
    """A frame, its label, and whether that holds train ids already."""

    frame: Path
    label: Path
    train_ids: bool


def cityscapes_table() -> tuple[int, ...]:
    """The official labelIds -> train ids."""
    table = [IGNORED if value <= CITYSCAPES_LAST_ID else OUT_OF_RANGE for value in range(256)]
    for train_id, value in enumerate(CITYSCAPES_IDS):
        table[value] = train_id
    table[IGNORED] = IGNORED  # the licence plate's id -1, stored in 8 bits
    return tuple(table)


def find_labelled(root: Path, split: str) -> list[Labelled]:
    """leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_labelTrainIds.png, or else labelIds.

    The two folders may lie in the archives' own (`leftImg8bit_trainvaltest`), a city's folder may be left out, frames
    may be of any format, and gtCoarse is taken where gtFine has no such split. Train ids are taken where every frame
    has them.

    Raises:
        DatasetError: a folder is missing, a frame has no label, or a label no frame.
    """
    frames = named(_split_of(root, ("leftImg8bit", "leftImg8bit_foggy", "leftImg8bit_rain"), split), FRAME)
    folder = _split_of(root, ("gtFine", "gtCoarse"), split)
    if "gtCoarse" in folder.parts[len(root.parts) :]:
        log(f"cityscapes: there is no gtFine/{split}, its coarse labels are taken: gtCoarse/{split}")
    labels = named(folder, LABEL)
    bases = {_base(FRAME, key) for key in frames}
    by_kind = {kind: _of_kind(labels, kind) for kind in ("labelTrainIds", "labelIds")}
    kind = next((kind for kind, found in by_kind.items() if bases and found.keys() >= bases), "labelIds")
    if kind == "labelIds" and by_kind["labelTrainIds"]:
        log(
            f"cityscapes: {len(by_kind['labelTrainIds'])} of {len(bases)} frames have labelTrainIds: labelIds are taken"
        )
    return [Labelled(*pair, kind == "labelTrainIds") for pair in _paired(frames, by_kind[kind])]


def _paired(frames: Images, labels: Images) -> list[tuple[Path, Path]]:
    of_frames = {key: labels[_base(FRAME, key)] for key in frames if _base(FRAME, key) in labels}
    used = set(of_frames.values())
    return matched(frames, of_frames | {f"{key} ": path for key, path in labels.items() if path not in used})


def _of_kind(labels: Images, kind: str) -> Images:
    return {_base(LABEL, key): path for key, path in labels.items() if key.endswith(kind)}


def _base(pattern: re.Pattern[str], key: str) -> str:
    found = pattern.match(key)
    return found[1] if found else key


def _split_of(root: Path, names: tuple[str, ...], split: str) -> Path:
    for name in names:
        for folder in (root / name, *(path / name for path in sorted(root.glob(f"{name}_*")))):
            if (folder / split).is_dir():
                return folder / split
    raise DatasetError(f"there is no folder {shown(root / names[0] / split)}")


def named(folder: Path, pattern: re.Pattern[str]) -> Images:
    """The pictures below a folder whose names are of that pattern, by their names.

    Raises:
        DatasetError: two have one name.
    """
    found: Images = {}
    for path in (path for path in pictures_below(folder) if pattern.match(path.stem)):
        if path.stem in found:
            raise DatasetError(f"{shown(path)} and {shown(found[path.stem])} are two images of one name; keep one")
        found[path.stem] = path
    return found
