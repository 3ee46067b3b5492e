"""A request's body as a frame: a picture, or the pixels as they are."""

import re
from collections.abc import Mapping

import numpy as np

from runtime.errors import FrameError
from runtime.json_values import TOLD
from runtime.media.decoding import frame_from_bytes
from runtime.media.frames import refuse_bytes, refuse_size
from runtime.media.headers import read_header
from runtime.serve.replies import Refusal

# What a camera or a browser sends. The other kinds that a file may have are decoded by libraries that a server need
# not offer to strangers.
TAKEN = ("JPEG", "PNG", "WebP", "TIFF")
HEIGHT_X_WIDTH = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.ASCII)
SIZE = "x-frame-size"  # HEIGHTxWIDTH of a frame that comes as its pixels


def refuse_encoded(headers: Mapping[str, str]) -> None:
    """Hold the headers to a body that is the picture itself.

    Raises:
        Refusal: 415, it is compressed once more, or a form.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(415, "encoding", f"Content-Encoding {encoding[:50]!r} is not taken: send the body as it is")
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refusal(415, "encoding", "a form is not taken: send the picture alone (curl --data-binary @img.jpg)")


def frame_from_body(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    """The frame that a client sent; nothing is decoded of one that is too large or cut off.

    Returns:
        uint8 (H, W, 3) RGB; of raw pixels a view of the body, which is read-only.

    Raises:
        FrameError: it is no frame.
    """
    if SIZE in headers:
        return frame_from_pixels(body, *_size(headers[SIZE]))
    if not body:
        raise FrameError("the body is empty: expected a picture, or raw RGB with the header X-Frame-Size: HEIGHTxWIDTH")
    kind = read_header(body).kind
    if kind not in TAKEN:
        raise FrameError(f"is {kind}: a server takes {', '.join(TAKEN)}")
    refuse_bytes(body)
    return frame_from_bytes(body)


def frame_from_pixels(pixels: bytes | memoryview, height: int, width: int) -> np.ndarray:
    """Raw RGB as a frame.

    Returns:
        uint8 (height, width, 3), a view of the pixels.

    Raises:
        FrameError: they are of another size, or of one that is not taken.
    """
    refuse_size(height, width)
    if len(pixels) != height * width * 3:
        raise FrameError(f"{len(pixels)} bytes came, a frame of {height}x{width} has {height * width * 3}: uint8 RGB")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def _size(text: str) -> tuple[int, int]:
    found = HEIGHT_X_WIDTH.fullmatch(text.strip())
    if found is None:
        raise FrameError(f"X-Frame-Size {text[:TOLD]!r} is not HEIGHTxWIDTH, for example 1024x2048")
    return int(found[1]), int(found[2])
