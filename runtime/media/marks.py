"""What tells an output of `runtime.infer` from any other file, and one of this engine and input from another's.

A PNG has it in a text chunk of its own, a JPEG in a comment. Videos are told in `run.json`, each when it is whole.
"""

import os
import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from runtime.json_values import read_json

KEYWORD = b"street-segmentation\0"
OUTPUT_NAME = re.compile(r"_(?:ids|color|overlay)(?:\.size\d+)?\.(?:png|jpg|mp4|mkv)$")
# W3C PNG, 5.3 and 11.2.1: signature and IHDR are 33 bytes; behind them our chunk: length, type, data, checksum.
HEAD, MOST_MARK = 33, 400
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# ITU-T T.81, B.1.1.3 and B.2.4.5: start of image, then our comment: its marker and length; at the end, end of image.
JPEG_HEAD, JPEG_END = b"\xff\xd8\xff\xfe", b"\xff\xd9"
MADE_BY = "street-segmentation"
DEEPEST = 8
PICTURES = (".png", ".jpg")


class VideoMark(NamedTuple):
    """The mark of a video that was written to its end, and how many bytes it had."""

    mark: str
    bytes: int


def marked_png(png: bytes, mark: str) -> bytes:
    """The PNG with the mark in it, which decoders pass over."""
    data = b"tEXt" + KEYWORD + mark.encode("latin-1")
    return b"".join(
        (png[:HEAD], struct.pack(">I", len(data) - 4), data, struct.pack(">I", zlib.crc32(data)), png[HEAD:])
    )


def marked_jpeg(jpeg: bytes, mark: str) -> bytes:
    """The JPEG with the mark in it, which decoders pass over."""
    data = KEYWORD + mark.encode("latin-1")
    return JPEG_HEAD + struct.pack(">H", 2 + len(data)) + data + jpeg[2:]


def is_whole(picture: Path, mark: str) -> bool:
    """Whether a PNG or a JPEG is there, to its end, and has this mark."""
    return _mark(picture) == mark


def is_output(folder: str, name: str) -> bool:
    """Whether a file is one that `runtime.infer` wrote: by its name and its mark."""
    if not OUTPUT_NAME.search(name):
        return False
    path = Path(folder, name)
    return _mark(path) is not None if path.suffix in PICTURES else _is_told(path)


def _mark(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(MOST_MARK)
            file.seek(-len(PNG_END), os.SEEK_END)
            end = file.read()
    except OSError:
        return None
    return _jpeg_mark(head, end) if path.suffix == ".jpg" else _png_mark(head, end)


def _jpeg_mark(head: bytes, end: bytes) -> str | None:
    start = len(JPEG_HEAD) + 2
    if not head.startswith(JPEG_HEAD) or head[start : start + len(KEYWORD)] != KEYWORD or not end.endswith(JPEG_END):
        return None
    (length,) = struct.unpack_from(">H", head, len(JPEG_HEAD))
    return head[start + len(KEYWORD) : len(JPEG_HEAD) + length].decode("latin-1")


def _png_mark(head: bytes, end: bytes) -> str | None:
    start = HEAD + 8 + len(KEYWORD)
    if head[HEAD + 4 : start] != b"tEXt" + KEYWORD or end != PNG_END:
        return None
    (length,) = struct.unpack_from(">I", head, HEAD)
    return head[start : HEAD + 8 + length].decode("latin-1")


def videos_told(folder: Path) -> dict[str, VideoMark]:
    """The videos that the runs into this folder wrote to their end, by their path below it."""
    found: dict[str, VideoMark] = {}
    for path in sorted(folder.glob("run*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            content = read_json(path)
            told = content["videos"] if content["made_by"] == MADE_BY else {}
            found |= {name: VideoMark(of["mark"], of["bytes"]) for name, of in told.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # another program's
    return found


def _is_told(path: Path) -> bool:
    # The folder of a run may be some above the one in which its outputs lie.
    return any(
        str(path.relative_to(folder)) in videos_told(folder)
        for folder in (*path.parents,)[:DEEPEST]
        if (folder / "run.json").is_file()
    )
