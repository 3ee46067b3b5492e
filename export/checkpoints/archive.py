"""ZIP archives of bytes as they are: nothing in them is compressed, stands twice, or weighs more than the archive."""

import io
import re
import zipfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

MOST_ENTRIES = 20_000  # a tensor is one; what Python keeps of each takes a kilobyte
ENTRY = b"PK\1\2"
LONGEST_ENTRY = 1 << 18  # of the directory: a name, an extra field and a comment of 65,535 bytes each
EMPTY_BYTES = 22
# What Python's zipfile raises on bytes that it does not take, beside its own: found by damaging archives at random.
DAMAGED = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, LookupError, OverflowError)


class Archive:
    """An open archive. What it gives is whole by its checksums, and together never more than the archive itself."""

    def __init__(self, file: BinaryIO) -> None:
        """Read its directory.

        Raises:
            ValueError: it is damaged, or of more than `MOST_ENTRIES`.
        """
        self._left = file.seek(0, io.SEEK_END)
        _refuse_many(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise ValueError(f"no whole ZIP archive: {_said(error)}") from None

    def __enter__(self) -> "Archive":
        """The archive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it, but not the file it was given."""
        self._zip.close()

    def names(self) -> list[str]:
        """The names of its entries."""
        return self._zip.namelist()

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            ValueError: there is none of that name, or it is compressed, damaged, or beyond what the archive can hold.
        """
        try:
            entry = self._zip.getinfo(name)
        except KeyError:
            raise ValueError("a part of it is missing") from None
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError("it is compressed or encrypted; keep it as torch.save and numpy.savez do")
        self._left -= entry.file_size
        if self._left < 0:
            raise ValueError("its parts are larger than itself")
        try:
            return self._zip.read(entry)
        except DAMAGED as error:
            raise ValueError(f"damaged: {_said(error)}") from None

    def open(self, name: str) -> BinaryIO:
        """The same as a stream."""
        return io.BytesIO(self.read(name))


def _refuse_many(file: BinaryIO) -> None:
    # Counted from the end, where the directory is, before Python's zipfile makes an object of each.
    end, kept, count = file.seek(0, io.SEEK_END), b"", 0
    for block in _backwards(file, end):
        data = block + kept
        found = len(re.findall(re.escape(ENTRY), block + kept[: len(ENTRY) - 1]))
        count += found
        if count > MOST_ENTRIES:
            raise ValueError(f"an archive of more than {MOST_ENTRIES} parts")
        if not found and end > 0:
            return
        kept = data[: len(ENTRY)]


def _backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    while end > 0:
        start = max(0, end - LONGEST_ENTRY)
        file.seek(start)
        yield file.read(end - start)
        end = start


def _said(error: Exception) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(error))[:120] or type(error).__name__
