"""Where the masks of each input go, one name each and never an input's, and how they look."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import OutputError
from runtime.kernels.cpu import overlay
from runtime.media.frames import FrameFile, write_png
from runtime.media.video import is_video
from runtime.texts import shown

SAVES = ("ids", "color", "overlay")
OF_A_VIDEO = ("overlay",)  # where nothing is said; class ids and colours of an hour of video are many gigabytes
VIDEO_SUFFIX = {"ids": ".mkv", "color": ".mp4", "overlay": ".mp4"}


class Look(NamedTuple):
    """How a mask is shown: the classes' colours, uint8 (256, 3) RGB, and their part in the overlay, 0..1."""

    palette: np.ndarray
    alpha: float

    def pixels(self, kind: str, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """What is written for one of `SAVES`: uint8 (H, W) for ids, else uint8 (H, W, 3) RGB."""
        if kind == "ids":
            return mask
        return overlay(frame, mask, self.palette, 1.0 if kind == "color" else self.alpha)

    def write_pngs(self, outputs: dict[str, Path], frame: np.ndarray, mask: np.ndarray) -> None:
        """Write each of `outputs`: ids, color, overlay -> where.

        Raises:
            OutputError: one cannot be written.
        """
        for kind, path in outputs.items():
            write_png(path, self.pixels(kind, frame, mask))


def plan_outputs(files: Sequence[FrameFile], folder: Path, saves: Sequence[str] | None = None) -> list[dict[str, Path]]:
    """For each file what is written where: `<folder>/<place below its input folder>/<stem>_<kind>.png`, videos .mp4.

    Files that would share a name get their extension in it (`a.png` and `a.jpg`: `a_png_ids.png`, `a_jpg_ids.png`),
    and where that is not enough the folders in which they differ. The same files give the same names in any order.

    Args:
        files: pictures and videos, told by their names.
        folder: where all of it goes.
        saves: of `SAVES`; by default all of a picture, `OF_A_VIDEO` of a video.

    Raises:
        OutputError: two files still share a name.
    """
    stems = _stems(files)
    for stem, count in Counter(stems).items():
        if count > 1:
            both = " and ".join(shown(file.path) for file, other in zip(files, stems, strict=True) if other == stem)
            raise OutputError(f"{both} would write the same files; segment them one after the other with another -o")
    return [_outputs(folder / stem, saves, is_video(file.path)) for file, stem in zip(files, stems, strict=True)]


def camera_outputs(name: str, folder: Path, saves: Sequence[str] | None = None) -> dict[str, Path]:
    """What is written where of a camera, by a name that tells when."""
    return _outputs(folder / name, saves, True)


def part_path(path: Path, part: int) -> Path:
    """The name of a video's output from its `part`-th frame size on, 1 the first: `NAME.mp4`, `NAME.size2.mp4`."""
    return path if part == 1 else path.with_name(f"{path.stem}.size{part}{path.suffix}")


def prepare_folder(folder: Path) -> None:
    """Make the folder, if it is not there.

    Raises:
        OutputError: it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"output folder {shown(folder)} cannot be written ({error.strerror}): give another with -o"
        ) from None


def refuse_overwrites(files: Sequence[FrameFile], outputs: Sequence[dict[str, Path]]) -> None:
    """Look for outputs that are an input, under whatever name.

    Raises:
        OutputError: there is one.
    """
    inputs = {_identity(file.path): file.path for file in files if file.path.exists()}
    for path in (path for paths in outputs for path in paths.values() if path.exists()):
        if _identity(path) in inputs:
            raise OutputError(f"output {shown(path)} would overwrite an input; give another folder with -o")


def _stems(files: Sequence[FrameFile]) -> list[Path]:
    # Whoever shares a name steps to its next longer one, and may meet another there: so until nobody moves.
    common = os.path.commonpath([file.path.parent.resolve() for file in files])
    longer = [_names(file, common) for file in files]
    stems = [next(names) for names in longer]
    moved = True
    while moved:
        counts = Counter(stems)
        steps = [next(names, None) if counts[stem] > 1 else None for names, stem in zip(longer, stems, strict=True)]
        stems = [step or stem for step, stem in zip(steps, stems, strict=True)]
        moved = any(steps)
    return stems


def _names(file: FrameFile, common: str) -> Iterator[Path]:
    stem, extension = file.relative.with_suffix(""), file.relative.suffix.removeprefix(".")
    yield stem
    named = stem.with_name(f"{stem.name}_{extension}") if extension else stem
    yield named
    yield file.path.parent.resolve().relative_to(common) / named.name


def _outputs(stem: Path, saves: Sequence[str] | None, video: bool) -> dict[str, Path]:
    kinds = (OF_A_VIDEO if video else SAVES) if saves is None else saves
    return {kind: stem.with_name(f"{stem.name}_{kind}{VIDEO_SUFFIX[kind] if video else '.png'}") for kind in kinds}


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
