"""Bands of a frame's rows, a thread each."""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from runtime.forks import forget
from runtime.threads import usable


def in_bands(threads: int, rows: int, loop: Callable[..., Any], *arguments: Any) -> None:
    """Call `loop(band, start, stop, *arguments)` for bands of rows, a thread each, all without Python's lock."""
    threads = min(threads, rows)
    edges = [rows * i // threads for i in range(threads + 1)]
    others = []
    if threads > 1:
        helpers = _helpers()
        helpers.keep_off_this_core()
        others = [helpers.pool.submit(loop, i, edges[i], edges[i + 1], *arguments) for i in range(1, threads)]
    loop(0, edges[0], edges[1], *arguments)
    for other in others:
        other.result()


class _Helpers:
    """The threads beside the one that calls."""

    def __init__(self) -> None:
        self.ids: list[int] = []  # the system's, of those that have started
        self.pool = ThreadPoolExecutor(max(1, usable() - 1), "segment", self._started)

    def keep_off_this_core(self) -> None:
        """Wake no helper on the core of the thread that calls, where both would wait for each other.

        When a frame is done OpenVINO's threads look for more of it on the other cores for a while, so that no core is
        idle, and the system wakes a thread where it was called from.
        """
        if core := _core_of_this_thread():
            others = os.sched_getaffinity(0) - {core()}
            for each in self.ids if others else ():
                with suppress(OSError):  # what may be used has changed meanwhile
                    os.sched_setaffinity(each, others)

    def _started(self) -> None:
        self.ids.append(threading.get_native_id())


@cache
def _core_of_this_thread() -> Callable[[], int] | None:
    # None where the system keeps no thread off a core.
    return getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


@cache
def _helpers() -> _Helpers:
    return _Helpers()


forget(_helpers.cache_clear)
