"""Several ways to do the same, measured in turns: rounds of frames, in an order drawn from a seed."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from runtime.bars import progress


def turns(random: np.random.Generator, rounds: int, frames: int, paths: int) -> np.ndarray:
    """Whose turn it is: each path once a frame, in a new order every time.

    Returns:
        int (rounds, frames * paths), indices of paths.
    """
    order = np.broadcast_to(np.arange(paths), (rounds * frames, paths))
    return random.permuted(order, axis=1).reshape(rounds, frames * paths)


def take_turns(calls: Sequence[Callable[[], float]], order: np.ndarray, until: float = math.inf) -> np.ndarray:
    """Call each path when it is its turn; a bar on a terminal moves between rounds, where nothing is timed.

    Args:
        calls: one a path; each returns the milliseconds that it took.
        order: what `turns` gives.
        until: the value of `time.monotonic` from which no round is begun any more.

    Returns:
        float64 (paths, rounds, frames) milliseconds.
    """
    taken: list[list[float]] = []
    for row in progress(order, "measure", len(order), "round"):
        if time.monotonic() >= until:
            break
        taken.append([calls[path]() for path in row])
    rows = np.array(taken, np.float64).reshape(-1, order.shape[1])
    return by_path(rows, order[: len(rows)], len(calls))


def by_path(taken_ms: np.ndarray, order: np.ndarray, paths: int) -> np.ndarray:
    """Milliseconds in the order they were taken, float (rounds, turns), sorted into (paths, rounds, frames)."""
    rounds = len(order)
    sorted_ms = np.take_along_axis(taken_ms, np.argsort(order, axis=1, kind="stable"), axis=1)
    of_path: np.ndarray = sorted_ms.reshape(rounds, paths, taken_ms.shape[1] // paths).transpose(1, 0, 2)
    return of_path


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """The call, returning its milliseconds by the host's clock."""

    def measure() -> float:
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e6

    return measure


def percentiles(samples_ms: np.ndarray) -> dict[str, float]:
    """p50, p90, p99 and the maximum of some milliseconds."""
    p50, p90, p99 = np.percentile(samples_ms, (50, 90, 99))
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "max": float(np.max(samples_ms))}
