"""Which frames an INT8 graph is calibrated on, from a seed."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.accuracy.datasets import open_dataset
from runtime.accuracy.seen import look
from runtime.accuracy.tools import recognised
from runtime.artifacts import sha256_of
from runtime.cli import log
from runtime.commands import data_option
from runtime.errors import DatasetError
from runtime.media.frames import EXTENSIONS
from runtime.texts import shown

FEWEST = 32  # under this a range is a guess; NVIDIA asks for 500 and more
CITYSCAPES_FRAMES = Path("leftImg8bit") / "train"
SPLIT_FRAMES = Path("train")
# What people call the labels' folder, and the end of a label's name beside its frame's.
LABEL_FOLDER = re.compile(
    r"(?i)masks?|labels?|labelled|annotations?|seg(?:mentation)?s?|gt(?:fine|coarse)?|ground_?truth|.+annot"
)
LABEL_NAME = re.compile(r"(?i)(.+?)_(?:masks?|labels?|gt|annot|label(?:train)?ids|instanceids|color|ids|overlay)")
OTHER_SPLITS = frozenset({"val", "test", "valid", "validation"})
OWN_CLASSES = Path("classes.json")


class Sample(NamedTuple):
    """Frames on disk in the order they are read, and the sha256 of each."""

    frames: tuple[Path, ...]
    sha256: tuple[str, ...]


def sample_frames(data: Path, count: int, seed: int, *, few: bool = False) -> Sample:
    """`count` frames of a data set or a folder, or all where there are fewer; the same ones for the same seed.

    Of Cityscapes (`leftImg8bit/train`) every city gives its share, of CamVid and its like the `train` folder is taken,
    of a user's own classes, and of what a tool left, the training frames that its files name, of any other folder all
    images below it.
    Validation and test frames are never taken.

    Args:
        data: the folder.
        count: frames wanted.
        seed: of the choice and the order.
        few: allow fewer than `FEWEST`.

    Raises:
        DatasetError: the folder is missing or holds no image, or too few and `few` is not said.
    """
    if not data.is_dir():
        raise DatasetError(f"there is no folder {data}; give the calibration frames' with {data_option()}")
    if data.name.casefold() in OTHER_SPLITS:
        log(f"warning: {shown(data)} looks like frames to test on; ranges are found on training frames: give "
            f"{shown(data.parent)}, of which train is taken")  # fmt: skip
    groups = _groups(data)
    chosen = _spread(groups, count, np.random.default_rng(seed))
    if len(chosen) < FEWEST and not few:
        raise DatasetError(
            f"{data} gives {len(chosen)} calibration frames, at least {FEWEST} are needed for ranges that hold; "
            "give more, or say --few"
        )
    return Sample(tuple(chosen), tuple(map(sha256_of, chosen)))


def digest_of(sha256: Sequence[str]) -> str:
    """One sha256 over those of the frames, in their order."""
    return hashlib.sha256("".join(sha256).encode()).hexdigest()


def _groups(data: Path) -> list[list[Path]]:
    # the frames by city, or all in one group; each sorted
    if (data / OWN_CLASSES).is_file() or recognised(data):
        dataset = open_dataset("own", data)
        pairs = dataset.pairs("train")
        look(pairs, dataset.classes, f"{dataset.name} train")
        return [[pair.frame for pair in pairs]]
    root = data / CITYSCAPES_FRAMES
    if root.is_dir():
        groups = [_images(city) for city in sorted(root.iterdir()) if city.is_dir()]
    else:
        groups = [_images(data / SPLIT_FRAMES if (data / SPLIT_FRAMES).is_dir() else data)]
    found = [group for group in groups if group]
    if not found:
        raise DatasetError(f"{root if root.is_dir() else data} holds no images ({', '.join(sorted(EXTENSIONS))})")
    return found


def _images(folder: Path) -> list[Path]:
    # In what is below the folder nothing hidden counts: macOS' ._x.jpg, Jupyter's checkpoints; nor do labels.
    below = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS]
    seen = [path for path in below if not any(part.startswith(".") for part in path.parts)]
    stems = {path.stem for path in seen}
    frames = [path for path in seen if not _is_label(path, stems)] or seen
    if len(frames) < len(seen):
        log(f"{shown(folder)}: {len(seen) - len(frames)} pictures are labels by their folder or name, and left out")
    return sorted(folder / path for path in frames if (folder / path).is_file())


def _is_label(path: Path, stems: set[str]) -> bool:
    named = any(LABEL_FOLDER.fullmatch(part) for part in path.parts[:-1])
    marked = LABEL_NAME.fullmatch(path.stem)
    return named or (marked is not None and marked[1] in stems)


def _spread(groups: list[list[Path]], count: int, rng: np.random.Generator) -> list[Path]:
    # Round after round one frame of every group that still has some, so that no city is left out by chance.
    shuffled = [[group[i] for i in rng.permutation(len(group))] for group in groups]
    rounds = max(map(len, shuffled))
    dealt = [group[i] for i in range(rounds) for group in shuffled if i < len(group)]
    return dealt[:count]
