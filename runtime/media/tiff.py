"""What a TIFF says of its pixels, and the same pixels under a directory that a decoder reads rightly.

libtiff, through whichever library, is given a file for what its tags say; the libraries on top of it go wrong where a
tag is rare: planes of 16 bits come out scrambled, straight alpha multiplies the colours, a negative stays one. Each
of these is undone by another directory over the same bytes: planes become grey pictures, the tag says what is meant.

Source: TIFF 6.0; BigTIFF (libtiff.gitlab.io/libtiff/specification/bigtiff.html); TIFF Technical Note 3.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Set
from typing import NamedTuple

from runtime.errors import FrameError

MAGIC = re.compile(rb"II\*\x00|MM\x00\*|II\+\x00\x08\x00|MM\x00\+\x00\x08")
# Section 8: types of an integer field and their struct codes; 16 is BigTIFF's.
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
# The same, and Technical Note 3: bytes of a value by its type.
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES = 256, 257, 258, 259, 262, 277
PLANES, TILE_WIDTH, TILE_HEIGHT, ALPHA, SAMPLE_FORMAT, PROFILE = 284, 322, 323, 338, 339, 34675
STRIPS, TILES = (273, 279), (324, 325)
# What a decoder needs: the size, how samples are stored and packed, tables, and how to turn the picture.
KEPT = frozenset({256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325,
                  332, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532})  # fmt: skip
SHORT, NEGATIVE, GREY, RGB, SEPARATED, SEPARATE, UNSIGNED = 3, 0, 1, 2, 5, 2, 1
STRAIGHT, MULTIPLIED = 2, 1  # alpha: not multiplied into the colours, or so
PHOTOMETRICS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # that are read -> samples of the colours
WEBP = 50001
DEPTHS = frozenset({1, 2, 4, 8, 10, 12, 14, 16})
MOST_TOLD = 5  # kinds of samples, in a message
MOST_STRIPS = 1 << 20  # tiles of 16x16 pixels in the largest picture are a quarter of that
SMALL_TILE, PIXEL_BITS = 1 << 20, 256  # the smallest picture has whole tiles; 4 doubles are refused in other words


class Field(NamedTuple):
    """An entry of a TIFF's directory; its values are read by those who want them."""

    kind: int
    values: int
    at: int  # of the first

    @property
    def size(self) -> int:
        """Bytes of all its values."""
        return BYTES.get(self.kind, 0) * self.values


class Layout(NamedTuple):
    """How a picture's pixels are stored, as far as reading them depends on it."""

    photometric: int
    bits: int  # of each sample in the file
    samples: int
    compression: int
    separate: bool  # each sample of all pixels together, and not each pixel's
    tiled: bool
    alpha: int  # STRAIGHT, MULTIPLIED or 0

    @property
    def colors(self) -> int:
        """How many of the samples are colours."""
        return PHOTOMETRICS[self.photometric]


def size(data: bytes) -> tuple[int, int]:
    """(height, width) as stored.

    Raises:
        FrameError: it does not say.
        struct.error: it ends before that.
    """
    height, width = (_values(data, tag) for tag in (HEIGHT, WIDTH))
    if not (height and width):
        raise FrameError("damaged: this TIFF does not say its size")
    return height[0], width[0]


def refuse_cut(data: bytes) -> None:
    """Hold all fields and all strips to the end of the file.

    Raises:
        struct.error: one lies behind it.
    """
    for _, field in _directory(data):
        _refuse_short(data, field.at + field.size if field.kind in INTEGERS else 0)
    for offsets, counts in (STRIPS, TILES):
        for offset, count in zip(_values(data, offsets), _values(data, counts), strict=False):
            _refuse_short(data, offset + count)


def refuse_costly(data: bytes) -> None:
    """Refuse what would take a decoder far more than the picture's size says.

    Raises:
        FrameError: fields that stand twice or share their bytes, a giant tile, samples of hundreds of bits.
    """
    # A decoder takes the first of two fields of one tag, other programs the last; and it keeps every array it meets.
    fields = list(_directory(data))
    if len({tag for tag, _ in fields}) != len(fields):
        raise FrameError("damaged: a field of this TIFF stands twice")
    if sum(field.size for _, field in fields if field.size > 4) > len(data):
        raise FrameError("damaged: the fields of this TIFF take more bytes than it has")
    if any(sum(_values(data, counts)) > len(data) for _, counts in (STRIPS, TILES)):
        raise FrameError("damaged: the strips of this TIFF take more bytes than it has")
    height, width = size(data)
    tile = [*_values(data, TILE_HEIGHT)[:1], *_values(data, TILE_WIDTH)[:1]]
    if len(tile) == 2 and tile[0] * tile[1] > max(height * width, SMALL_TILE):
        raise FrameError(f"damaged: a tile of this TIFF has {tile[0]}x{tile[1]} pixels, all of it {height}x{width}")
    samples, bits = _first(data, SAMPLES, 1), _first(data, BITS, 1)
    if samples * bits > PIXEL_BITS:
        raise FrameError(f"has {samples} samples of {bits} bits a pixel, expected at most 4 of 16")


def layout(data: bytes) -> Layout:
    """How the pixels are stored.

    Raises:
        FrameError: in a way that is not read.
    """
    samples, bits = _first(data, SAMPLES, 1), _values(data, BITS) or (1,)
    formats = _values(data, SAMPLE_FORMAT) or (UNSIGNED,)
    if set(formats) != {UNSIGNED} or len(set(bits)) > 1 or bits[0] not in DEPTHS:
        raise FrameError(f"has {_told(formats, bits)} samples, expected unsigned ones of 8 or 16 bits")
    photometric = _first(data, PHOTOMETRIC, GREY)
    if photometric not in PHOTOMETRICS or samples < PHOTOMETRICS[photometric]:
        raise FrameError(
            f"its colours are stored in a way that is not read (PhotometricInterpretation {photometric}, {samples} "
            f"samples a pixel), expected grey, RGB, a palette, CMYK or YCbCr; save it as RGB"
        )
    if _first(data, COMPRESSION, 1) == WEBP:  # libtiff as it is in OpenCV and in Pillow lacks it, and says so on stderr
        raise FrameError("its pixels are compressed as WebP, which is not read in a TIFF; save it with LZW or deflate")
    beyond = _values(data, ALPHA)[:1] or (0,)
    return Layout(
        photometric=photometric,
        bits=bits[0],
        samples=samples,
        compression=_first(data, COMPRESSION, 1),
        separate=samples > 1 and _first(data, PLANES, 1) == SEPARATE,
        tiled=bool(_values(data, TILES[0])),
        alpha=beyond[0] if samples > PHOTOMETRICS[photometric] else 0,
    )


def planes(data: bytes, count: int) -> list[bytes]:
    """The first samples of a picture of separate planes, each as a grey TIFF of its own.

    Raises:
        FrameError: it does not say where they are.
    """
    fields, samples = dict(_directory(data)), _first(data, SAMPLES, 1)
    one = {SAMPLES: 1, PHOTOMETRIC: GREY, PLANES: 1, BITS: _first(data, BITS, 1), SAMPLE_FORMAT: UNSIGNED}
    parts = [tag for tag in (*STRIPS, *TILES) if tag in fields]
    if not all(fields[tag].kind in INTEGERS for tag in parts):
        raise FrameError("damaged: this TIFF does not say where its planes are")
    each = {tag: fields[tag].values // samples for tag in parts}
    return [
        _rewritten(data, one, {tag: _part(fields[tag], each[tag], number) for tag in parts}, without={ALPHA})
        for number in range(count)
    ]


def said_anew(data: bytes, *, photometric: int) -> bytes:
    """The picture as of another photometric interpretation, of alpha that nothing is done with."""
    extra: dict[int, tuple[int, ...]] = (
        {} if (beyond := dict(_directory(data)).get(ALPHA)) is None else {ALPHA: (0,) * beyond.values}
    )
    return _rewritten(data, {PHOTOMETRIC: (photometric,), **extra}, {}, without=frozenset())


def profile(data: bytes) -> bytes | None:
    """Its ICC profile."""
    field = dict(_directory(data)).get(PROFILE)
    return data[field.at : field.at + field.size] if field is not None and field.size else None


def _told(formats: tuple[int, ...], bits: tuple[int, ...]) -> str:
    names = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex float"}
    told = [f"{names.get(formats[0], 'undefined ')}{each}" for each in sorted(set(bits))]
    return "/".join(told[:MOST_TOLD]) + "/..." * (len(told) > MOST_TOLD)


def _part(field: Field, values: int, number: int) -> Field:
    return Field(field.kind, values, field.at + number * values * BYTES[field.kind])


def _rewritten(
    data: bytes, values: Mapping[int, int | tuple[int, ...]], moved: Mapping[int, Field], *, without: Set[int]
) -> bytes:
    # The directory goes to the end, in the form the file has; what points to strips stays where it is.
    big, order = _is_big(data), _order(data)
    inline, entry = (8, "HHQ") if big else (4, "HHI")
    kept = {tag: field for tag, field in _directory(data) if tag in KEPT and tag not in without} | dict(moved)
    stored = {tag: (field.kind, field.values, data[field.at : field.at + field.size]) for tag, field in kept.items()}
    for tag, new in values.items():
        many = new if isinstance(new, tuple) else (new,)
        stored[tag] = (SHORT, len(many), struct.pack(f"{order}{len(many)}H", *many))
    start = len(data) + -len(data) % 8
    far = start + (8 if big else 2) + (inline * 2 + 4) * len(stored) + inline
    head, tail = struct.pack(f"{order}{'Q' if big else 'H'}", len(stored)), b""
    for tag, (kind, count, raw) in sorted(stored.items()):
        where = raw.ljust(inline, b"\0") if len(raw) <= inline else struct.pack(f"{order}{entry[-1]}", far + len(tail))
        head += struct.pack(f"{order}{entry}", tag, kind, count) + where
        tail += (raw + bytes(-len(raw) % 8)) if len(raw) > inline else b""
    first = struct.pack(f"{order}{entry[-1]}", start)
    at = 8 if big else 4
    return b"".join((data[:at], first, data[at + inline :], bytes(start - len(data)), head, bytes(inline), tail))


def _directory(data: bytes) -> Iterator[tuple[int, Field]]:
    big, order = _is_big(data), _order(data)
    where, number, entry, inline = ("Q", "Q", "HHQQ", 8) if big else ("I", "H", "HHII", 4)
    (directory,) = struct.unpack_from(f"{order}{where}", data, 8 if big else 4)
    first, step = directory + struct.calcsize(f"={number}"), struct.calcsize(f"={entry}")
    _refuse_short(data, first)
    (count,) = struct.unpack_from(f"{order}{number}", data, directory)
    _refuse_short(data, first + step * count)
    for at in range(first, first + step * count, step):
        tag, kind, values, offset = struct.unpack_from(f"{order}{entry}", data, at)
        yield tag, Field(kind, values, at + step - inline if BYTES.get(kind, 0) * values <= inline else offset)


def _is_big(data: bytes) -> bool:
    return b"+" in data[2:4]


def _order(data: bytes) -> str:
    return "<" if data[:1] == b"I" else ">"


def _first(data: bytes, tag: int, default: int) -> int:
    return (_values(data, tag)[:1] or (default,))[0]


def _values(data: bytes, tag: int) -> tuple[int, ...]:
    # Of the first field of that tag: of its others `refuse_costly` tells.
    field = next((field for found, field in _directory(data) if found == tag), None)
    if field is None or field.kind not in INTEGERS:
        return ()
    _refuse_short(data, field.at + field.size)
    if field.values > MOST_STRIPS:  # before so many values are made
        raise FrameError(f"damaged: this TIFF has more than {MOST_STRIPS} strips or tiles")
    return struct.unpack_from(f"{_order(data)}{field.values}{INTEGERS[field.kind]}", data, field.at)


def _refuse_short(data: bytes, end: int) -> None:
    if end > len(data):
        raise struct.error
