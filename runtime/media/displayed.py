"""A decoded frame as a player shows it: whole where it was interlaced, upright, in the colours of SDR."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from runtime.media.tones import HDR, sdr_from_hdr

# One frame of each two fields, at its time; frames that are not said to be interlaced pass as they are.
BWDIF = "mode=send_frame:parity=auto:deint=interlaced"

Matrix = tuple[int, int, int, int]
IDENTITY: Matrix = (1, 0, 0, 1)


class Deinterlacer:
    """Frames of interlaced film made whole by FFmpeg's bwdif; others are handed on untouched, and cost nothing."""

    def __init__(self, av: Any, time_base: Any) -> None:
        """Nothing is made before the first interlaced frame is here."""
        self.interlaced = 0
        self._av, self._time_base = av, time_base
        self._graph: Any = None
        self._made_for: tuple[Any, ...] = ()

    def frames(self, frame: Any) -> Iterator[Any]:
        """What is whole with this frame: bwdif looks one frame ahead."""
        if self._graph is None and not frame.interlaced_frame:
            yield frame
            return
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._made_for:
            yield from self.rest()
            self._graph, self._made_for = self._made(frame), kind
        self.interlaced += frame.interlaced_frame
        self._graph.push(frame)
        yield from self._pulled()

    def rest(self) -> Iterator[Any]:
        """What is still ahead, at the end."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled()
            self._graph, self._made_for = None, ()

    def _made(self, frame: Any) -> Any:
        graph = self._av.filter.Graph()
        first = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base)
        graph.link_nodes(first, graph.add("bwdif", BWDIF), graph.add("buffersink")).configure()
        return graph

    def _pulled(self) -> Iterator[Any]:
        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            frame.pts = round(frame.pts * frame.time_base / self._time_base)  # bwdif counts in halves
            frame.time_base = self._time_base
            yield frame


class Upright:
    """Which way up frames are, as their display matrix says; it is looked at where anything of it may have changed.

    PyAV's side data holds on to its frame: looked at for each, the decoder's memory is made anew, at half the speed.
    """

    def __init__(self) -> None:
        """Nothing was looked at yet."""
        self._seen: tuple[int, int, int] | None = None
        self._matrix = IDENTITY

    def matrix(self, frame: Any) -> Matrix:
        """The frame's, or the identity."""
        seen = (frame.rotation, frame.width, frame.height)
        if seen != self._seen:
            self._seen, found = seen, frame.side_data.get("DISPLAYMATRIX")
            self._matrix = IDENTITY if found is None else _matrix(bytes(found))
        return self._matrix


def displayed(frame: Any, matrix: Matrix) -> np.ndarray:
    """The frame's pixels upright, in the colours that its matrix, its range and its transfer stand for.

    Returns:
        uint8 (H, W, 3) RGB, C-contiguous.
    """
    if frame.color_trc in HDR:
        pixels = sdr_from_hdr(frame.to_ndarray(format="rgb48le"), frame.color_trc, frame.color_primaries)
    else:
        pixels = frame.to_ndarray(format="rgb24")  # swscale takes the frame's own matrix and range
    return np.ascontiguousarray(_shown_by(matrix, pixels))


def turns_sideways(matrix: Matrix) -> bool:
    """Whether what is stored in rows is shown in columns."""
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _shown_by(matrix: Matrix, pixels: np.ndarray) -> np.ndarray:
    # ISO/IEC 14496-12, 6.2.2: what is stored at (x, y) is shown at (a x + c y, b x + d y). Phones film sideways and
    # say so; front cameras and rear views mirror.
    a, b, c, d = matrix
    if turns_sideways(matrix):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _matrix(matrix: bytes) -> Matrix:
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    return a, b, c, d
