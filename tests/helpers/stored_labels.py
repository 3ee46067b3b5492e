"""Labels as tools store them: PNGs of few bits, with palettes, painted."""

import struct
import zlib
from pathlib import Path

import numpy as np


def png(pixels: np.ndarray, bits: int = 8, palette: list[tuple[int, int, int]] | None = None) -> bytes:
    """A PNG of values, or of indices where there is a palette; uint8 (H, W), the width a multiple of 8 / bits."""
    shifts = np.arange(8 - bits, -1, -bits)
    packed = (pixels.reshape(len(pixels), -1, len(shifts)) << shifts).sum(2).astype(np.uint8)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    chunks += [(b"PLTE", bytes(value for color in palette for value in color))] if palette else []
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def write(path: Path, data: bytes) -> Path:
    """The bytes in a file whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
