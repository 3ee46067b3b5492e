"""All times of one page: one run, in which what is compared takes turns, each engine in a process of its own."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.cli import log
from runtime.measure.rounds import percentiles, take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import Job, Worker, warm_up
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET

ROUNDS = 5
FRAMES = 3  # a round


class Timed(NamedTuple):
    """What takes turns: its name, what a worker opens, and the frame's height and width."""

    name: str
    job: Job
    frame: tuple[int, int]


def measure(group: Sequence[Timed], rounds: int = ROUNDS) -> dict[str, Any]:
    """The times of a group, all open at once, in turns after one frame each; JSON values by name.

    Each has its samples and their median in ms, from frame to mask.

    Raises:
        EngineError: one of them cannot be opened, or fails.
    """
    with scratch() as folder, ExitStack() as stack:
        frames = _frames({timed.frame for timed in group}, folder)
        workers = [_opened(stack, timed, frames) for timed in group]
        warm_up(workers, 1)
        taking = [i for i in range(len(group)) for _ in range(FRAMES)]
        log(f"measuring {rounds} rounds of {len(group)} engines, {len(taking)} frames a round")
        order = turns(np.random.default_rng(0), rounds, 1, len(taking))
        taken = take_turns([workers[i].frame_ms for i in taking], order)[:, :, 0]
        return {
            timed.name: _figures(taken[[j for j, of in enumerate(taking) if of == i]].T)
            for i, timed in enumerate(group)
        }


def peaks_mib(group: Sequence[Timed]) -> dict[str, float]:
    """By name the most memory in MiB of a process that opens it and segments two frames.

    Raises:
        EngineError: one of them cannot be opened, or fails.
    """
    found = {}
    with scratch() as folder:
        frames = _frames({timed.frame for timed in group}, folder)
        for timed in group:
            with ExitStack() as stack:
                worker = _opened(stack, timed, frames)
                warm_up([worker], 1)
                found[timed.name] = worker.ask(do="peak").mib
    return found


def _opened(stack: ExitStack, timed: Timed, frames: Mapping[tuple[int, int], Path]) -> Worker:
    log(f"opening {timed.name}")
    return stack.enter_context(Worker(timed.job, frames[timed.frame]))


def _frames(sizes: set[tuple[int, int]], folder: Path) -> dict[tuple[int, int], Path]:
    street, paths = read_frame(STREET), {}
    for height, width in sizes:
        paths[height, width] = folder / f"{height}x{width}.npy"
        np.save(paths[height, width], resize_frame(street, height, width))
    return paths


def _figures(samples_ms: np.ndarray) -> dict[str, Any]:
    # float (rounds, frames a round)
    return {"p50_ms": percentiles(samples_ms)["p50"], "samples_ms": np.round(samples_ms, 3).tolist()}
