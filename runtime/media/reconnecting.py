"""A stream or a camera that is opened again when it is lost: with growing pauses, bounded, counted and told."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.errors import FrameError
from runtime.media.video import TIMEOUT_S

PATIENCE_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
LOOK_S = 0.1
MOST_TOLD = 20  # lines; a line that drops all night is counted on


class Reconnecting:
    """What `Camera` takes frames from, `read` and `release`, over captures that come and go. For one thread.

    A capture that has an end of its own (`finite`), as a recording has, is not begun again.
    """

    def __init__(
        self,
        opened: Callable[[], Any],
        name: str,
        *,
        patience_s: float = PATIENCE_S,
        stopped: Callable[[], bool] = lambda: False,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Open it for the first time; where that fails nothing is tried again: it may be a slip in the address.

        Args:
            opened: makes what has `read` and `release` as cv2.VideoCapture does.
            name: as it is told.
            patience_s: how long a lost stream is tried; 0: not at all.
            stopped: asked while it waits.
            told: gets a line when the stream is lost, and when it is back.

        Raises:
            FrameError: it cannot be opened.
        """
        self.reconnects, self.why = 0, ""
        self.stall_s = patience_s + 4 * TIMEOUT_S  # a read that never comes back, an attempt that begins at the end
        self._opened, self._name, self._patience_s = opened, name, patience_s
        self._stopped, self._told, self._lines = stopped, told, 0
        self._frames = self._damaged = 0
        self._capture: Any = opened()

    @property
    def damaged(self) -> int:
        """Frames that came damaged, of all connections."""
        return self._damaged + int(getattr(self._capture, "damaged", 0))

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and it, uint8 (H, W, 3) BGR; false when it is lost for good, or was stopped."""
        there, pixels = self._capture.read() if self._capture is not None else (False, None)
        if not there and self._may_come_back():
            there, pixels = self._again()
        self._frames += there
        return there, pixels

    def release(self) -> None:
        """Close it."""
        self._damaged = self.damaged
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _may_come_back(self) -> bool:
        finite = self._capture is not None and getattr(self._capture, "finite", False)
        return self._patience_s > 0 and not self.why and not finite and not self._stopped()

    def _again(self) -> tuple[bool, np.ndarray | None]:
        lost_s, tries, pause_s = time.monotonic(), 0, FIRST_PAUSE_S
        self._tell(f"lost after {self._frames} frames; it is tried again for {self._patience_s:.0f} s")
        self.release()
        while self._wait(min(pause_s, lost_s + self._patience_s - time.monotonic())):
            tries, pause_s = tries + 1, min(2 * pause_s, LONGEST_PAUSE_S)
            there, pixels = self._attempt()
            if there:
                self.reconnects += 1
                self._tell(f"back after {time.monotonic() - lost_s:.1f} s, reconnect {self.reconnects}")
                return there, pixels
        self.why = f"was lost and did not come back within {self._patience_s:.0f} s ({tries} tries)"
        return False, None

    def _attempt(self) -> tuple[bool, np.ndarray | None]:
        try:
            self._capture = self._opened()
        except FrameError:
            return False, None
        there, pixels = self._capture.read()
        if not there:
            self.release()
        return there, pixels

    def _wait(self, pause_s: float) -> bool:
        # Whether there is a next attempt: there was time for the pause, and nobody said stop.
        if pause_s <= 0:
            return False
        until = time.monotonic() + pause_s
        while not self._stopped() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))
        return not self._stopped()

    def _tell(self, what: str) -> None:
        self._lines += 1
        if self._lines <= MOST_TOLD:
            self._told(f"{self._name}: {what}")
        elif self._lines == MOST_TOLD + 1:
            self._told(f"{self._name}: is lost and back often; from here on it is counted")
