"""Pictures on disk: reading them as frames, writing masks."""

import argparse
import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from runtime.artifacts import write_atomically
from runtime.errors import FrameError, OutputError
from runtime.media.decoding import DAMAGED as DAMAGED
from runtime.media.decoding import frame_from_bytes
from runtime.media.decoding import opencv_decoded as opencv_decoded
from runtime.media.decoding import quiet_opencv as quiet_opencv
from runtime.media.found import EXTENSIONS as EXTENSIONS
from runtime.media.found import FrameFile as FrameFile
from runtime.media.found import find_frames as find_frames
from runtime.media.found import locate_frames as locate_frames
from runtime.media.headers import read_header, refuse_costly, refuse_truncated, without_notes
from runtime.media.jpeg import QUALITY, jpeg_from_pixels
from runtime.media.marks import marked_jpeg, marked_png
from runtime.media.png import png_from_pixels
from runtime.texts import shown

MIN_SIDE_PX = 16
MAX_PIXELS = 64_000_000  # a frame of 192 MB; a street camera has 2 to 12 million
MOST_PIXELS = (1 << 30) - 1  # that OpenCV itself decodes
PIXEL_BYTES = 8  # four channels of 16 bits, not compressed: a file has no more of them
MAX_FILE_BYTES = MAX_PIXELS * PIXEL_BYTES


def read_frame(path: str | Path) -> np.ndarray:
    """The picture at `path` as RGB, turned upright as its EXIF orientation says.

    PNG, JPEG, WebP, BMP, TIFF, AVIF, JPEG 2000, GIF, PNM and, where pillow-heif is installed, HEIC, told by content
    and not by name; of several pages or moments the first. Grey and palette become RGB, of 16 bits the upper 8 stay
    (`runtime.media.decoding.eight_bits`: what of 16 is used), an ICC profile other than sRGB is applied. Alpha is
    dropped: a camera's pixels are there whatever their alpha says, and blending with an invented background would
    change the frame.

    Returns:
        uint8 (H, W, 3) RGB, C-contiguous, the caller's.

    Raises:
        FrameError: missing, a folder, unreadable, empty, not an image, truncated, damaged, of float samples, a side
            under `MIN_SIDE_PX` or more than `MAX_PIXELS` in all (found before anything is decoded).
    """
    if not isinstance(path, (str, os.PathLike)):
        raise FrameError(f"a picture is read by its path, got {type(path).__name__}")
    try:
        return frame_from_bytes(whole_bytes(Path(path), smallest=MIN_SIDE_PX))
    except FrameError as error:
        raise FrameError(f"{shown(path)}: {error}") from None


def whole_bytes(path: Path, *, smallest: int = 1) -> bytes:
    """As `picture_bytes`, with all that is in the file: a profile, texts.

    Raises:
        FrameError: why it is not; the message does not name the file.
    """
    data = _read_file(path)
    refuse_bytes(data, smallest=smallest)
    return data


def refuse_bytes(data: bytes, *, smallest: int = MIN_SIDE_PX) -> None:
    """Hold a picture's bytes, wherever they come from, to what a decoder may be given; nothing is decoded.

    Args:
        data: a whole file.
        smallest: side in pixels.

    Raises:
        FrameError: not an image, cut off, too small, too large or too costly; the message does not name the file.
    """
    refuse_size(*read_header(data)[1:], smallest=smallest)
    refuse_truncated(data)
    refuse_costly(data)


def picture_bytes(path: Path, *, smallest: int = 1) -> bytes:
    """A picture's file, held to what a decoder may be given: of a size and a cost that are taken, and whole.

    Args:
        path: a frame or a label.
        smallest: side in pixels.

    Raises:
        FrameError: why it is not; the message does not name the file.
    """
    return without_notes(whole_bytes(path, smallest=smallest))


def most_pixels() -> int:
    """How many pixels a picture, a label or a frame of a video may have."""
    return _Allowed.pixels or MAX_PIXELS


def allow_pixels(count: int | None) -> None:
    """Let pictures have so many pixels, in this process from now on; None: `MAX_PIXELS`, as at first."""
    _Allowed.pixels = count


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """Let a command's user allow larger pictures: `--max-pixels`, which holds for the process."""
    what = f"what a picture, a label or a frame of a video may have at most ({MAX_PIXELS})"
    parser.add_argument("--max-pixels", type=_pixels_from_text, action=_Allow, metavar="N", help=what)


class _Allowed:
    pixels: int | None = None


class _Allow(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values)
        allow_pixels(values)


def _pixels_from_text(text: str) -> int:
    if not (text.isdecimal() and len(text) < 20 and MIN_SIDE_PX**2 <= int(text) <= MOST_PIXELS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels, {MIN_SIDE_PX**2} to {MOST_PIXELS}")
    return int(text)


def write_png(path: str | Path, pixels: np.ndarray, mark: str = "", *, repeatable: bool = False) -> None:
    """Write a PNG, all of it or nothing.

    Args:
        pixels: uint8 (H, W), or (H, W, 3) RGB.
        mark: what `runtime.media.marks` finds it by.
        repeatable: see `png_from_pixels`.

    Raises:
        OutputError: it cannot be written.
    """
    data = png_from_pixels(pixels, repeatable=repeatable)
    _write(path, marked_png(data, mark) if mark else data)


def write_jpeg(path: str | Path, pixels: np.ndarray, mark: str = "", quality: int = QUALITY) -> None:
    """Write a JPEG, all of it or nothing.

    Args:
        path: where.
        pixels: uint8 (H, W, 3) RGB.
        mark: what `runtime.media.marks` finds it by.
        quality: 1 to 100.

    Raises:
        OutputError: it cannot be written, or a side is longer than a JPEG's can be.
    """
    try:
        data = jpeg_from_pixels(pixels, quality)
    except OutputError as error:
        raise OutputError(f"{shown(path)}: {error}") from None
    _write(path, marked_jpeg(data, mark) if mark else data)


def _write(path: str | Path, data: bytes) -> None:
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        space = "free some space or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        raise OutputError(
            f"{shown(path)} cannot be written ({error.strerror}): {space}give another folder with -o"
        ) from None


def refuse_size(height: int, width: int, *, smallest: int = MIN_SIDE_PX) -> None:
    """Hold a picture's size to what is taken.

    Raises:
        FrameError: a side under `smallest`, or more than `most_pixels` in all.
    """
    if min(height, width) < smallest:
        raise FrameError(f"is {height}x{width} pixels, too small: expected {smallest}x{smallest} or more")
    if height * width > most_pixels():
        megapixels = f"{height * width / 1e6:.1f} megapixels"
        side = math.isqrt(most_pixels())
        raise FrameError(
            f"is {height}x{width}, {megapixels}, too large: expected at most {most_pixels() / 1e6:g} megapixels "
            f"(as {side}x{side}); scale it down, or raise --max-pixels"
        )


def _read_file(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise FrameError("is a folder, expected an image file")
        if not path.exists():
            raise FrameError("does not exist")
        if not path.is_file():
            raise FrameError("is not a regular file, expected an image")
        size = path.stat().st_size
        if size == 0:
            raise FrameError("is empty, expected an image")
        if size > most_pixels() * PIXEL_BYTES:
            largest = most_pixels() * PIXEL_BYTES >> 20
            raise FrameError(f"has {size >> 20} MiB, expected an image of at most {largest} MiB")
        return path.read_bytes()
    except OSError as error:
        raise FrameError(f"cannot be read ({error.strerror})") from None
