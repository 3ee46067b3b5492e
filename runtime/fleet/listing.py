"""What inputs there are: pictures and videos that paths, folders, globs and addresses name, each with its version."""

import glob
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from runtime.errors import FrameError
from runtime.fleet.stores import (
    BUCKETS,
    faults,
    file_system,
    folder_of,
    object_at,
    place_of,
    reason,
    scheme_of,
)
from runtime.media.found import EXTENSIONS, FrameFile
from runtime.media.inputs import inputs_of, lines_of
from runtime.media.outputs import refuse_clashes
from runtime.media.video import EXTENSIONS as VIDEOS
from runtime.texts import shown

MASKS = "masks"  # the folder of the outputs, below that of a run
KNOWN = EXTENSIONS | VIDEOS
TAGS = ("ETag", "etag", "generation", "LastModified", "mtime", "created")  # by which a store tells a version


class Input(NamedTuple):
    """A file to do: its path or address, its place (see `FrameFile`), and what of it tells when it is another."""

    address: str
    place: Path
    version: str

    @property
    def file(self) -> FrameFile:
        """It, as what names outputs takes it."""
        return FrameFile(Path(self.address), self.place)


def listed(given: Sequence[str], lists: Sequence[str], output: str) -> list[Input]:
    """The inputs that a user names, each once, in their order.

    Args:
        given: files, folders and globs, of this machine or of a store (s3://BUCKET/PREFIX/).
        lists: files of such, one a line; "-" is standard input.
        output: of the run; what lies in its `MASKS` is left out.

    Raises:
        FrameError: one of them gives nothing, or cannot be listed.
        LibraryError: what an address needs is not installed.
    """
    named = [*given, *(line for path in lists for line in lines_of(path))]
    folder = folder_of(output)
    found: dict[str, Input] = {}
    for each in named:
        several = _in_store(each, output) if scheme_of(each) else _local(each, folder)
        for one in several:
            found.setdefault(one.address, one)
    return list(found.values())


def refuse_wrong(inputs: Sequence[Input], output: str, saves: Sequence[str]) -> None:
    """Hold the outputs of all inputs to each other and to the inputs.

    Raises:
        OutputError: two inputs would write the same, or one an input.
    """
    # Of a store no output is an input on this machine: a folder that cannot be is looked into for none.
    folder = (folder_of(output) or Path(os.devnull)) / MASKS
    refuse_clashes([each.file for each in inputs], folder, saves)


def version_of(path: Path) -> str:
    """The version of a file of this machine; "" where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size:x} {status.st_mtime_ns:x}"


def version_at(address: str) -> str:
    """The version of a file, wherever it is; "" where it is not there.

    Raises:
        FrameError: its store cannot be asked, or it has a key that `object_at` does not take.
    """
    if not scheme_of(address):
        return version_of(Path(address))
    fs, path = object_at(address)
    fs.invalidate_cache()
    try:
        return _version(fs.info(path))
    except FileNotFoundError:
        return ""
    except faults() as error:
        raise FrameError(f"{shown(address)}: cannot be read ({reason(error)})") from None


def _local(given: str, folder: Path | None) -> Iterator[Input]:
    files = inputs_of([given], [], folder and folder / MASKS, None)
    if folder and (glob.has_magic(given) or Path(given).is_dir()):
        files = _without_masks(files, given, folder)
    for path, place in files:
        _refuse_bytes(str(path))
        yield Input(str(path), place, version_of(path))


def _without_masks(files: Sequence[FrameFile], given: str, folder: Path) -> list[FrameFile]:
    # Films of masks have no mark by which they are told from any other film: masks of them would be made, and of those.
    real, below = cache(os.path.realpath), f"{os.path.realpath(folder / MASKS)}/"
    kept = [file for file in files if not f"{real(os.path.dirname(file.path))}/".startswith(below)]  # noqa: PTH120
    if not kept:
        raise FrameError(f"{shown(Path(given))}: what is there are the masks of {shown(folder)}; name other inputs")
    return kept


def _refuse_bytes(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        what = "its name is not UTF-8, which a table of rows cannot hold; rename it"
        raise FrameError(f"{shown(name)}: {what}") from None


def _in_store(given: str, output: str) -> Iterator[Input]:
    scheme = scheme_of(given)
    _refuse_bytes(given)
    if scheme not in BUCKETS:
        raise FrameError(f"{shown(given)}: an address of this kind is not taken; expected a path, s3:// or gs://")
    fs, path = file_system(given)
    try:
        found = _found(fs, path)
    except faults() as error:
        raise FrameError(f"{shown(given)}: cannot be listed ({reason(error)})") from None
    left_out = _masks_in(fs, output) if scheme_of(output) in BUCKETS else None
    names = [name for name in sorted(found) if left_out is None or not name.startswith(left_out)]
    if not names:
        raise FrameError(f"{shown(given)}: no image or video there; expected {', '.join(sorted(KNOWN))}")
    above = _above(path)
    for name in names:
        yield Input(f"{scheme}://{name}", place_of(name.removeprefix(above)), _version(found[name]))


def _masks_in(fs: Any, output: str) -> str | None:
    other, below = file_system(output)
    if type(other) is not type(fs):  # s3:// and s3a:// are one
        return None
    return f"{below}/{MASKS}/"


def _above(path: str) -> str:
    # The folder in which what was named lies: of a glob the one above its first part that is a pattern.
    parts = path.split("/")
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return "".join(f"{part}/" for part in parts[:fixed])


def _found(fs: Any, path: str) -> dict[str, Any]:
    fs.invalidate_cache()
    if fs.isfile(path):
        return {path: fs.info(path)}
    matches = (fs.glob if glob.has_magic(path) else fs.find)(path, detail=True)
    return {
        name: info
        for name, info in matches.items()
        if info.get("type") == "file" and PurePosixPath(name).suffix.lower() in KNOWN
    }


def _version(info: dict[str, Any]) -> str:
    # A time is a number in one of a store's answers and a date in another.
    found = next((info[name] for name in TAGS if info.get(name)), "")
    tag = str(found.timestamp() if isinstance(found, datetime) else found)
    return f"{int(info['size']):x} {tag.strip(chr(34))}"
