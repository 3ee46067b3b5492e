"""TIFFs by their tags, and ICC profiles by their primaries, written here: no library's idea of either is in between."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

Tag = tuple[int, str, Sequence[int]]


def tiff(
    samples: np.ndarray,
    photometric: int,
    *extra: Tag,
    bits: int | None = None,
    separate: bool = False,
    order: str = "<",
    big: bool = False,
    deflate: bool = False,
) -> bytes:
    """A TIFF of one strip, or of one a plane.

    Args:
        samples: (H, W) or (H, W, samples).
        photometric: its tag 262.
        extra: more fields: tag, struct code, values.
        bits: what tag 258 says, by default what a sample has.
        separate: planes one behind the other (tag 284 is 2).
        order: "<" or ">".
        big: BigTIFF.
        deflate: compress each strip (tag 259 is 8).
    """
    height, width = samples.shape[:2]
    stored = samples.astype(samples.dtype.newbyteorder(order)).reshape(height, width, -1)
    bands = stored.shape[2]
    parts = [np.ascontiguousarray(stored[..., i]).tobytes() for i in range(bands)] if separate else [stored.tobytes()]
    parts = [zlib.compress(part) for part in parts] if deflate else parts
    fields: list[Tag] = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [bits or samples.itemsize * 8] * bands),
        (259, "H", [8 if deflate else 1]), (262, "H", [photometric]), (273, "I", [0] * len(parts)),
        (277, "H", [bands]), (278, "I", [height]), (279, "I", [len(part) for part in parts]),
        (284, "H", [2 if separate else 1]), *extra,
    ]  # fmt: skip
    return _file(fields, parts, order, big)


def _file(fields: list[Tag], parts: list[bytes], order: str, big: bool) -> bytes:
    pointer, inline, count = ("Q", 8, "Q") if big else ("I", 4, "H")
    start = 16 if big else 8
    far = start + struct.calcsize(f"={count}") + (inline * 2 + 4) * len(fields) + inline
    far_bytes = sum(size for _, code, v in fields if (size := struct.calcsize(f"={len(v)}{code}")) > inline)
    head, tail = struct.pack(f"{order}{count}", len(fields)), b""
    for tag, code, values in sorted(fields):
        at = far + far_bytes
        given = [at + sum(map(len, parts[:i])) for i in range(len(parts))] if tag == 273 else values
        raw = struct.pack(f"{order}{len(given)}{code}", *given)
        kind = {"B": 1, "H": 3, "I": 4}[code]
        inside = raw.ljust(inline, b"\0") if len(raw) <= inline else struct.pack(f"{order}{pointer}", far + len(tail))
        head += struct.pack(f"{order}HH{pointer}", tag, kind, len(given)) + inside
        tail += raw if len(raw) > inline else b""
    first = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    return (b"II" if order == "<" else b"MM") + first + head + bytes(inline) + tail + b"".join(parts)


SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_SWAPPED = (SRGB[1], SRGB[0], SRGB[2])
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
D50, D65 = (0.9642, 1.0, 0.8249), (0.3127 / 0.3290, 1.0, 0.3583 / 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def icc(primaries: Sequence[tuple[float, float]], gamma: float) -> bytes:
    """An RGB profile of these primaries, white D65 (ICC.1:2022, 8.3: three-component matrix-based)."""
    unscaled = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    adapted = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ D65)) @ BRADFORD
    matrix = adapted @ (unscaled * np.linalg.solve(unscaled, D65))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {f"{name}XYZ".encode(): _xyz(matrix[:, i]) for i, name in enumerate("rgb")}
    tags |= {b"wtpt": _xyz(D50), **{f"{name}TRC".encode(): curve for name in "rgb"}}
    body, table, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(
        ">I4sI4s4s4s6H", at + len(body), b"test", 0x02400000, b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0
    )
    head += b"acsp" + bytes(28) + b"".join(map(_fixed, D50)) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
