"""Where inputs lie and outputs go: a folder, or a bucket through fsspec. A file is there whole, or not at all."""

import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from runtime.commands import missing
from runtime.errors import FrameError, OutputError
from runtime.texts import shown

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Stores whose objects appear when they are whole. Others (sftp, hdfs) grow under their names.
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
PARTS = ".parts"  # of a folder: what is being written; on the same disk, so that a rename is all that remains
PART = ".part"
MOST_OF_A_REASON = 200  # characters
MOST_OF_A_PART = 20
MOST_NAME_BYTES = 255  # that a disk takes


class Store(Protocol):
    """A folder or a bucket's prefix; names are relative to it, with `/` between their parts."""

    address: str

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: it is not there.
        """

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all of it or nothing, over an older one.

        Raises:
            OutputError: it cannot be written.
        """

    def put(self, name: str, source: Path) -> None:
        """Write a file from a local one, all of it or nothing, over an older one.

        Raises:
            OutputError: it cannot be written.
        """

    def sizes(self, below: str) -> dict[str, int]:
        """Bytes of every file below a folder of it, by name; nothing of one that is not there."""

    def has(self, name: str) -> bool:
        """Whether a file is there."""

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; one that is not there is no matter."""

    def clear_parts(self) -> None:
        """Delete what killed writers left. Nobody may be writing."""


def store_of(address: str) -> Store:
    """The store at a folder's path or at an address such as s3://BUCKET/PREFIX.

    Raises:
        OutputError: an address of a kind that is not taken.
        LibraryError: fsspec, or what it needs for the address, is not installed.
    """
    if folder := folder_of(address):
        return Folder(folder)
    if scheme_of(address) not in BUCKETS:
        known = ", ".join(f"{name}://" for name in ("s3", "gs"))
        raise OutputError(f"{shown(address)}: a store of this kind is not taken; expected a folder, {known}")
    return Bucket(address)


def scheme_of(address: str) -> str:
    """`s3` of s3://BUCKET/NAME, in lower case; "" of a path."""
    found = SCHEME.match(address)
    return found[1].lower() if found else ""


def folder_of(address: str) -> Path | None:
    """The folder of this machine that a path or file:// names; None of any other address."""
    if scheme_of(address) not in ("", "file"):
        return None
    return Path(_behind_scheme(address))


def _behind_scheme(address: str) -> str:
    found = SCHEME.match(address)
    return address[found.end() :] if found else address


class Folder:
    """A folder of this machine, or one that all machines share."""

    def __init__(self, path: Path) -> None:
        """Nothing is made before something is written."""
        self.address, self.path = str(path), path

    def read(self, name: str) -> bytes:
        """See `Store`."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        with self._part(name) as part:
            part.write_bytes(data)

    def put(self, name: str, source: Path) -> None:
        """See `Store`."""
        with self._part(name) as part:
            shutil.copyfile(source, part)

    def sizes(self, below: str) -> dict[str, int]:
        """See `Store`."""
        found = {}
        for where, _, names in os.walk(self.path / below):
            for name in names:
                path = Path(where, name)
                with suppress(FileNotFoundError):  # joined meanwhile
                    found[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return found

    def has(self, name: str) -> bool:
        """See `Store`."""
        return (self.path / name).is_file()

    def remove(self, names: Iterable[str]) -> None:
        """See `Store`."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def clear_parts(self) -> None:
        """See `Store`."""
        shutil.rmtree(self.path / PARTS, ignore_errors=True)

    @contextmanager
    def _part(self, name: str) -> Iterator[Path]:
        part = self.path / PARTS / f"{secrets.token_hex(8)}{PART}"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            yield part
            part.replace(self.path / name)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            what = f"{shown(self.path / name)} cannot be written ({error.strerror})"
            raise OutputError(f"{what}: give another folder with -o") from None


class Bucket:
    """A prefix of a bucket, through fsspec; for any number of threads."""

    def __init__(self, address: str) -> None:
        """Look for the library; nothing is asked of the bucket yet."""
        self.address = address.rstrip("/")
        self._fs, self._root = file_system(self.address)

    def read(self, name: str) -> bytes:
        """See `Store`."""
        with self._telling(name, "read"):
            data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        with self._telling(name, "written"):
            self._fs.pipe_file(self._path(name), data)

    def put(self, name: str, source: Path) -> None:
        """See `Store`."""
        with self._telling(name, "written"):
            self._fs.put_file(str(source), self._path(name))

    def sizes(self, below: str) -> dict[str, int]:
        """See `Store`."""
        with self._telling(below, "listed"):
            self._fs.invalidate_cache()
            found = self._fs.find(self._path(below), detail=True)
        return {str(PurePosixPath(path).relative_to(self._root)): int(of["size"]) for path, of in found.items()}

    def has(self, name: str) -> bool:
        """See `Store`."""
        with self._telling(name, "read"):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)) and self._fs.isfile(self._path(name)))

    def remove(self, names: Iterable[str]) -> None:
        """See `Store`."""
        paths = [self._path(name) for name in names]
        if paths:
            with self._telling("", "cleared"), suppress(FileNotFoundError):
                self._fs.rm(paths)

    def clear_parts(self) -> None:
        """See `Store`: an object appears when it is whole."""

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _telling(self, name: str, what: str) -> Iterator[None]:
        try:
            yield
        except faults() as error:
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            raise OutputError(f"{shown(f'{self.address}/{name}')} cannot be {what} ({reason(error)})") from None


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Raises:
        LibraryError: fsspec, or what it needs for the address, is not installed.
    """
    try:
        import fsspec

        fs, path = fsspec.core.url_to_fs(address)
    except ModuleNotFoundError as error:
        raise missing(error) or error from None
    except ImportError as error:  # fsspec says so of what it loads for an address
        scheme = scheme_of(address)
        library = {"gs": "gcsfs", "gcs": "gcsfs"}.get(scheme, "s3fs")
        raise missing(ModuleNotFoundError(str(error), name=library)) or error from None
    return fs, str(path).rstrip("/")


def object_at(address: str) -> tuple[Any, str]:
    """`file_system` of an object, whose key is as a path is: libraries take `a/../b` for `b`, which is another object.

    Raises:
        FrameError: it is not.
        LibraryError: as `file_system`.
    """
    for part in _behind_scheme(address).removeprefix("/").split("/"):
        if not _is_name(part):
            what = (
                f"its key has a part that no file or folder is called, {shown(part[:MOST_OF_A_PART]) or 'an empty one'}"
            )
            raise FrameError(f"{shown(address)}: {what}; copy it to another key")
    return file_system(address)


def place_of(key: str) -> Path:
    """Where masks of an object go, which differs for each key and is never above the folder of masks."""
    return Path(*(part if _is_name(part) else _in_place_of(part) for part in key.split("/")))


def _is_name(part: str) -> bool:
    # fsspec takes `::` for one address within another.
    return (
        part not in ("", ".", "..") and "::" not in part and "\0" not in part and len(part.encode()) <= MOST_NAME_BYTES
    )


def _in_place_of(part: str) -> str:
    return f"%{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def fetch(address: str, target: Path) -> None:
    """Copy what is at an address to a local file, whole or not at all.

    Raises:
        FrameError: it is not there, or cannot be read, or its key is none that `object_at` takes.
        LibraryError: as `file_system`.
    """
    fs, path = object_at(address)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}{PART}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(path, str(part))
        part.replace(target)
    except faults() as error:
        part.unlink(missing_ok=True)
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason(error)})"
        raise FrameError(f"{shown(address)}: {why}") from None


def faults() -> tuple[type[Exception], ...]:
    """What a store raises that refuses or cannot be reached; some of it is the library's own that was loaded for it."""
    library = sys.modules.get("botocore.exceptions")
    return (OSError, library.BotoCoreError) if library else (OSError,)


def reason(error: Exception) -> str:
    """Why a store refused, in a few words on one line: what it says of it may be a page."""
    told = getattr(error, "strerror", None) or str(error)
    return shown(" ".join(told.split()))[:MOST_OF_A_REASON] or type(error).__name__
