"""A live camera, through OpenCV, or a stream through PyAV: always its newest frame, older ones are counted."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.errors import FrameError
from runtime.forks import Guard
from runtime.media.frames import quiet_opencv
from runtime.media.network import NetworkCapture
from runtime.media.packets import TimedFrame
from runtime.media.pipeline import END, End
from runtime.texts import shown

GIVEN = re.compile(r"camera:(?P<index>\d+)|/dev/video\d+|(?i:rtsps?|rtmps?|rtp|srt|udp|https?)://\S+")
# A camera that skips a frame or two is not unplugged.
MISSES = 10
MISS_S = 0.05
STALL_S = 10.0  # longer than any camera's exposure, and than the time a network takes to come back
LOOK_S = 0.1
LONGEST_NAME = 150  # of 255 bytes; a time and a suffix come behind it


class Camera(ClosedOnExit):
    """The frames of a camera or a network stream. A thread takes every frame, `read` gives the newest. Thread-safe.

    `taken` counts the frames that came, `dropped` those that a newer one replaced before they were read.
    """

    rate = Fraction(30)
    missing = 0
    frames = None
    time_base = Fraction(1, 90_000)

    def __init__(
        self, given: str, *, stop: threading.Event | None = None, opened: Callable[[str], Any] | None = None
    ) -> None:
        """Open it and wait for its first frame.

        Args:
            given: camera:0, /dev/video0, or the address of a stream.
            stop: when it is set, `read` gives `END`.
            opened: makes what has `read` and `release` as cv2.VideoCapture does; another library, or a test.

        Raises:
            FrameError: there is no such camera, or it gives no frame.
        """
        if not isinstance(given, str):
            raise FrameError(f"a camera is camera:0, /dev/video0 or the address of a stream, got {given!r:.40}")
        self.name = shown_address(given)
        self.taken = self.dropped = 0
        self._stop = stop or threading.Event()
        self._capture = (opened or _opened)(given)
        self._guard = Guard(self.name, self)
        self._changed = threading.Condition()
        self._newest: tuple[np.ndarray, float] | None = None
        self._lost: str | None = None
        self._ended = self._closed = False
        self._start_s = time.monotonic()
        self._thread = threading.Thread(target=self._take, name=self.name, daemon=True)
        self._thread.start()

    def read(self) -> TimedFrame | End:
        """The newest frame that was not read yet, when there is one; `END` when it was stopped or after an error.

        Raises:
            FrameError: the camera was unplugged, the stream ended, or no frame came for `STALL_S` seconds.
            EngineError: another process, which this one was forked from, opened it.
        """
        self._guard.refuse_foreign()
        give_up = time.monotonic() + STALL_S
        with self._changed:
            while self._newest is None and not (self._lost or self._ended or self._stopped()):
                if time.monotonic() > give_up:
                    self._lost = f"gave no frame for {STALL_S:.0f} s"
                self._changed.wait(LOOK_S)
            newest, self._newest = self._newest, None
        if self._stopped() or (newest is None and self._ended):
            return END
        if newest is None:
            self._ended = True
            raise FrameError(f"{self.name}: {self._lost}, after {self.taken} frames")
        pixels, taken_s = newest
        return TimedFrame(_rgb_from_bgr(pixels), round((taken_s - self._start_s) / self.time_base))

    @property
    def notes(self) -> list[str]:
        """What was damaged on its way here so far, in one line, if anything was."""
        damaged = getattr(self._capture, "damaged", 0)
        return [f"{self.name}: {damaged} frames came damaged and were left out"] if damaged else []

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

    def _stopped(self) -> bool:
        return self._closed or self._stop.is_set()

    def _take(self) -> None:
        misses = 0
        while not self._stopped() and misses < MISSES:
            there, pixels = self._capture.read()
            misses = 0 if there else misses + 1
            if there:
                self._keep(pixels)
            else:
                time.sleep(MISS_S)
        with self._changed:
            self._lost = self._lost or "gives no more frames (unplugged, or the stream ended)"
            self._changed.notify_all()
        self._capture.release()

    def _keep(self, pixels: np.ndarray) -> None:
        with self._changed:
            self.taken += 1
            self.dropped += self._newest is not None
            self._newest = (pixels, time.monotonic())
            self._changed.notify_all()


def is_camera(given: str) -> bool:
    """Whether that names a camera or a network stream, not a file."""
    return GIVEN.fullmatch(given) is not None


def _opened(given: str) -> Any:
    index = re.fullmatch(r"(?:camera:|/dev/video)(\d+)", given)
    refused = FrameError(f"{shown_address(given)}: cannot be opened: no such camera or stream, or it is in use")
    if index is None:
        try:
            return NetworkCapture(given)
        except FrameError:
            raise refused from None
    import cv2

    with quiet_opencv():
        capture = cv2.VideoCapture(int(index[1]))
    if not capture.isOpened():
        raise refused
    # One frame in the driver's queue, not four: the newest is what is wanted.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def camera_name(given: str) -> str:
    """The camera as a file name."""
    return re.sub(r"[^\w.-]+", "-", shown_address(given).removeprefix("/dev/")).strip("-")[:LONGEST_NAME]


def film_name(given: str) -> str:
    """A file at an address as a file name: what is last in the address, with its suffix."""
    return camera_name(Path(urlsplit(shown_address(given)).path).name).replace(".", "_") or camera_name(given)


def shown_address(given: str) -> str:
    """The camera as it may be shown, in one line: without what is secret in its address."""
    return shown(given)


def _rgb_from_bgr(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
