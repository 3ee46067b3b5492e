"""Whether the compressed data of JPEGs adds up: they have no checksum, and decoders make pictures of whatever is there.

Huffman codes are followed to the last block, no pixel is made. Damage leaves a code that there is none of, a brightness
that no picture has, data that ends early, or bytes that no block needs.
"""

import struct
from functools import cache, lru_cache
from typing import Any

import numpy as np

from runtime.errors import FrameError
from runtime.media.headers import jpeg_segments

# ITU T.81, tables B.1, B.2, F.1 and K.3 to K.6.
FRAME, FRAME_EXTENDED, OTHER_FRAMES = 0xC0, 0xC1, frozenset(range(0xC2, 0xD0)) - {0xC4, 0xC8, 0xCC}
HUFFMAN, SCAN, QUANTIZATION, RESTART_INTERVAL, END = 0xC4, 0xDA, 0xDB, 0xDD, 0xD9
BRIGHTEST = 1024 + 64  # 8 bits around 0, times 8; and what an encoder's arithmetic may be off
SHORT = 10  # bits that nearly every code has at most
SAMPLING = range(1, 5)
BROKEN = -1


class _Picture:
    """What a JPEG's segments said so far."""

    def __init__(self) -> None:
        self.codes: dict[int, bytes] = {}
        self.steps: dict[int, int] = {}
        self.components: dict[int, tuple[int, int, int]] = {}
        self.height = self.width = self.restart = 0


class Scans:
    """The JPEGs of one source, one after another."""

    def __init__(self) -> None:
        """None was looked at yet."""
        self._whole, self._loose = 1, 0

    def fit(self, data: bytes) -> bool:
        """Whether a packet's JPEGs add up, as far as they are followed: baseline, Huffman codes, numba installed.

        Some cameras write bytes behind the last block of every picture. They mean damage where most have none.
        """
        left = left_over(data)
        if left <= 0:
            self._whole += left == 0
            return left == 0
        self._loose += 1
        return self._loose > self._whole


def left_over(data: bytes) -> int:
    """Whole bytes that no block of a picture needs, of all pictures in a packet; `BROKEN`: its data is damaged."""
    walk, left, at = _compiled(), 0, 0
    while walk is not None and (at := data.find(b"\xff\xd8\xff", at)) >= 0:
        try:
            found, length = _of_picture(walk, data[at:])
        except (struct.error, IndexError, KeyError, FrameError):  # segments that say less than they must
            return BROKEN
        if found == BROKEN:
            return BROKEN
        left, at = left + found, at + length
    return left


def _of_picture(walk: Any, data: bytes) -> tuple[int, int]:
    picture, pixels, left, at, scans = _Picture(), np.frombuffer(data, np.uint8), 0, 2, 0
    try:
        for marker, at in jpeg_segments(data):
            body = data[at + 2 : at + struct.unpack_from(">H", data, at)[0]] if marker not in (END, 0xD8) else b""
            if marker in OTHER_FRAMES:
                return 0, len(data)
            if marker == SCAN and picture.height:
                found = _of_scan(walk, picture, pixels, at + 2 + len(body), body)
                scans += 1
                if found == BROKEN:
                    return BROKEN, len(data)
                left += found
            elif marker != SCAN:
                _note(picture, marker, body)
    except struct.error:
        if not scans:
            raise
        return left, len(data)  # without an end marker, as some cameras write them
    return left, at


def _note(picture: _Picture, marker: int, body: bytes) -> None:
    at = 0
    if marker == HUFFMAN:
        while at < len(body):
            count = sum(body[at + 1 : at + 17])
            _need(len(body) >= at + 17 + count)
            picture.codes[body[at]] = body[at + 1 : at + 17 + count]
            at += 17 + count
    elif marker == QUANTIZATION:
        while at < len(body):
            _need(len(body) > at + 2)
            wide = body[at] >> 4
            picture.steps[body[at] & 15] = struct.unpack_from(">H" if wide else "B", body, at + 1)[0]
            at += 1 + 64 * (2 if wide else 1)
    elif marker in (FRAME, FRAME_EXTENDED) and body[0] == 8:
        _, picture.height, picture.width, count = struct.unpack_from(">BHHB", body)
        for i in range(6, 6 + 3 * count, 3):
            _need(body[i + 1] >> 4 in SAMPLING and body[i + 1] & 15 in SAMPLING)
            picture.components[body[i]] = (body[i + 1] >> 4, body[i + 1] & 15, body[i + 2])
    elif marker == RESTART_INTERVAL:
        (picture.restart,) = struct.unpack_from(">H", body)


def _of_scan(walk: Any, picture: _Picture, pixels: np.ndarray, at: int, body: bytes) -> int:
    _need(bool(picture.components) and body[0] > 0)
    across, down = (max(sides) for sides in list(zip(*picture.components.values(), strict=True))[:2])
    named = [(body[i], body[i + 1]) for i in range(1, 1 + 2 * body[0], 2)]
    plan, codes = [], []
    for place, (name, tables) in enumerate(named):
        wide, high, step = picture.components[name]
        codes += [picture.codes.get(tables >> 4) or usual(tables >> 4)]
        codes += [picture.codes.get(0x10 | tables & 15) or usual(0x10 | tables & 15)]
        blocks = wide * high if len(named) > 1 else 1
        plan += [(place, (BRIGHTEST + picture.steps[step]) // max(1, picture.steps[step]))] * blocks
    if len(named) > 1:
        units = _parts(picture.width, 8 * across) * _parts(picture.height, 8 * down)
    else:  # a plane by itself has only the blocks that it needs
        units = _parts(_parts(picture.width * wide, across), 8) * _parts(_parts(picture.height * high, down), 8)
    return int(walk(pixels, at, *_tables(tuple(codes)), np.array(plan, np.int64), units, picture.restart))


def _need(said: bool) -> None:
    if not said:
        raise struct.error


def _parts(length: int, part: int) -> int:
    return -(-length // part)


@cache
def usual(name: int) -> bytes:
    """The codes that a film's JPEGs leave out, as AVI has them: those of T.81's annex K, which libjpeg writes."""
    import cv2

    picture, (_, data) = _Picture(), cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    for marker, at in jpeg_segments(written := data.tobytes()):
        if marker == HUFFMAN:
            _note(picture, marker, written[at + 2 : at + struct.unpack_from(">H", written, at)[0]])
    return picture.codes[name & 0x11]


@lru_cache(maxsize=8)
def _tables(codes: tuple[bytes, ...]) -> tuple[np.ndarray, np.ndarray]:
    """uint16 (tables, 65536): what begins with these 16 bits, the code's length << 8 | its symbol; 0: none.

    And uint16 (tables, 1 << SHORT), the same of fewer bits, which stays in the nearest cache; 0: the code is longer.
    """
    tables = np.zeros((len(codes), 1 << 16), np.uint16)
    for table, code in zip(tables, codes, strict=True):
        at, symbols = 0, iter(code[16:])
        for length, count in enumerate(code[:16], 1):
            for _ in range(count):
                table[at : at + (1 << 16 - length)] = length << 8 | next(symbols)
                at += 1 << 16 - length
    short = tables[:, :: 1 << 16 - SHORT]
    return tables, np.where(short >> 8 <= SHORT, short, 0).astype(np.uint16)


@cache
def _compiled() -> Any:
    """`walk` as machine code; None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    from runtime.kernels.kept import keep

    return keep(njit(nogil=True, error_model="numpy")(walk))


def walk(
    data: np.ndarray, at: int, tables: np.ndarray, short: np.ndarray, plan: np.ndarray, units: int, restart: int
) -> int:
    """Whole bytes left behind a scan's last block; `BROKEN` where a code, a mean or a restart marker cannot be.

    Args:
        data: uint8 (n,), a JPEG.
        at: where the scan's codes begin.
        tables: uint16 (2 * components, 65536), of each component that of means, then that of waves; see `_tables`.
        short: of fewer bits; see `_tables`.
        plan: int64 (blocks, 2): of each block of a unit its component, and the largest mean, in steps.
        units: of the scan.
        restart: units from one restart marker to the next; 0: there are none.

    Source: ITU T.81, annex F.2.2.
    """
    means = np.zeros(len(tables) // 2, np.int64)
    held, bits, made_up, expected = np.uint64(0), 0, 0, 0
    for unit in range(units):
        if restart and unit and unit % restart == 0:
            while at + 1 < len(data) and data[at] == 0xFF and data[at + 1] == 0xFF:
                at += 1
            if bits - made_up >= 8 or at + 1 >= len(data) or data[at] != 0xFF or data[at + 1] != 0xD0 + expected:
                return -1
            at, bits, made_up, expected = at + 2, 0, 0, (expected + 1) % 8
            means[:] = 0
        for block in range(len(plan)):
            component = plan[block, 0]
            k = 0
            while k < 64:
                while bits <= 40:
                    byte = np.uint64(0)
                    if at < len(data) and data[at] != 0xFF:
                        byte = np.uint64(data[at])
                        at += 1
                    elif at + 1 < len(data) and data[at + 1] == 0:
                        byte = np.uint64(0xFF)
                        at += 2
                    else:  # a marker, or the end: what is needed from here on is made up
                        made_up += 8
                    held = held << np.uint64(8) | byte
                    bits += 8
                table = 2 * component + (k > 0)
                code = short[table, held >> np.uint64(bits - SHORT) & np.uint64((1 << SHORT) - 1)]
                if code == 0:
                    code = tables[table, held >> np.uint64(bits - 16) & np.uint64(0xFFFF)]
                size = int(code & 15)
                bits -= int(code >> 8) + size
                if code == 0 or bits < made_up:
                    return -1
                if k == 0:
                    if size > 11:
                        return -1
                    value = int(held >> np.uint64(bits)) & ((1 << size) - 1)
                    means[component] += value if size and value >> (size - 1) else value + 1 - (1 << size)
                    if abs(means[component]) > plan[block, 1]:
                        return -1
                    k = 1
                elif size:
                    k += int(code >> 4 & 15) + 1
                    if k > 64:
                        return -1
                elif int(code >> 4 & 15) == 15:
                    k += 16
                else:
                    break
    left = (bits - made_up) // 8
    while at < len(data) and (data[at] != 0xFF or (at + 1 < len(data) and data[at + 1] == 0)):
        at, left = at + 1, left + 1
    return left
