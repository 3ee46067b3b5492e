"""Frames of many threads, several through the engine at once: those that wait for a lane go together."""

import threading

import numpy as np

from runtime.lanes import Lanes


class _Waiting:
    """A frame, and in the end its mask or why there is none."""

    def __init__(self, frame: np.ndarray) -> None:
        self.frame, self.done = frame, threading.Event()
        self.mask: np.ndarray | None = None
        self.parts_ms: dict[str, float] = {}
        self.error: BaseException | None = None


class Gathering:
    """`segment` for any number of threads over lanes whose engine takes several frames at once.

    Nobody waits for a group to fill: who gets a lane takes along what waits at that moment, the oldest first. A thread
    takes its own frame, or finds it taken by one that will answer it: none relies on another to come.
    """

    def __init__(self, lanes: Lanes) -> None:
        """Use these lanes; others may use them, too."""
        self._lanes, self._waiting, self._lock = lanes, list[_Waiting](), threading.Lock()

    def segment(self, frame: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """The mask of one frame.

        Args:
            frame: uint8 (H, W, 3) RGB, which any backend takes.

        Returns:
            uint8 (H, W) train ids, and the milliseconds of each part: the frame's share of its group's.

        Raises:
            EngineError, FrameError, ValueError: as `Lanes.lane` and `Backend.segment_batch`, of its group.
        """
        mine = _Waiting(frame)
        with self._lock:
            self._waiting.append(mine)
        self._serve(mine)
        mine.done.wait()
        if mine.error is not None:
            raise mine.error
        assert mine.mask is not None
        return mine.mask, mine.parts_ms

    def _serve(self, mine: _Waiting) -> None:
        try:
            with self._lanes.lane() as backend:
                with self._lock:
                    group = sorted(self._waiting, key=lambda each: each is not mine)[: self._lanes.at_once]
                    self._waiting = [each for each in self._waiting if each not in group]
                if not group:
                    return
                try:
                    frames = [each.frame for each in group]
                    masks = backend.segment_batch(frames) if len(group) > 1 else [backend.segment(frames[0])]
                    for each, mask in zip(group, masks, strict=True):
                        each.mask = mask
                        each.parts_ms = {name: ms / len(group) for name, ms in backend.stages_ms.items()}
                except BaseException as error:
                    for each in group:
                        each.error = error
                finally:
                    for each in group:
                        each.done.set()
        except BaseException as error:  # no lane: closed, or of another process
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
            mine.error = mine.error or error
            mine.done.set()
