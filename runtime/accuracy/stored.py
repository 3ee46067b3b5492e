"""A label's file as what it stores: values, indices of a palette, or colours; never as a viewer would paint it."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from runtime.errors import DatasetError, FrameError
from runtime.media.decoding import DAMAGED, opencv_decoded
from runtime.media.frames import picture_bytes
from runtime.texts import shown

T = TypeVar("T")
AS_STORED = -1  # OpenCV's IMREAD_UNCHANGED
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
GREY, PALETTE = 0, 3  # PNG's colour types: W3C Portable Network Graphics, 11.2.2
OPAQUE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
KEPT = (b"IHDR", b"IDAT", b"IEND")


class Stored(NamedTuple):
    """The pixels of a label, and the colours of its palette where they are indices."""

    pixels: np.ndarray  # uint8 (H, W): values, or indices; or uint8 (H, W, 3) RGB
    palette: np.ndarray | None = None  # uint8 (n, 3) RGB


def read_stored(path: Path) -> Stored:
    """What a label's file stores: grey of 1, 2, 4, 8 or 16 bits, a palette, or RGB; with alpha where all is opaque.

    Raises:
        DatasetError: missing, no image, compressed with loss, partly transparent, or of values beyond 255.
    """
    data = decoded(path, lambda: picture_bytes(path))
    _refuse_lossy(path, data)
    kind, bits = _png_kind(data)
    if kind == PALETTE:
        grey, colors = _as_grey(data)
        return Stored(_unscaled(decoded(path, lambda: opencv_decoded(grey, AS_STORED)), bits), colors)
    pixels = decoded(path, lambda: opencv_decoded(data, AS_STORED))
    return Stored(_unscaled(pixels, bits) if kind == GREY and pixels.ndim == 2 else _plain(path, pixels))


def decoded(path: Path, decode: Callable[[], T]) -> T:
    """What a reader makes of a file of a data set.

    Raises:
        DatasetError: it refuses it: missing, no image that is taken, damaged.
    """
    try:
        return decode()
    except FrameError as error:
        raise _not_read(path, error) from None


def _not_read(path: Path, error: FrameError) -> DatasetError:
    if str(error).startswith(DAMAGED):
        return DatasetError(f"{shown(path)} is {error}")
    return DatasetError(f"{shown(path)} is missing or is not an image that is taken: it {error}")


def _refuse_lossy(path: Path, data: bytes) -> None:
    lossy = "JPEG" if data.startswith(JPEG) else "lossy WebP" if data[8:12] == b"WEBP" and b"VP8L" not in data else ""
    if lossy:
        raise DatasetError(f"{shown(path)} is a {lossy}, which changes values at every edge; keep labels as PNG")


def _png_kind(data: bytes) -> tuple[int | None, int]:
    # Colour type and bits of a sample; None where it is no PNG.
    return (data[25], data[24]) if data.startswith(PNG) else (None, 8)


def _unscaled(pixels: np.ndarray, bits: int) -> np.ndarray:
    # A decoder spreads samples of 1, 2 and 4 bits over 0..255.
    return pixels // (255 // (2**bits - 1)) if bits < 8 else _narrow(pixels)


def _narrow(pixels: np.ndarray) -> np.ndarray:
    whole = np.issubdtype(pixels.dtype, np.integer) and pixels.min() >= 0 and pixels.max() <= 255
    return pixels.astype(np.uint8) if whole else pixels


def _plain(path: Path, pixels: np.ndarray) -> np.ndarray:
    import cv2

    pixels = np.squeeze(pixels, 2) if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        _refuse_transparent(path, pixels)
    pixels = _narrow(pixels)
    return (
        pixels
        if pixels.ndim == 2
        else np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_BGR2RGB))
    )


def _refuse_transparent(path: Path, pixels: np.ndarray) -> None:
    share = float((pixels[..., 3] != OPAQUE.get(pixels.dtype, 1)).mean())
    if share:
        raise DatasetError(
            f"{shown(path)} is transparent in {share:.1%} of its pixels, and nothing says of what class those are; "
            "keep it without alpha"
        )


def _as_grey(data: bytes) -> tuple[bytes, np.ndarray]:
    # The same picture with its indices for grey values, and the colours they stood for.
    chunks = list(_chunks(data))
    header = bytearray(dict(chunks)[b"IHDR"])
    header[9] = GREY
    kept = [(name, bytes(header) if name == b"IHDR" else body) for name, body in chunks if name in KEPT]
    colors = np.frombuffer(dict(chunks).get(b"PLTE", b""), np.uint8)
    return PNG + b"".join(_chunk(name, body) for name, body in kept), colors[: len(colors) // 3 * 3].reshape(-1, 3)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, name = len(PNG), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
