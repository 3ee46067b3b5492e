"""A stream over the network as frames, through PyAV: what was damaged on the way is left out and counted."""

from typing import Any

import numpy as np

from runtime.errors import FrameError
from runtime.media.pipeline import End
from runtime.media.video import VideoReader


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

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and it, uint8 (H, W, 3) BGR; frames that are damaged are passed over."""
        while True:
            try:
                found: Any = self._reader.read()
            except FrameError:
                self.damaged += 1
                continue
            return (False, None) if isinstance(found, End) else (True, found.pixels[..., ::-1])

    def release(self) -> None:
        """Close it."""
        self._reader.close()
