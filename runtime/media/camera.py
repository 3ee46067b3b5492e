"""A live camera, through OpenCV, or a stream through PyAV: always its newest frame, older ones are counted."""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.errors import FrameError
from runtime.forks import Guard
from runtime.media.local_camera import PIPELINE, Asked, as_it_comes, ask, is_local, open_local, rate_of, refuse_asked
from runtime.media.network import NetworkCapture
from runtime.media.packets import TimedFrame
from runtime.media.pipeline import END, End
from runtime.media.reconnecting import PATIENCE_S, Reconnecting
from runtime.texts import SECRET, shown

GIVEN = re.compile(r"camera:(?P<index>\d+)|/dev/video\d+|gst:.+|(?i:rtsps?|rtmps?|rtp|srt|udp|https?)://\S+")
QUOTED = re.compile(r"=\s*(\"[^\"]*\"|'[^']*')|\s+=\s*|=\s+")  # a pipeline's value, in quotes or behind a space
# A camera that skips a frame or two is not unplugged.
MISSES = 10
MISS_S = 0.05
STALL_S = 10.0  # longer than any camera's exposure, and than the time a network takes to come back
LOOK_S = 0.1
LONGEST_NAME = 150  # of 255 bytes; a time and a suffix come behind it


class Camera(ClosedOnExit):
    """The frames of a camera or a network stream. A thread takes every frame, `read` gives the newest. Thread-safe.

    `taken` counts the frames that came, `dropped` those that a newer one replaced before they were read, `reconnects`
    how often a stream was lost and came back. `rate` is what the camera announces, or 30.
    """

    missing = 0
    frames = None
    time_base = Fraction(1, 90_000)

    def __init__(
        self,
        given: str,
        *,
        stop: threading.Event | None = None,
        opened: Callable[[str], Any] | None = None,
        asked: Asked = Asked(),  # noqa: B008 - it cannot be changed
        patience_s: float = PATIENCE_S,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Open it; its first frame is waited for by `read`.

        Args:
            given: camera:0, /dev/video0, the address of a stream, or gst: and a GStreamer pipeline.
            stop: when it is set, `read` gives `END`.
            opened: makes what has `read` and `release` as cv2.VideoCapture does; another library, or a test.
            asked: size, rate and format of a camera of this machine; `notes` tells what it does not give.
            patience_s: how long what is lost is tried again, with growing pauses; 0: not at all. No pipeline is.
            told: gets a line when it is lost, and when it is back.

        Raises:
            FrameError: there is no such camera, or something is asked of a stream.
            LibraryError: PyAV is not installed, or a pipeline is given and OpenCV is without GStreamer.
        """
        if not isinstance(given, str):
            raise FrameError(f"a camera is camera:0, /dev/video0 or the address of a stream, got {given!r:.40}")
        refuse_asked(given, asked)
        self.name = shown_address(given)
        self.taken = self.dropped = 0
        self._stop = stop or threading.Event()
        self._closed, self._end_s = False, math.inf
        self._given_not: list[str] = []
        self._announced = 0.0
        again = partial(self._open, opened or _opened, given, asked)
        self._capture = (
            again()
            if given.startswith(PIPELINE)
            else Reconnecting(again, self.name, patience_s=patience_s, stopped=self._stopped, told=told)
        )
        waits = not (is_local(given) and patience_s == 0)
        self._stall_s: float = getattr(self._capture, "stall_s", STALL_S) if waits else STALL_S
        self.rate = Fraction(asked.fps or self._announced or 30).limit_denominator(1001)
        self._guard = Guard(self.name, self)
        self._changed = threading.Condition()
        self._newest: tuple[np.ndarray, float] | None = None
        self._lost: str | None = None
        self._ended = False
        self._start_s = time.monotonic()
        self._thread = threading.Thread(target=self._take, name=self.name, daemon=True)
        self._thread.start()

    def read(self) -> TimedFrame | End:
        """The newest frame that was not read yet, when there is one; `END` when it was stopped or after an error.

        Raises:
            FrameError: the camera was unplugged or gave no frame for `STALL_S` seconds; the stream ended, or was lost
                and did not come back.
            EngineError: another process, which this one was forked from, opened it.
        """
        self._guard.refuse_foreign()
        give_up = time.monotonic() + self._stall_s
        with self._changed:
            while self._newest is None and not (self._lost or self._ended or self._stopped()):
                if time.monotonic() > give_up:
                    self._lost = f"gave no frame for {self._stall_s:.0f} s"
                self._changed.wait(LOOK_S)
            newest, self._newest = self._newest, None
        if self._stopped() or (newest is None and self._ended):
            return END
        if newest is None:
            self._ended = True
            raise FrameError(f"{self.name}: {self._lost}, after {self.taken} frames")
        pixels, taken_s = newest
        return TimedFrame(_rgb_from_bgr(pixels), round((taken_s - self._start_s) / self.time_base))

    def end_after(self, seconds: float) -> None:
        """From so many seconds on, from now, `read` gives `END`, whether the line is there or not."""
        self._end_s = time.monotonic() + seconds

    @property
    def reconnects(self) -> int:
        """How often the stream was lost and came back."""
        return int(getattr(self._capture, "reconnects", 0))

    @property
    def notes(self) -> list[str]:
        """What a user should know of it so far, a line each: what it does not give, what came damaged."""
        damaged = getattr(self._capture, "damaged", 0)
        notes = [*self._given_not, *([f"{damaged} frames came damaged and were left out"] if damaged else [])]
        return [f"{self.name}: {note}" for note in notes]

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames that `read` gives."""
        while not isinstance(frame := self.read(), End):
            yield frame

    def close(self) -> None:
        """Let go of the camera; a second call does nothing, nor does one in a forked child."""
        if self._guard.foreign:
            return
        self._closed = True
        # A camera that hangs inside its driver keeps its thread; the process does not wait for it.
        self._thread.join(1)

    def _open(self, opened: Callable[[str], Any], given: str, asked: Asked) -> Any:
        # Also of a camera that was pulled and is back: it forgot what it was asked for.
        capture = opened(given)
        if asked != Asked():
            self._given_not = ask(capture, asked)
        self._announced = self._announced or (rate_of(capture) if hasattr(capture, "get") else 0.0)
        return _Steady(as_it_comes(capture), self._stopped) if is_local(given) else capture

    def _stopped(self) -> bool:
        return self._closed or self._stop.is_set() or time.monotonic() >= self._end_s

    def _take(self) -> None:
        # What is opened again has been waited for when it says no.
        misses, most = 0, 1 if isinstance(self._capture, Reconnecting) else MISSES
        while not self._stopped() and misses < most:
            there, pixels = self._capture.read()
            misses = 0 if there else misses + 1
            if there:
                self._keep(pixels)
            else:
                time.sleep(MISS_S)
        with self._changed:
            why = getattr(self._capture, "why", "") or "gives no more frames (unplugged, or the stream ended)"
            self._lost = self._lost or why
            self._changed.notify_all()
        self._capture.release()

    def _keep(self, pixels: Any) -> None:
        with self._changed:
            self.taken += 1
            self.dropped += self._newest is not None
            self._newest = (pixels, time.monotonic())
            self._changed.notify_all()


class _Steady:
    """A camera of this machine that may skip a frame or two without being lost."""

    def __init__(self, capture: Any, stopped: Callable[[], bool]) -> None:
        self._capture, self._stopped = capture, stopped

    @property
    def damaged(self) -> int:
        return int(getattr(self._capture, "damaged", 0))

    def read(self) -> tuple[bool, Any]:
        for _ in range(MISSES):
            there, pixels = self._capture.read()
            if there or self._stopped():
                return there, pixels
            time.sleep(MISS_S)
        return False, None

    def release(self) -> None:
        self._capture.release()


def is_camera(given: str) -> bool:
    """Whether that names a camera or a network stream, not a file."""
    return GIVEN.fullmatch(given) is not None


def _opened(given: str) -> Any:
    refused = FrameError(f"{shown_address(given)}: cannot be opened: no such camera or stream, or it is in use")
    try:
        local = is_local(given) or given.startswith(PIPELINE)
        capture = open_local(given) if local else NetworkCapture(given)
    except FrameError:
        raise refused from None
    if capture is None:
        raise refused
    return capture


def camera_name(given: str) -> str:
    """The camera as a file name."""
    return re.sub(r"[^\w.-]+", "-", shown_address(given).removeprefix("/dev/")).strip("-")[:LONGEST_NAME]


def film_name(given: str) -> str:
    """A file at an address as a file name: what is last in the address, with its suffix."""
    return camera_name(Path(urlsplit(shown_address(given)).path).name).replace(".", "_") or camera_name(given)


def shown_address(given: str) -> str:
    """The camera as it may be shown, in one line: without what is secret in its address, or its pipeline."""
    if given.startswith(PIPELINE):
        given = SECRET.sub(r"\1=***", QUOTED.sub(_unquoted, given))
    return shown(given)


def _unquoted(found: re.Match[str]) -> str:
    return "=" + (found[1] or "")[1:-1].replace(" ", "_")


def _rgb_from_bgr(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
