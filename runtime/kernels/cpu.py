"""Pre- and post-processing on the CPU: the arithmetic of `runtime.reference`, compiled, on all cores, bit for bit.

The loops are in `loops.py`. Without numba, which compiles them, the definitions in NumPy do the work, many times
slower, and say so once.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from runtime import reference
from runtime.spec import ModelSpec, Preprocess

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_ONCE = threading.Lock()


class FrameResizer:
    """Frames to a network's size as uint8; one frame size at a time is prepared, and kept."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._size = (preprocess.height, preprocess.width)
        self._shape: tuple[int, ...] = ()

    def resize(self, frame: np.ndarray) -> np.ndarray:
        """`reference.resize_frame` to the network's size.

        Args:
            frame: uint8 (H, W, 3).

        Returns:
            uint8 (height, width, 3): the frame itself where it has that size and is contiguous, else a buffer that the
            next call overwrites.
        """
        if frame.shape[:2] == self._size:
            return np.ascontiguousarray(frame)
        loops = compiled_loops()
        if loops is None:
            return reference.resize_frame(frame, *self._size)
        if frame.shape != self._shape:
            self._shape = frame.shape
            self._down = reference.axis_table(frame.shape[0], self._size[0])
            self._across = reference.axis_table(frame.shape[1], self._size[1])
            self._resized = np.empty((*self._size, 3), np.uint8)
        in_bands(
            self._size[0], loops.resize_rows, np.ascontiguousarray(frame), *self._down, *self._across, self._resized
        )
        return self._resized


class Segmenter:
    """Logits to masks; the tables and the label map of one frame size are kept."""

    def __init__(self, spec: ModelSpec) -> None:
        self._block = spec.block
        self._key: tuple[int, ...] = ()

    def segment(self, logits: np.ndarray, height: int, width: int) -> np.ndarray:
        """`reference.postprocess` for logits that have their channels last.

        Args:
            logits: float32 (h, w, classes * block**2), contiguous.
            height, width: of the frame.

        Returns:
            uint8 (height, width), a new array.
        """
        loops = compiled_loops()
        if loops is None:
            return reference.postprocess(logits.transpose(2, 0, 1)[None], height, width, block=self._block)
        h, w = logits.shape[0] * self._block, logits.shape[1] * self._block
        self._prepare(h, w, height, width)
        mask = np.empty((height, width), np.uint8)
        if (h, w) == (height, width):
            in_bands(logits.shape[0], loops.label_rows, logits, self._block, loops.EXACT, mask)
            return mask
        in_bands(logits.shape[0], loops.label_rows, logits, self._block, loops.MARGIN, self._labels)
        in_bands(h, loops.upsample_rows, logits, self._block, self._labels, *self._down, *self._across, mask)
        return mask

    def _prepare(self, h: int, w: int, height: int, width: int) -> None:
        if (h, w, height, width) == self._key:
            return
        self._key = (h, w, height, width)
        self._labels = np.empty((h, w), np.uint8)
        self._down = cell_table(h, height)
        self._across = cell_table(w, width)


def cell_table(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reference.axis_table` grouped by cell, the space from one input sample to the next.

    Returns:
        starts: int32 (n_in + 1,), cell i holds the outputs starts[i] to starts[i + 1].
        weight_first, weight_second: float32 (n_out,).
    """
    table = reference.axis_table(n_in, n_out)
    starts = np.searchsorted(table.first, np.arange(n_in + 1)).astype(np.int32)
    return starts, table.weight_first, table.weight_second


def in_bands(rows: int, loop: Callable[..., Any], *arguments: Any) -> None:
    """Call `loop(start, stop, *arguments)` for bands of rows, a thread each; the loops run without Python's lock."""
    threads = min(THREADS, rows)
    edges = [rows * i // threads for i in range(threads + 1)]
    others = [_pool().submit(loop, edges[i], edges[i + 1], *arguments) for i in range(1, threads)]
    loop(edges[0], edges[1], *arguments)
    for other in others:
        other.result()


def compiled_loops() -> ModuleType | None:
    """`runtime.kernels.loops`, or None where numba is not installed, which is said once on stderr."""
    with _ONCE:  # two lanes may ask for it at the same time, and numba refuses what is compiled already
        return _compiled_loops()


@cache
def _compiled_loops() -> ModuleType | None:
    from runtime.kernels import loops

    try:
        loops.compile_loops()
    except ImportError as error:
        print(f"numba does not load ({error}): pre- and post-processing run in NumPy, slowly", file=sys.stderr)
        return None
    return loops


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, THREADS - 1), "segment")
