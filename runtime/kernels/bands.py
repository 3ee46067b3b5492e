"""Bands of a frame's rows, a thread each."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from runtime.forks import forget
from runtime.threads import usable


def in_bands(threads: int, rows: int, loop: Callable[..., Any], *arguments: Any) -> None:
    """Call `loop(band, start, stop, *arguments)` for bands of rows, a thread each, all without Python's lock."""
    threads = min(threads, rows)
    if threads == 1:
        loop(0, 0, rows, *arguments)
        return
    edges, helpers = [rows * i // threads for i in range(threads + 1)], _helpers()
    with helpers.kept_off_this_core():
        others = [helpers.pool.submit(loop, i, edges[i], edges[i + 1], *arguments) for i in range(1, threads)]
        loop(0, edges[0], edges[1], *arguments)
        for other in others:
            other.result()


class _Helpers:
    """The threads beside the one that calls; of several that call at once."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max(1, usable() - 1), "segment", self._started)
        self._ids: list[int] = []  # the system's, of those that have started
        self._alone = threading.Lock()
        self._kept: tuple[set[int], int] = (set(), 0)  # on which cores, how many of them

    @contextmanager
    def kept_off_this_core(self) -> Iterator[None]:
        """Within, no helper that has started is on the core of the thread that calls, where both would wait.

        When a frame is done OpenVINO's threads look for more of it on the other cores for a while, so that no core is
        idle, and the system wakes a thread where it was called from. Where another lane is within, helpers stay as they
        are.
        """
        if not self._alone.acquire(blocking=False):
            yield
            return
        try:
            self._keep_off()
            yield
        finally:
            self._alone.release()

    def _keep_off(self) -> None:
        core = _core_of_this_thread()
        others = os.sched_getaffinity(0) - {core()} if core else set()
        if not others or (others, len(self._ids)) == self._kept:
            return
        for each in self._ids:
            with suppress(OSError):  # what may be used has changed meanwhile
                os.sched_setaffinity(each, others)
        self._kept = others, len(self._ids)

    def _started(self) -> None:
        self._ids.append(threading.get_native_id())


@cache
def _core_of_this_thread() -> Callable[[], int] | None:
    # None where the system keeps no thread off a core.
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


@cache
def _helpers() -> _Helpers:
    return _Helpers()


forget(_helpers.cache_clear)
