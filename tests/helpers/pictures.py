"""Encoded pictures that OpenCV does not write: EXIF, palettes, odd depths, a TIFF with its directory in front."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media.frames import read_frame


def gradient(height: int = 40, width: int = 64) -> np.ndarray:
    """uint8 (height, width, 3) RGB in which every channel, row and column differs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), (x + 2 * y) % 256], -1).astype(np.uint8)


def encoded(extension: str, rgb: np.ndarray, *settings: int) -> bytes:
    """The picture in any format that OpenCV writes; (H, W), (H, W, 3) RGB or (H, W, 4) RGBA."""
    swapped = {2: lambda a: a, 3: lambda a: a[..., ::-1], 4: lambda a: a[..., [2, 1, 0, 3]]}
    channels = 2 if rgb.ndim == 2 else rgb.shape[2]
    image = np.ascontiguousarray(swapped[channels](rgb))
    return cv2.imencode(extension, image, list(settings))[1].tobytes()


def lossless(extension: str, rgb: np.ndarray) -> bytes:
    """The picture such that its bytes come back (not for JPEG)."""
    return encoded(extension, rgb, *([cv2.IMWRITE_WEBP_QUALITY, 101] if extension == ".webp" else []))


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows: list[bytes], width: int, depth: int, color: int, *chunks: bytes) -> bytes:
    """A PNG of these rows; color is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 1))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + png_chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    """An EXIF block that holds only tag 0x0112."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an APP1 segment right behind its start marker."""
    block = b"Exif\0\0" + exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def with_thumbnail(jpeg: bytes, thumbnail: bytes) -> bytes:
    """The JPEG with another whole JPEG, end marker and all, inside an application segment."""
    return jpeg[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]


def tiff_directory_first(rgb: np.ndarray, order: str = "<") -> bytes:
    """An uncompressed RGB TIFF of two strips whose directory stands before its pixels."""
    height, width, _ = rgb.shape
    upper = height // 2
    tags = 9
    values = 8 + 2 + 12 * tags + 4
    pixels = values + 6 + 8 + 8
    sizes = (upper * width * 3, (height - upper) * width * 3)
    fields = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, values), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 2, values + 6), (277, 3, 1, 3), (278, 3, 1, upper), (279, 4, 2, values + 14),
    ]  # fmt: skip
    data = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, tags)
    for tag, kind, count, value in fields:
        data += struct.pack(f"{order}HHI", tag, kind, count)
        data += struct.pack(f"{order}HH", value, 0) if (kind, count) == (3, 1) else struct.pack(f"{order}I", value)
    data += struct.pack(f"{order}I3H4I", 0, 8, 8, 8, pixels, pixels + sizes[0], *sizes)
    return data + rgb.tobytes()


def read(tmp_path: Path, data: bytes, name: str = "x.png") -> np.ndarray:
    """The frame of these bytes as a file."""
    (tmp_path / name).write_bytes(data)
    return read_frame(tmp_path / name)


def refusal(tmp_path: Path, data: bytes, name: str = "x.png") -> str:
    """What `read_frame` says when it refuses these bytes."""
    with pytest.raises(FrameError) as caught:
        read(tmp_path, data, name)
    message = str(caught.value)
    assert "\n" not in message and name in message
    return message
