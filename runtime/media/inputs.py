"""What `runtime.infer` is asked to do: inputs from the command line and from lists, its share of them, hints."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from runtime.errors import FrameError
from runtime.media.found import EXTENSIONS, FrameFile, locate_frames
from runtime.media.video import EXTENSIONS as VIDEOS
from runtime.texts import shown

MOST_LIST_BYTES = 1 << 30


class Shard(NamedTuple):
    """One of several equal shares: the `number`-th of `shards`, from 1."""

    number: int
    shards: int

    def of(self, files: Sequence[FrameFile]) -> list[FrameFile]:
        """Every `shards`-th file; all shards together have each once."""
        return list(files[self.number - 1 :: self.shards])


def inputs_of(given: Sequence[str], lists: Sequence[str], skip: Path | None, shard: Shard | None) -> list[FrameFile]:
    """The files to do, in their order.

    Args:
        given: files, folders and globs.
        lists: files of such, one a line; "-" is standard input.
        skip: a folder below an input that is left out.
        shard: the share to take.

    Raises:
        FrameError: one of them gives nothing, or is of a kind that is not read.
    """
    named = [*given, *(line for path in lists for line in lines_of(path))]
    for each in named:
        refuse_mistaken(each)
    files = locate_frames(named, skip=skip, extensions=EXTENSIONS | VIDEOS)
    return files if shard is None else shard.of(files)


def lines_of(path: str) -> list[str]:
    """The lines of a list, empty ones left out; what `find -print0` writes is told by its zeros.

    Raises:
        FrameError: it cannot be read, or names nothing.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except (OSError, AttributeError) as error:
        raise FrameError(f"list {shown(path)}: cannot be read ({getattr(error, 'strerror', 'closed')})") from None
    parts = data.removeprefix(b"\xef\xbb\xbf").split(b"\0" if b"\0" in data else b"\n")
    lines = [os.fsdecode(line.removesuffix(b"\r")) for line in parts]
    if not any(lines):
        raise FrameError(f"list {shown(path)}: names no file; expected one a line")
    return [line for line in lines if line]


def refuse_mistaken(given: str) -> None:
    """Look for what is no input but reads like another one.

    Raises:
        FrameError: it is; the message tells what was probably meant.
    """
    if given.isdecimal() and not Path(given).exists():
        raise FrameError(f"{given}: does not exist; the camera of that number is camera:{given}")
    if "://" in given and Path(urlsplit(given).path).suffix.lower() in EXTENSIONS:
        raise FrameError(f"{shown(given)}: a picture at an address is not fetched; download it first: curl -LO ADDRESS")
