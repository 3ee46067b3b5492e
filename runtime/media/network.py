"""A stream over the network as frames, through PyAV: what was damaged on the way is left out and counted."""

import time
from typing import Any

import numpy as np

from runtime.errors import FrameError
from runtime.media.pipeline import End
from runtime.media.video import TIMEOUT_S, VideoReader


class NetworkCapture:
    """What `Camera` takes frames from: `read` and `release`, as cv2.VideoCapture has them.

    Packets that are lost spoil every frame up to the next key frame; OpenCV hands these on.
    """

    def __init__(self, address: str) -> None:
        """Open it.

        Raises:
            FrameError: it cannot be opened.
            LibraryError: PyAV is not installed.
        """
        self.damaged = 0
        self._reader = VideoReader(address)
        self.finite = self._reader.finite

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and it, uint8 (H, W, 3) BGR; frames that are damaged are passed over.

        Not for ever: a stream that gives nothing whole for `TIMEOUT_S` is lost.
        """
        give_up, lost = time.monotonic() + TIMEOUT_S, 0
        while self.finite or time.monotonic() < give_up:
            try:
                found: Any = self._reader.read()
            except FrameError:
                lost += 1
                continue
            if isinstance(found, End):
                self.damaged += max(0, lost - 1)  # the last error is the line's, which broke
                return False, None
            self.damaged += lost
            return True, found.pixels[..., ::-1]
        self.damaged += lost
        return False, None

    def release(self) -> None:
        """Close it."""
        self._reader.close()
