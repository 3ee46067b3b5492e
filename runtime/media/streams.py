"""A video or a camera through an engine: decoded, segmented and recorded at the same time."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Protocol

from runtime.lanes import Lanes
from runtime.media.packets import TimedFrame
from runtime.media.pictures import Run, Segmented, ahead_of, class_shares, segment_with
from runtime.media.pipeline import END, Clock, End, Passage, Stage
from runtime.media.tallies import Writes

DECODED_AHEAD = 3
RECORDED_AHEAD = 3


class Source(Protocol):
    """Where frames come from: `runtime.media.video.VideoReader`, `runtime.media.camera.Camera`; see there."""

    rate: Fraction
    time_base: Fraction
    dropped: int

    @property
    def reconnects(self) -> int:
        """How often it was lost and came back."""

    @property
    def notes(self) -> list[str]:
        """What a user should know of it so far, a line each."""

    @property
    def missing(self) -> int:
        """Frames that were lost on the way and are in none of the others' counts."""

    def read(self) -> TimedFrame | End:
        """The next frame, or `END`.

        Raises:
            FrameError: one is lost; the next call goes on.
        """


class Done(NamedTuple):
    """One frame done."""

    height: int
    width: int
    parts_ms: dict[str, float]
    shares: dict[str, float]


class StreamResult:
    """What was made of a video or a camera so far."""

    def __init__(self, source: str, *, live: bool = False) -> None:
        """Nothing yet; `source` is what the user called it, `live` whether frames may be dropped."""
        self.input, self.live = source, live
        self.outputs: list[tuple[str, Path]] = []
        self.notes: list[str] = []
        self.height = self.width = 0
        self.frames = self.damaged = self.dropped = self.missing = self.reconnects = 0
        self.clock = Clock()
        self._sums_ms: Counter[str] = Counter()
        self._shares: Counter[str] = Counter()

    def add(self, done: Done, stages_ms: dict[str, float]) -> None:
        """Count a frame."""
        self.frames += 1
        self.height, self.width = done.height, done.width
        self._sums_ms.update(stages_ms | done.parts_ms)
        self._shares.update(done.shares)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.clock.seconds

    @property
    def fps(self) -> float:
        """Frames a second, over all."""
        return self.frames / self.seconds

    @property
    def milliseconds(self) -> dict[str, float]:
        """The mean of each stage."""
        return {name: ms / self.frames for name, ms in self._sums_ms.items()}

    @property
    def shares(self) -> dict[str, float]:
        """The part of all masks that each class takes, 0..1."""
        return {name: share / self.frames for name, share in self._shares.items()}

    def summary(self) -> str:
        """One line: how many frames, how fast, how many are missing."""
        lost = f", {self.damaged} damaged" * bool(self.damaged)
        lost += f", {self.missing} missing by their times" * bool(self.missing)
        lost += f", {self.dropped} dropped" * self.live
        lost += f", {self.reconnects} reconnect{'s' * (self.reconnects > 1)}" * bool(self.reconnects)
        return f"{self.input}: {self.frames} frames in {self.seconds:.1f} s, {self.fps:.1f} a second{lost}"


def segment_stream(
    lanes: Lanes,
    source: Source,
    recording: Writes,
    ticks: Iterable[None],
    run: Run,
    clock: Clock,
    *,
    live: bool,
    seconds: float | None = None,
    at_once: int | None = None,
    void_below: int | None = None,
) -> Iterator[Passage]:
    """Segment and record every frame of the source.

    Args:
        lanes: the engine.
        source: asked for a frame at each tick.
        recording: gets the masks; the caller closes it.
        ticks: as many frames at most.
        run: `overlapped` or `one_after_another`.
        clock: gets the times.
        live: take a frame only when a lane is free for it, the newest; else some frames are decoded ahead.
        seconds: of film, by its frames' times, from its first.
        at_once: frames of this source in the engine; None: one in each lane.
        void_below: as in `runtime.media.outputs.Look`.

    Yields:
        A `Done`, or the `FrameError` of a frame that is lost.

    Raises:
        OutputError: the recording cannot be written; nothing more is begun.
    """
    count = at_once or lanes.count
    until = _Until(seconds, source.time_base)

    def decode(_: None) -> TimedFrame | End:
        return until.within(source.read())

    def segment(frame: TimedFrame) -> tuple[TimedFrame, Segmented]:
        return frame, segment_with(lanes, frame.pixels, void_below)

    def encode(item: tuple[TimedFrame, Segmented]) -> Done:
        frame, segmented = item
        recording.write(frame, segmented.seen)
        height, width = segmented.seen.mask.shape
        return Done(height, width, segmented.parts_ms, class_shares(segmented.seen.mask, lanes.spec))

    stages = (
        Stage("decode", decode, 1, 0 if live else DECODED_AHEAD),
        Stage("segment", segment, count, count - 1 if live else count + ahead_of(count)),
        Stage("encode", encode, 1, RECORDED_AHEAD),
    )
    yield from run(ticks, stages, clock)


class _Until:
    """Lets frames pass until so many seconds of film are over."""

    def __init__(self, seconds: float | None, time_base: Fraction) -> None:
        self._length = None if seconds is None else Fraction(str(seconds)) / time_base
        self._end: Fraction | None = None

    def within(self, frame: TimedFrame | End) -> TimedFrame | End:
        if self._length is None or isinstance(frame, End):
            return frame
        if self._end is None:
            self._end = frame.pts + self._length
        return frame if frame.pts < self._end else END


def ticks(stop: threading.Event, seconds: float | None) -> Iterator[None]:
    """One for every frame that may be taken: until `stop` is set, or so many seconds are over."""
    end_s = None if seconds is None else time.monotonic() + seconds
    for tick in repeat(None):
        if stop.is_set() or (end_s is not None and time.monotonic() >= end_s):
            return
        yield tick
