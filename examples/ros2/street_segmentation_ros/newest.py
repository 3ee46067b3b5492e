"""From images to masks, the newest first. Needs no ROS."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from street_segmentation_ros.images import ImageError, frame_from_image


class Segmenter(Protocol):
    """What `runtime.open_backend` gives, as far as it is used."""

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> uint8 (H, W) train ids."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the images since the start, and what the last mask took."""

    received: int = 0
    segmented: int = 0
    dropped: int = 0  # a newer one came before their turn
    refused: int = 0
    last_ms: float = 0.0  # from the message's pixels to the mask


class Newest:
    """A slot for one image: what comes takes the place of what waits. Any thread may call any method."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._message: Any = None
        self._closed = False

    def put(self, message: Any) -> bool:
        """Whether an older image was dropped for this one."""
        with self._changed:
            dropped, self._message = self._message is not None, message
            self._changed.notify()
            return dropped

    def take(self) -> Any:
        """Wait for an image; None: the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._message is not None)
            message, self._message = (None if self._closed else self._message), None
            return message

    def close(self) -> None:
        """Let `take` go, now and from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Stream:
    """A thread that segments the newest image over and over.

    An image that is none is told and left out. Whatever else fails ends the thread, and is in `failure`.
    """

    def __init__(
        self, segmenter: Segmenter, publish: Callable[[np.ndarray, Any], None], tell: Callable[[str], None]
    ) -> None:
        """Start the thread.

        Args:
            segmenter: used by this thread alone.
            publish: called on the thread with a mask, uint8 (H, W), and the header of its image.
            tell: called on the thread with one line for each image that is refused.
        """
        self._segmenter, self._publish, self._tell = segmenter, publish, tell
        self._newest, self._lock = Newest(), threading.Lock()
        self._counts = dict.fromkeys(("received", "segmented", "dropped", "refused"), 0)
        self._last_ms = 0.0
        self._pool = ThreadPoolExecutor(1, "segment")
        self._running = self._pool.submit(self._run)

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread before `close` did; None: nothing has."""
        return self._running.exception() if self._running.done() else None

    def put(self, message: Any) -> None:
        """Hand in a sensor_msgs/Image; returns at once."""
        self._count("received")
        if self._newest.put(message):
            self._count("dropped")

    def counts(self) -> Counts:
        """What became of the images until now."""
        with self._lock:
            return Counts(**self._counts, last_ms=self._last_ms)

    def close(self) -> None:
        """Wait for the image that is being segmented, and end the thread."""
        self._newest.close()
        self._pool.shutdown()

    def _run(self) -> None:
        while (message := self._newest.take()) is not None:
            self._segment(message)

    def _segment(self, message: Any) -> None:
        start = time.perf_counter()
        try:
            frame = frame_from_image(message)
        except ImageError as error:
            self._count("refused")
            self._tell(str(error))
            return
        mask = self._segmenter.segment(frame)
        with self._lock:
            self._last_ms = 1000 * (time.perf_counter() - start)
        self._publish(mask, message.header)
        self._count("segmented")

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1
