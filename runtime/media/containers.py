"""What a video's file says of itself without a decoder: whether it was cut off, and Matroska's checksums."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# ISO/IEC 14496-12, 4.2: a box is its length, its kind, and what is in it.
FILM_BOXES = frozenset({b"moov", b"mdat", b"moof"})
BOXES = FILM_BOXES | {b"ftyp", b"free", b"skip", b"wide", b"styp", b"sidx", b"pnot"}
# RFC 8794 (EBML), 4 and 5; RFC 9559 (Matroska), 5.1.
EBML, SEGMENT, CLUSTER, CRC32 = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xBF
# What stands in a segment, and of a cluster that does not say where it ends what is in it.
KNOWN = frozenset(
    {EBML, SEGMENT, CLUSTER, CRC32, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
) | {0xEC, 0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854}
CLUSTER_BYTES = CLUSTER.to_bytes(4, "big")
CRC32_BYTES = 6  # its id, its length and the sum
LOOK = 1 << 16


class Element(NamedTuple):
    """One of Matroska's elements: where it and what is in it begin, and where it ends (None: where the next begins)."""

    id: int
    at: int
    body: int
    end: int | None


def is_cut(path: Path) -> bool | None:
    """Whether the file ends before it says; None where its format does not say it in a way that is known here.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
        if start[4:8] in BOXES:
            return _boxes_cut(file)
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            return _riff_cut(file)
        if start[:4] == EBML.to_bytes(4, "big"):
            return any(element.end is not None and element.end > _size(file) for element in _elements(file))
    return None


class Checksums:
    """The checksums of a Matroska file's clusters, each looked at when the first packet of it is here.

    FFmpeg writes one for five seconds or a few megabytes of film, and does not look at any.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; nothing is looked at yet."""
        self._file = path.open("rb")
        self._elements = _elements(self._file)
        self._begin = self._end = 0
        self._fits = True

    def fit(self, at: int | None) -> bool:
        """Whether the cluster around this byte is as it was written, as far as it says.

        Args:
            at: where a packet begins, not before the last one asked for.
        """
        if at is None:
            return True
        while at >= self._end:
            element = next(self._elements, None)
            if element is None:
                return True
            self._begin, self._end = element.at, _end_of(element, _size(self._file))
            self._fits = self._sum_fits(element)
        # What lies between two elements is damaged: there the one behind it was looked for.
        return self._fits and at >= self._begin

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _sum_fits(self, element: Element) -> bool:
        if element.id != CLUSTER or element.end != self._end:
            return True
        self._file.seek(element.body)
        data = self._file.read(self._end - element.body)
        if data[:2] != bytes([CRC32, 4 | 0x80]):
            return True
        return int.from_bytes(data[2:CRC32_BYTES], "little") == zlib.crc32(data[CRC32_BYTES:])


def _size(file: BinaryIO) -> int:
    at = file.tell()
    size = file.seek(0, 2)
    file.seek(at)
    return size


def _boxes_cut(file: BinaryIO) -> bool:
    at, size = 0, _size(file)
    while at + 8 <= size:
        file.seek(at)
        length, kind, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = {0: size - at, 1: large}.get(length, length)  # 0: to the end; 1: of 64 bits
        if at + length > size:
            return kind in FILM_BOXES  # anything else somebody hung behind it
        at += max(length, 8)
    return False


def _riff_cut(file: BinaryIO) -> bool:
    # A recorder that lost its power left the length at 0, and FFmpeg reads what is there.
    file.seek(4)
    length = int(struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0])
    return length + 8 > _size(file) + 1  # a last byte that only pads may lack


def _elements(file: BinaryIO) -> Iterator[Element]:
    """The segment and what is in it, in their order; what is damaged is passed over up to the next cluster."""
    at, size = 0, _size(file)
    while at < size:
        element = _element(file, at)
        if element is not None and element.id in KNOWN:
            yield element
            at = _end_of(element, size)
        if element is None or element.id not in KNOWN or (element.id != SEGMENT and (element.end or 0) > size):
            at = _next_cluster(file, at + 1)


def _end_of(element: Element, size: int) -> int:
    """Where to go on: in the segment, in what does not say where it ends, and in what ends behind the file."""
    if element.id == SEGMENT or element.end is None or element.end > size:
        return element.body
    return element.end


def _element(file: BinaryIO, at: int) -> Element | None:
    file.seek(at)
    head = file.read(12)
    id_bytes = _vint_bytes(head, 0, 4)
    size_bytes = _vint_bytes(head, id_bytes, 8) if id_bytes else 0
    body = at + id_bytes + size_bytes
    if not size_bytes or len(head) < id_bytes + size_bytes:
        return None
    size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
    unknown = size == (1 << 7 * size_bytes) - 1  # a live recording: it ends where it ends
    return Element(int.from_bytes(head[:id_bytes], "big"), at, body, None if unknown else body + size)


def _vint_bytes(head: bytes, at: int, most: int) -> int:
    """Of how many bytes a number is, by its leading zeros; 0: it is none."""
    count = 9 - head[at].bit_length() if len(head) > at else 0
    return count if count <= most else 0


def _next_cluster(file: BinaryIO, at: int) -> int:
    size = _size(file)
    while at < size:
        file.seek(at)
        found = file.read(LOOK).find(CLUSTER_BYTES)
        if found >= 0:
            return at + found
        at += LOOK - len(CLUSTER_BYTES) + 1
    return size
