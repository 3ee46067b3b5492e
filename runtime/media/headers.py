"""What an image file says of itself, read before any pixel is decoded: its kind, its size, and whether it is whole.

A decoder finds out too late, when it has allocated a hundred megapixels, or says only that it failed; cv2.imread even
hands back a JPEG that was cut, its missing half grey.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from runtime.errors import FrameError

# ITU T.81, B.1.1: a marker is FF and a byte that is neither 00 (a data byte FF), nor FF (fill), nor a restart D0..D7.
# Starting with a fixed byte, the search runs at 1.6 GB/s; as "\xff+" it would take longer than decoding.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
# ITU T.81, table B.1: the frame headers; C4, C8 and CC between them are tables and a reserved code.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE, JPEG_END = frozenset({0x01, 0xD8}), 0xD9
BMP_HEADERS = frozenset({12, 40, 52, 56, 108, 124})
BMP_RUN_LENGTH = frozenset({1, 2})
# TIFF 6.0, section 8: types of an integer field and their struct codes.
TIFF_INTEGERS = {1: "B", 3: "H", 4: "I"}
TIFF_WIDTH, TIFF_HEIGHT, TIFF_PARTS = 256, 257, ((273, 279), (324, 325))


class Header(NamedTuple):
    """Kind and stored size of a picture; a decoder that honours its orientation may swap the sides."""

    kind: str
    height: int
    width: int


class Kind(NamedTuple):
    """One format: the bytes it starts with ('.' is any byte), and how its size and its end are found."""

    name: str
    magic: re.Pattern[bytes]
    size: Callable[[bytes], tuple[int, int]]
    refuse_cut: Callable[[bytes], None]


def read_header(data: bytes) -> Header:
    """Kind and size of an encoded picture, from its first bytes.

    Raises:
        FrameError: it is none of the formats of `KINDS`, or it ends inside its header.
    """
    kind = _kind(data)
    try:
        return Header(kind.name, *kind.size(data))
    except struct.error:
        raise FrameError(f"truncated: this {kind.name} ends inside its header, after {len(data)} bytes") from None


def refuse_truncated(data: bytes) -> None:
    """Follow the structure of an encoded picture to its end.

    PNG is also held to its checksums. The other formats have none: bytes changed inside their compressed data
    show in the picture, not here.

    Raises:
        FrameError: the file ends before the picture does, or a checksum is wrong.
    """
    kind = _kind(data)
    try:
        kind.refuse_cut(data)
    except struct.error:
        raise FrameError(f"truncated: {len(data)} bytes are there, this {kind.name} goes on") from None


def _kind(data: bytes) -> Kind:
    for kind in KINDS:
        if kind.magic.match(data):
            return kind
    raise FrameError(f"not an image: it is none of {', '.join(kind.name for kind in KINDS)}")


def _refuse_short(data: bytes, end: int) -> None:
    if end > len(data):
        raise struct.error


# PNG: W3C Portable Network Graphics, 5.3: length, type, data, CRC; the first chunk is IHDR, the last IEND.
def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _png_refuse_cut(data: bytes) -> None:
    view, at, name = memoryview(data), 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        # A small first letter marks what a decoder may skip (5.4): a damaged comment does not spoil the picture.
        if name[:1].isupper() and zlib.crc32(view[at + 4 : at + 8 + length]) != checksum:
            raise FrameError(f"damaged: the checksum of its {name.decode('ascii', 'replace')} chunk is wrong")
        at += 12 + length


# JPEG: ITU T.81, annex B. Segments are stepped over by their length, so a thumbnail's own end marker is not met.
def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    at, marker = 2, 0
    while marker != JPEG_END:
        found = JPEG_MARKER.search(data, at)
        if found is None:
            raise struct.error
        at, marker = found.end(), found[1][0]
        yield marker, at
        if marker not in JPEG_BARE and marker != JPEG_END:
            at += max(2, struct.unpack_from(">H", data, at)[0])


def _jpeg_size(data: bytes) -> tuple[int, int]:
    for marker, at in _jpeg_segments(data):
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return height, width
    raise FrameError("damaged: this JPEG holds no picture")


def _jpeg_refuse_cut(data: bytes) -> None:
    for _marker, _at in _jpeg_segments(data):
        pass


# WebP: RFC 9649, 2.3 to 2.7.
def _webp_size(data: bytes) -> tuple[int, int]:
    (chunk,) = struct.unpack_from("4s", data, 12)
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_height << 16 | low_height) + 1, (high_width << 16 | low_width) + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _webp_refuse_cut(data: bytes) -> None:
    _refuse_short(data, 8 + struct.unpack_from("<I", data, 4)[0])


# BMP: Microsoft, BITMAPINFOHEADER; a negative height stores the rows from the top.
def _bmp_size(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    if header not in BMP_HEADERS:
        raise FrameError("not an image: it starts as a BMP does, but has no BMP header")
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), abs(width)


def _bmp_refuse_cut(data: bytes) -> None:
    height, width = _bmp_size(data)
    first, header = struct.unpack_from("<II", data, 10)
    (bits,) = struct.unpack_from("<H", data, 24 if header == 12 else 28)
    compression, size = (0, 0) if header == 12 else struct.unpack_from("<II", data, 30)
    rows = size if compression in BMP_RUN_LENGTH else (width * bits + 31) // 32 * 4 * height
    _refuse_short(data, first + rows)


# TIFF 6.0, section 2: a directory of 12-byte fields; the pixels lie in strips or tiles anywhere in the file.
def _tiff_fields(data: bytes) -> dict[int, tuple[int, ...]]:
    order = "<" if data[:1] == b"I" else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    fields = {}
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, at)
        if kind in TIFF_INTEGERS:
            layout = f"{order}{values}{TIFF_INTEGERS[kind]}"
            inline = struct.calcsize(layout) <= 4
            fields[tag] = struct.unpack_from(layout, data, at + 8 if inline else _tiff_offset(order, data, at))
    return fields


def _tiff_offset(order: str, data: bytes, at: int) -> int:
    (offset,) = struct.unpack_from(f"{order}I", data, at + 8)
    return int(offset)


def _tiff_size(data: bytes) -> tuple[int, int]:
    fields = _tiff_fields(data)
    if not (fields.get(TIFF_HEIGHT) and fields.get(TIFF_WIDTH)):
        raise FrameError("damaged: this TIFF does not say its size")
    return fields[TIFF_HEIGHT][0], fields[TIFF_WIDTH][0]


def _tiff_refuse_cut(data: bytes) -> None:
    fields = _tiff_fields(data)
    for offsets, counts in TIFF_PARTS:
        for offset, count in zip(fields.get(offsets, ()), fields.get(counts, ()), strict=False):
            _refuse_short(data, offset + count)


KINDS = (
    Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size, _png_refuse_cut),
    Kind("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg_size, _jpeg_refuse_cut),
    Kind("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), _webp_size, _webp_refuse_cut),
    Kind("BMP", re.compile(rb"BM"), _bmp_size, _bmp_refuse_cut),
    Kind("TIFF", re.compile(rb"II\*\x00|MM\x00\*"), _tiff_size, _tiff_refuse_cut),
)
