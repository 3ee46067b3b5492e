"""The newest frame of what a run sees, for who looks on: `runtime.media.preview`, `runtime.media.window`."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.media.outputs import Seen

LONGEST_SIDE, QUALITY = 1280, 80

Drawn = Callable[[np.ndarray, Seen], np.ndarray]


class View:
    """The newest frame of one source. Thread-safe; a picture of it is made only where somebody looks."""

    def __init__(self, name: str, drawn: Drawn) -> None:
        """Nothing yet."""
        self.name, self._drawn = name, drawn
        self._changed, self._encoding = threading.Condition(), threading.Lock()
        self._newest: tuple[np.ndarray, Seen] | None = None
        self._number = 0
        self._made: tuple[int, bytes] = (0, b"")

    def see(self, frame: np.ndarray, seen: Seen) -> None:
        """Take the newest: uint8 (H, W, 3) RGB and what was seen in it; both stay as they are from here on."""
        with self._changed:
            self._newest, self._number = (frame, seen), self._number + 1
            self._changed.notify_all()

    def drawn(self, seen: int, wait_s: float) -> tuple[int, np.ndarray] | None:
        """The newest after number `seen`, and its number, at most `LONGEST_SIDE` long; None where none came in time.

        Returns:
            uint8 (h, w, 3) RGB.
        """
        import cv2

        with self._changed:
            if not self._changed.wait_for(lambda: self._number > seen, wait_s) or self._newest is None:
                return None
            number, newest = self._number, self._newest
        pixels = self._drawn(*newest)
        scale = LONGEST_SIDE / max(pixels.shape[:2])
        if scale < 1:
            pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        return number, pixels

    def jpeg(self, seen: int, wait_s: float) -> tuple[int, bytes] | None:
        """The same as a JPEG; of many that look, one makes it."""
        import cv2

        with self._encoding:
            if self._made[0] > seen and self._made[0] == self._number:
                return self._made
            if (found := self.drawn(seen, wait_s)) is None:
                return None
            number, pixels = found
            bgr = np.ascontiguousarray(pixels[..., ::-1])
            data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
            self._made = (number, data)
            return self._made


class Shown:
    """A recording whose frames are shown, too."""

    def __init__(self, recording: Any, views: Sequence[View]) -> None:
        """Frames go to the recording, then to the views."""
        self._recording, self._views = recording, views

    def write(self, frame: Any, seen: Seen) -> None:
        """Take one."""
        self._recording.write(frame, seen)
        for view in self._views:
            view.see(frame.pixels, seen)
