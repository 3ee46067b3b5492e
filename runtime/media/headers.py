"""What an image file says of itself, read before any pixel is decoded: its kind, its size, and whether it is whole.

A decoder finds out too late, when it has allocated a hundred megapixels, or says only that it failed; cv2.imread even
hands back a JPEG that was cut, its missing half grey. And it takes hours for a small file that was made to cost much:
what decides that cost is counted here, by the size that the decoder will use.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from runtime.errors import FrameError
from runtime.media import other_formats, tiff

# ITU T.81, B.1.1: a marker is FF and a byte that is neither 00 (a data byte FF), nor FF (fill), nor a restart D0..D7.
# Starting with a fixed byte, the search runs at 1.6 GB/s; as "\xff+" it would take longer than decoding.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
# ITU T.81, table B.1: the frame headers; C4, C8 and CC between them are tables and a reserved code.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_BARE, JPEG_END, JPEG_SCAN, JPEG_COMPONENTS = frozenset({0x01, 0xD8}), 0xD9, 0xDA, (1, 3, 4)
# ISO 15444-1, annexes A and I: a codestream, or a file of boxes. ISO 23008-12, 10: the brand behind "ftyp".
JPEG_2000 = re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n")
AVIF = re.compile(rb"....ftyp(?:avi[fs]|mi[af1]f?1?.{4}(?:....){0,8}?avif)", re.DOTALL)
HEIC = re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL)
BMP_HEADERS = frozenset({12, 40, 52, 56, 108, 124})
BMP_RUN_LENGTH = frozenset({1, 2})
MOST_PARTS = 100_000  # chunks of a PNG, segments of a JPEG; each costs a microsecond
# A scan of a progressive JPEG goes through all pixels once: 10 are usual, and 20 of the largest picture are a second.
MOST_SCANNED = 20 * 64_000_000
# W3C PNG, 11.3: of what a decoder may skip, what our pixels depend on: transparency, orientation, the first moment.
# Texts and profiles are compressed: libpng would expand a thousand of them, which costs minutes, for nobody.
MOST_NOTES_BYTES = 1 << 16  # that FFmpeg expands, to 64 MB at most
PNG_KEPT = frozenset({b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"})


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
    refuse_costly: Callable[[bytes], None] = lambda data: None


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


def refuse_costly(data: bytes) -> None:
    """Refuse what would take a decoder far longer, or far more memory, than the picture's size says.

    Raises:
        FrameError: fields that stand twice or share their bytes, or more scans or parts than any camera writes.
    """
    kind = _kind(data)
    try:
        kind.refuse_costly(data)
    except struct.error:
        raise FrameError(f"truncated: this {kind.name} ends inside its header, after {len(data)} bytes") from None


def refuse_costly_packet(data: bytes, header: Header) -> None:
    """The same of a packet of a video whose frames are pictures: whatever is in it counts, of which there may be two.

    Raises:
        FrameError: it has more scans, or more bytes of texts and profiles, than a camera writes.
    """
    if header.kind == "JPEG":
        _refuse_scans(data.count(bytes((0xFF, JPEG_SCAN))), header.height, header.width)
    try:
        needed = len(without_notes(data))
    except FrameError:  # cut off, which the decoder says; what is there is bounded all the same
        needed = 0
    if len(data) - needed > MOST_NOTES_BYTES:
        raise FrameError(f"has texts and profiles of more than {MOST_NOTES_BYTES} bytes, which nothing needs")


def without_notes(data: bytes) -> bytes:
    """The same picture for a decoder: a PNG without its texts, profiles and private chunks, any other as it is.

    Raises:
        FrameError: it is none of the formats of `KINDS`, or ends inside a chunk.
    """
    if _kind(data).name != "PNG":
        return data
    try:
        kept = [part for name, part in _png_chunks(data) if name[:1].isupper() or name in PNG_KEPT]
    except struct.error:
        raise FrameError(f"truncated: {len(data)} bytes are there, this PNG goes on") from None
    return data[:8] + b"".join(kept)


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
    name, width, height = struct.unpack_from(">4sII", data, 12)
    if name != b"IHDR":
        raise FrameError("damaged: this PNG does not begin with its header")
    return height, width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    # Name and whole chunk of each, up to the end.
    view, at, name = memoryview(data), 8, b""
    for _ in range(MOST_PARTS):
        if name == b"IEND":
            return
        length, name = struct.unpack_from(">I4s", data, at)
        _refuse_short(data, at + 12 + length)
        yield name, view[at : at + 12 + length]
        at += 12 + length
    raise FrameError(f"damaged: this PNG has more than {MOST_PARTS} chunks")


def _png_refuse_cut(data: bytes) -> None:
    for name, chunk in _png_chunks(data):
        # A small first letter marks what a decoder may skip (5.4): a damaged comment does not spoil the picture.
        if name[:1].isupper() and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise FrameError(f"damaged: the checksum of its {_printable(name)} chunk is wrong")


def _printable(name: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in name.decode("ascii", "replace"))


# JPEG: ITU T.81, annex B. Segments are stepped over by their length, so a thumbnail's own end marker is not met.
def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG up to its end, and where what belongs to each begins.

    Raises:
        struct.error: it ends inside.
        FrameError: there are more than `MOST_PARTS`.
    """
    at, marker = 2, 0
    for _ in range(MOST_PARTS):
        if marker == JPEG_END:
            return
        found = JPEG_MARKER.search(data, at)
        if found is None:
            raise struct.error
        at, marker = found.end(), found[1][0]
        yield marker, at
        if marker not in JPEG_BARE and marker != JPEG_END:
            at += max(2, struct.unpack_from(">H", data, at)[0])
    raise FrameError(f"damaged: this JPEG has more than {MOST_PARTS} segments")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    for marker, at in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return height, width
    raise FrameError("damaged: this JPEG holds no picture")


def _jpeg_refuse_cut(data: bytes) -> None:
    for _marker, _at in jpeg_segments(data):
        pass


def _jpeg_refuse_costly(data: bytes) -> None:
    markers = [(marker, at) for marker, at in jpeg_segments(data)]
    frames = [at for marker, at in markers if marker in JPEG_FRAMES]
    if len(frames) != 1 or struct.unpack_from(">B", data, frames[0] + 7)[0] not in JPEG_COMPONENTS:
        raise FrameError("damaged: this JPEG holds other than one picture of 1, 3 or 4 components")
    height, width = struct.unpack_from(">HH", data, frames[0] + 3)
    _refuse_scans(sum(marker == JPEG_SCAN for marker, _ in markers), height, width)


def _refuse_scans(scans: int, height: int, width: int) -> None:
    if scans * height * width > MOST_SCANNED:
        raise FrameError(
            f"has {scans} scans of {height}x{width} pixels, which would take too long to decode: expected at most "
            f"{max(1, MOST_SCANNED // (height * width))}; save it again"
        )


# WebP: RFC 9649, 2.3 to 2.7.
def _webp_size(data: bytes) -> tuple[int, int]:
    (chunk,) = struct.unpack_from("4s", data, 12)
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_height << 16 | low_height) + 1, (high_width << 16 | low_width) + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if chunk != b"VP8 ":
        raise FrameError("damaged: this WebP does not begin with its picture")
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


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    if not (height and width):
        raise FrameError("not an image: it starts as a GIF does, but has no size")
    return height, width


def _left_to_decoder(data: bytes) -> None:
    pass


KINDS = (
    Kind("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png_size, _png_refuse_cut),
    Kind("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg_size, _jpeg_refuse_cut, _jpeg_refuse_costly),
    Kind("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), _webp_size, _webp_refuse_cut),
    Kind("BMP", re.compile(rb"BM"), _bmp_size, _bmp_refuse_cut),
    Kind("TIFF", tiff.MAGIC, tiff.size, tiff.refuse_cut, tiff.refuse_costly),
    # Their decoders tell what is cut: they do not make up what is missing.
    Kind("GIF", re.compile(rb"GIF8[79]a"), _gif_size, _left_to_decoder),
    Kind("PNM", re.compile(rb"P[1-6][\s#]"), partial(other_formats.size, kind="PNM"), _left_to_decoder),
    Kind("JPEG 2000", JPEG_2000, partial(other_formats.size, kind="JPEG 2000"), _left_to_decoder),
    Kind("AVIF", AVIF, partial(other_formats.size, kind="AVIF"), _left_to_decoder),
    Kind("HEIC", HEIC, partial(other_formats.size, kind="HEIC"), _left_to_decoder),
)
