"""Small pictures that cost a decoder much: what `runtime.media.headers` counts before one is asked."""

import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tests.helpers.pictures import encoded, gradient, png_chunk, tiff_directory_first


def flat_png(side: int) -> bytes:
    """A grey PNG of one level: some KB for hundreds of megapixels."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def noted_png(name: bytes, count: int, size: int = 7_900_000) -> bytes:
    """A PNG of 40x64 with so many compressed texts, each of `size` bytes when it is expanded."""
    text = {b"zTXt": b"k%d\0\0", b"iTXt": b"k%d\0\1\0\0\0", b"iCCP": b"k%d\0\0"}[name]
    packed, plain = zlib.compress(bytes(size), 9), encoded(".png", gradient())
    return plain[:33] + b"".join(png_chunk(name, text % i + packed) for i in range(count)) + plain[33:]


def scanned_jpeg(count: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan of refinement stands there so many times more."""
    data = encoded(".jpg", np.zeros((side, side, 3), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    first = data.index(b"\xff\xda")
    marks = [found.start() for found in re.finditer(rb"\xff(?:\xda|\xc4|\xd9)", data) if found.start() >= first]
    parts = [data[a:b] for a, b in zip(marks, [*marks[1:], len(data)], strict=True)]
    last = next(part for part in reversed(parts) if part.startswith(b"\xff\xda"))
    return data[: marks[-1]] + last * count + b"\xff\xd9"


def tiff_with(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """An RGB TIFF of 40x64 with more fields (tag, type, count, value or offset) in its directory, behind its pixels."""
    data = tiff_directory_first(gradient(), order)
    (own,) = struct.unpack_from(f"{order}H", data, 8)
    fields = data[10 : 10 + 12 * own] + b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    directory = struct.pack(f"{order}H", own + len(entries)) + fields + bytes(4)
    return data[:4] + struct.pack(f"{order}I", len(data)) + data[8:] + directory


def video_of(path: Path, codec: str, picture: bytes, height: int, width: int) -> Path:
    """A video whose only frame is that picture, whatever size the video says."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, {"png": "gray", "mjpeg": "yuvj420p"}[codec]
        packet = av.Packet(picture)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        out.mux(packet)
    return path
