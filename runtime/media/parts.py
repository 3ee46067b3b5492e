"""Parts of a video that are decoded by themselves, on any machine: together they give the frames of the whole.

A part begins at a packet that its container marks as a key frame. Frames belong to it by the times that the file says:
pictures that stand behind a key frame in the file and before it on the screen (B-frames of an open GOP) are of the part
before, which decodes on until it has them. Not every key frame of every encoder is one that nothing behind it looks
past; so each part also decodes the first `SEAM` packets of the next one, and both tell what they made of them.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

# H.264 and HEVC keep 16 pictures to look back to: what looks past a key frame does so within as many behind it.
SEAM = 16
# Packets behind a key frame that are shown before it; where there are more of them, times are no order to cut by.
MOST_LEADING = 64


class Part(NamedTuple):
    """From one key frame to another, in packets of the film, counted from 0, and in the file's own times.

    Args:
        first: where decoding begins.
        next: where the next part begins; None: it is the last.
        end: one behind the last packet that is decoded; None: to the end of the file.
        start: of its frames, in units of the time base; None: it is the first part.
        stop: until before it; None: it is the last.
    """

    first: int = 0
    next: int | None = None
    end: int | None = None
    start: int | None = None
    stop: int | None = None


class Packet(NamedTuple):
    """What is looked at of a packet to cut by: when it is shown, and whether it is said to be a key frame."""

    pts: int | None
    is_key: bool


def parts_of(packets: Iterable[Packet], least: float) -> list[Part]:
    """Cut a film at its key frames.

    Args:
        packets: all of them, in the order of the file.
        least: how long a part is, in units of the time base; the last may be shorter.

    Returns:
        One or more; one alone where packets have no times, or times are no order to cut by.
    """
    found = list(packets)
    times = [packet.pts for packet in found if packet.pts is not None]
    cuts = _cuts(times, found, least) if len(times) == len(found) else []
    starts = [(0, None), *((at, times[at]) for at in cuts)]
    parts = []
    for index, (first, start) in enumerate(starts):
        if index + 1 == len(starts):
            parts.append(Part(first, None, None, start, None))
        else:
            following = cuts[index]
            end = max(_leading_end(times, following), following + SEAM)
            parts.append(Part(first, following, min(end, len(found)), start, times[following]))
    return parts


def _cuts(times: list[int], packets: list[Packet], least: float) -> list[int]:
    chosen, last = [], min(times, default=0)
    before = np.maximum.accumulate(np.array(times, np.int64)) if times else np.zeros(0, np.int64)
    after = np.minimum.accumulate(np.array(times[::-1], np.int64))[::-1] if times else before
    for at in range(1, len(times)):
        if not packets[at].is_key or times[at] - last < least or before[at - 1] >= times[at]:
            continue
        behind = min(len(times), at + MOST_LEADING)
        if behind == len(times) or after[behind] >= times[at]:
            chosen.append(at)
            last = times[at]
    return chosen


def _leading_end(times: list[int], at: int) -> int:
    leading = [other for other in range(at, min(len(times), at + MOST_LEADING)) if times[other] < times[at]]
    return max(leading, default=at) + 1


class Window:
    """Which packets are decoded for a part, and what becomes of the frames that come of them."""

    def __init__(self, av: Any, stream: Any, part: Part | None) -> None:
        """Of a film; `part` None: all of it."""
        self.part = part or Part()
        self.is_whole = part is None
        self._av, self._stream = av, stream
        self._head_times: set[int] = set()
        self._tail_times: set[int] = set()
        self._head: dict[int, bytes] = {}
        self._tail: dict[int, bytes] = {}

    def packets(self, demuxed: Iterator[Any]) -> Iterator[Any]:
        """Those that are decoded, the one that empties the decoder last; other streams' pass as they come."""
        if self.is_whole:
            yield from demuxed
            return
        count = 0
        for packet in demuxed:
            if packet.stream_index != self._stream.index or not packet.size:
                yield packet
                continue
            if count == self.part.end:
                break
            if count >= self.part.first:
                self._note(packet, count)
                yield packet
            count += 1
        else:
            return  # what empties the decoder came from the file
        empty = self._av.Packet()
        empty.stream = self._stream
        yield empty

    def place(self, pts: int | None) -> int:
        """Whether a frame is of this part (0), of one before (-1) or of one behind (1)."""
        if pts is None:
            return 0
        if self.part.start is not None and pts < self.part.start:
            return -1
        return int(self.part.stop is not None and pts >= self.part.stop)

    def look(self, pts: int | None, pixels: np.ndarray) -> None:
        """Note a frame, uint8 (H, W, 3) RGB, if it lies at a seam."""
        for times, kept in ((self._head_times, self._head), (self._tail_times, self._tail)):
            if pts in times and pts is not None:
                kept[pts] = hashlib.sha256(pixels.tobytes()).digest()

    @property
    def head(self) -> str:
        """What was made of the first packets of this part; "" where no part is before it."""
        return _sum(self._head) if self.part.start is not None else ""

    @property
    def tail(self) -> str:
        """What was made of the first packets of the next part, which that one's `head` must equal; "" without one."""
        return _sum(self._tail) if self.part.stop is not None else ""

    def _note(self, packet: Any, count: int) -> None:
        part = self.part
        if packet.pts is None:
            return
        if part.start is not None and count < part.first + SEAM and packet.pts >= part.start:
            self._head_times.add(packet.pts)
        if part.next is not None and part.stop is not None and part.next <= count < part.next + SEAM:
            self._tail_times.update({packet.pts} if packet.pts >= part.stop else ())


def _sum(frames: dict[int, bytes]) -> str:
    digest = hashlib.sha256()
    for pts, pixels in sorted(frames.items()):
        digest.update(b"%d " % pts + pixels)
    return digest.hexdigest()[:32]
