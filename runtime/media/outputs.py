"""Where the masks of each input go, one name each and never an input's, and how they look."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.artifacts import remove_leftovers
from runtime.errors import OutputError
from runtime.kernels.cpu import overlay
from runtime.labels import IGNORED
from runtime.media.frames import FrameFile, write_jpeg, write_png
from runtime.media.jpeg import QUALITY
from runtime.media.video import is_video
from runtime.texts import shown

SAVES = ("ids", "color", "overlay")
CONFIDENCE = "confidence"  # beside them, where it is asked for: it costs another look at the logits
OF_A_VIDEO = ("overlay",)  # where nothing is said; class ids and colours of an hour of video are many gigabytes
# Linux takes 255; behind a name come `_overlay`, `.size2`, and what a video is called while it grows.
MOST_NAME_BYTES, TOLD_APART = 205, 10
# Of a picture's overlay, by its format. Ids and colours are read by programs: they stay PNG.
OVERLAY_SUFFIX = {"png": ".png", "jpeg": ".jpg"}
VIDEO_SUFFIX = {"ids": ".mkv", "color": ".mp4", "overlay": ".mp4", CONFIDENCE: ".mkv"}

PART = re.compile(r"\.size[0-9]+(?=\.\w+$)")


class Seen(NamedTuple):
    """What was seen in a frame: uint8 (H, W) train ids and, where it was asked for, their confidence."""

    mask: np.ndarray
    confidence: np.ndarray | None = None


class Look(NamedTuple):
    """How a mask is shown: the classes' colours, uint8 (256, 3) RGB, and their part in the overlay, 0..1.

    A pixel of less confidence than `void_below` is of no class; None: nobody asks for a confidence. `quality` is that
    of what is written as JPEG, 1 to 100.
    """

    palette: np.ndarray
    alpha: float
    void_below: int | None = None
    quality: int = QUALITY

    def pixels(self, kind: str, frame: np.ndarray, seen: Seen) -> np.ndarray:
        """What is written for a kind: uint8 (H, W) for ids and confidence, else uint8 (H, W, 3) RGB."""
        if kind == "ids":
            return seen.mask
        if kind == CONFIDENCE and seen.confidence is not None:
            return seen.confidence
        blended = overlay(frame, seen.mask, self.palette, 1.0 if kind == "color" else self.alpha)
        if self.void_below and kind == "overlay":
            void = seen.mask == IGNORED
            blended[void] = frame[void]
        return blended

    def write_pictures(
        self, outputs: dict[str, Path], frame: np.ndarray, seen: Seen, told: str = "", *, repeatable: bool = False
    ) -> None:
        """Write each of `outputs`, as JPEG where its name ends so, else as PNG.

        Args:
            outputs: a kind -> where.
            frame: uint8 (H, W, 3) RGB.
            seen: in it.
            told: their mark.
            repeatable: of PNGs, see `png_from_pixels`.

        Raises:
            OutputError: one cannot be written.
        """
        for kind, path in outputs.items():
            pixels = self.pixels(kind, frame, seen)
            if path.suffix == OVERLAY_SUFFIX["jpeg"]:
                write_jpeg(path, pixels, told, self.quality)
            else:
                write_png(path, pixels, told, repeatable=repeatable)


def outputs_of(
    file: FrameFile, folder: Path, saves: Sequence[str] | None = None, overlays: str = "png"
) -> dict[str, Path]:
    """What is written where of one file: `<folder>/<its place>/<stem>_<extension>_<kind>.png`, videos .mp4.

    The name follows from the file's own name and place alone. A name of more bytes than a disk takes is cut, and a
    part of its sha256 tells it apart.

    Args:
        file: a picture or a video, told by its name.
        folder: where all of it goes.
        saves: of `SAVES`; by default all of a picture, `OF_A_VIDEO` of a video. `CONFIDENCE` at their end is written
            beside them, alone beside the default.
        overlays: of `OVERLAY_SUFFIX`, the format of a picture's overlay.
    """
    stem, extension = file.relative.with_suffix(""), file.relative.suffix.removeprefix(".")
    name = _short(f"{stem.name}_{extension}" if extension else stem.name)
    return _outputs(folder / stem.with_name(name), saves, is_video(file.path), OVERLAY_SUFFIX[overlays])


def plan_outputs(files: Sequence[FrameFile], folder: Path, saves: Sequence[str] | None = None) -> list[dict[str, Path]]:
    """`outputs_of` each file.

    Raises:
        OutputError: two files would write the same.
    """
    planned = [outputs_of(file, folder, saves) for file in files]
    refuse_shared(files, planned)
    return planned


def refuse_shared(files: Iterable[FrameFile], outputs: Iterable[dict[str, Path]]) -> None:
    """Look for two files that write to one place.

    Raises:
        OutputError: there are.
    """
    first: dict[str, FrameFile] = {}
    for file, paths in zip(files, outputs, strict=True):
        for path in paths.values():
            other = first.setdefault(str(path), file)
            if other is not file:
                raise OutputError(
                    f"{shown(other.path)} and {shown(file.path)} would write the same files; name the folder that "
                    "holds both, or segment them one after the other with another -o"
                )


def refuse_clashes(
    files: Sequence[FrameFile], folder: Path, saves: Sequence[str] | None, overlays: str = "png"
) -> None:
    """Hold the outputs of many files to each other and to the inputs, without making a name of each.

    Raises:
        OutputError: two files would write the same, or one an input.
    """
    first: dict[tuple[str, bool], FrameFile] = {}
    for file in files:
        stem, extension = os.path.splitext(file.relative)  # noqa: PTH122 - texts, of which there may be 100,000
        key = (f"{stem}_{extension[1:]}" if extension else stem, is_video(file.path))
        other = first.setdefault(key, file)
        if other is not file:
            refuse_shared((other, file), [outputs_of(each, folder, saves) for each in (other, file)])
    places = {os.path.dirname(key) for key, _ in first}  # noqa: PTH120
    there = [place for place in places if (folder / place).is_dir()]
    inodes = {_identity(file.path)[1] for file in files} if there else set()
    if any(entry.inode() in inodes for place in there for entry in os.scandir(folder / place)):
        refuse_overwrites(files, [outputs_of(file, folder, saves, overlays) for file in files])


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
        remove_leftovers(folder)
    except OSError as error:
        raise OutputError(
            f"output folder {shown(folder)} cannot be written ({error.strerror}): give another with -o"
        ) from None


def refuse_overwrites(files: Sequence[FrameFile], outputs: Sequence[dict[str, Path]]) -> None:
    """Look for outputs that are an input, under whatever name; a video's further parts (`part_path`) too.

    Only folders that are there are looked into, each once: inputs may be many.

    Raises:
        OutputError: there is one.
    """
    planned: dict[str, set[str]] = {}
    for path in (path for paths in outputs for path in paths.values()):
        planned.setdefault(str(path.parent), set()).add(path.name)
    there = {identity: path for folder, names in planned.items() for identity, path in _written_over(folder, names)}
    for file in files if there else ():
        if (output := there.get(_identity(file.path))) is not None:
            raise OutputError(f"output {shown(output)} would overwrite an input; give another folder with -o")


def _written_over(folder: str, names: set[str]) -> Iterator[tuple[tuple[int, int], Path]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # nothing is there, or nothing can be written, which `prepare_folder` tells
        return
    for entry in entries:
        if entry.name in names or PART.sub("", entry.name) in names:
            with suppress(FileNotFoundError):  # a link to nothing
                yield _identity(Path(entry.path)), Path(entry.path)


def _short(name: str) -> str:
    data = os.fsencode(name)
    if len(data) <= MOST_NAME_BYTES:
        return name
    kept = data[: MOST_NAME_BYTES - 1 - TOLD_APART].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:TOLD_APART]}"


def _outputs(stem: Path, saves: Sequence[str] | None, video: bool, overlay: str = ".png") -> dict[str, Path]:
    kinds = (OF_A_VIDEO if video else SAVES) if saves is None else tuple(saves)
    if kinds == (CONFIDENCE,):
        kinds = (*(OF_A_VIDEO if video else SAVES), CONFIDENCE)
    suffixes = VIDEO_SUFFIX if video else dict.fromkeys(kinds, ".png") | {"overlay": overlay}
    return {kind: stem.with_name(f"{stem.name}_{kind}{suffixes[kind]}") for kind in kinds}


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as quick as Path.stat, and there may be 100,000
    except (OSError, ValueError):  # a name that no disk takes, as an object may have, among them
        return (0, 0)
    return status.st_dev, status.st_ino
