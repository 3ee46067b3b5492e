"""Pixels as a PNG: its few bytes of framing by hand, because the encoders at hand take several times as long."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BITS, GREY, RGB = 8, 0, 2  # of a sample; colour types
UP = 2  # filter type: each byte as its difference from the one above
LEVEL = 1  # of ISA-L's 0 to 3


def png_from_pixels(pixels: np.ndarray, *, repeatable: bool = False) -> bytes:
    """The pixels as a PNG, rows as their difference from the row above, deflated by ISA-L.

    Every decoder gives the same pixels. ISA-L's bytes differ from one kind of CPU to another and, once in a thousand
    pictures, from one time to the next: a match is found at another place of the same bytes.

    Args:
        pixels: uint8 (H, W), or (H, W, 3) RGB.
        repeatable: the same pixels are the same bytes on every machine, with the same zlib: only repeated bytes are
            looked for. It takes ten times as long for a mask, four times for an overlay.

    Source: W3C PNG, 5, 9 and 11.2. docs/benchmarks.md#file-to-file says what it takes.
    """
    from isal import isal_zlib

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, BITS, RGB if pixels.ndim == 3 else GREY, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _deflated(_filtered(pixels), repeatable=repeatable)), (b"IEND", b""))
    parts = [SIGNATURE]
    for name, data in chunks:
        parts += [
            struct.pack(">I", len(data)),
            name,
            data,
            struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name))),
        ]
    return b"".join(parts)


def _deflated(filtered: np.ndarray, *, repeatable: bool) -> bytes:
    if repeatable:
        run_lengths = zlib.compressobj(LEVEL, strategy=zlib.Z_RLE)
        return run_lengths.compress(filtered.data) + run_lengths.flush()
    from isal import isal_zlib

    deflated: bytes = isal_zlib.compress(filtered, LEVEL)
    return deflated


def _filtered(pixels: np.ndarray) -> np.ndarray:
    # uint8 (H, 1 + bytes of a row); differences are modulo 256, as uint8's are
    rows = pixels.reshape(len(pixels), -1)
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0], filtered[0, 1:] = UP, rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered
