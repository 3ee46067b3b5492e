"""The pictures and videos that a user's files, globs and folders name, and the place of each."""

import glob
import os
import re
from collections.abc import Iterator, Sequence, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

from runtime.errors import FrameError
from runtime.media.marks import is_output
from runtime.texts import shown

EXTENSIONS = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm",
     ".ppm", ".tif", ".tiff", ".webp"}
)  # fmt: skip
DIGITS = re.compile("[0-9]+")


class FrameFile(NamedTuple):
    """A picture to read, and its place: its path as it was typed, by itself or through its folder or a glob, without
    what is above the current folder (`..`, or all of an absolute path but its last part).
    """

    path: Path
    relative: Path


def locate_frames(
    inputs: Sequence[str], *, skip: Path | None = None, extensions: Set[str] = EXTENSIONS
) -> list[FrameFile]:
    """The pictures that files, globs and folders name, each once, where it is named first.

    A folder is searched to the bottom, hidden files and links to folders aside, for files with a known extension, in
    natural order (frame2 before frame10). A glob gives files, not folders, with a known extension. Of both, what
    `runtime.infer` wrote itself is left out. A file is taken as it is given: whether it is a picture, `read_frame`
    finds out. A hundred thousand take about a second.

    Args:
        inputs: what a user types.
        skip: a folder below an input that is left out: where the results go.
        extensions: in lower case, what a folder and a glob give.

    Raises:
        FrameError: an input is empty text, a folder cannot be read or holds no picture, or a glob matches none.
    """
    real = cache(os.path.realpath)
    found: dict[tuple[str, str], FrameFile] = {}
    for given in inputs:
        if not given:
            raise FrameError("an input is empty text; name a file, a folder or a glob")
        for file in _expand(given, skip, extensions):
            folder, name = os.path.split(file.path)
            found.setdefault((real(folder), name), file)
    return list(found.values())


def find_frames(inputs: Sequence[str]) -> list[Path]:
    """The paths of `locate_frames`."""
    return [file.path for file in locate_frames(inputs)]


def _expand(given: str, skip: Path | None, extensions: Set[str]) -> list[FrameFile]:
    path = Path(given)
    if path.is_dir():
        return _in_folder(path, skip, extensions)
    if glob.has_magic(given) and not path.exists():
        return _in_glob(given, extensions)
    return [FrameFile(path, _place(path))]


def _place(path: Path) -> Path:
    # A path as it was typed keeps its folders; of an absolute one they would be the machine's.
    if path.is_absolute():
        return Path(path.name)
    return Path(*(part for part in Path(os.path.normpath(path)).parts if part != ".."))


def _in_folder(folder: Path, skip: Path | None, extensions: Set[str]) -> list[FrameFile]:
    names = sorted(_walk(folder, skip and skip.resolve(), extensions), key=_natural)
    if not names:
        raise FrameError(f"{shown(folder)}: no image in this folder; expected {', '.join(sorted(extensions))}")
    place = _place(folder)
    return [FrameFile(folder / name, place / name) for name in names]


def _walk(folder: Path, left_out: Path | None, extensions: Set[str]) -> Iterator[str]:
    # Texts, not Paths: there may be 100,000 of them, and somebody waits.
    top = os.fspath(folder)
    for where, folders, files in os.walk(top, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if name[0] != "." and Path(where, name).resolve() != left_out]
        below = os.path.relpath(where, top)
        start = "" if below == "." else f"{below}/"
        yield from (start + name for name in files if _known(where, name, extensions))


def _in_glob(pattern: str, extensions: Set[str]) -> list[FrameFile]:
    matches = sorted(glob.glob(pattern, recursive=True), key=_natural)  # noqa: PTH207 - Path.glob refuses absolute ones
    paths = [Path(match) for match in matches]
    files = [path for path in paths if _known(str(path.parent), path.name, extensions) and path.is_file()]
    if not files:
        raise FrameError(f"{shown(Path(pattern))}: no image matches this pattern")
    return [FrameFile(path, _place(path)) for path in files]


def _known(folder: str, name: str, extensions: Set[str]) -> bool:
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122
    return extension in extensions and name[0] != "." and not is_output(folder, name)


def _natural(path: str) -> tuple[str, str]:
    # Numbers compare by value: by length first, leading zeros aside; words as text, and after them what is longer.
    # One text for all of that: tuples of parts take three times as long. The path itself breaks ties.
    return DIGITS.sub(_counted, path.casefold().replace("/", "\0")), path


def _counted(found: re.Match[str]) -> str:
    digits = found[0].lstrip("0")
    return f"\1{chr(1 + len(digits))}{digits}"


def _refuse_unreadable(error: OSError) -> None:
    raise FrameError(f"{shown(error.filename)}: cannot be read ({error.strerror})")
