"""Stages that work at the same time: while one frame is encoded, the next is segmented and a later one decoded.

Every stage has threads of its own and holds a bounded number of items. Nothing is taken from the source before there
is room for it, so that memory does not grow however slow a stage or the consumer is.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runtime.errors import FrameError
from runtime.forks import Guard


class End:
    """What a stage's work returns when nothing comes any more: the stages after it finish what they have."""


END = End()


class Stage(NamedTuple):
    """One step of the way.

    Args:
        name: what its times are called.
        work: one item in, one out; called by `workers` threads at once.
        workers: threads.
        ahead: results that wait, or are worked on, while the one before them is given on. 0: an item is taken from
            the source only when the one before it is done, for a source whose newest item is the best.
    """

    name: str
    work: Callable[[Any], Any]
    workers: int = 1
    ahead: int = 2

    @property
    def holds(self) -> int:
        """Items that are in this stage at most."""
        return self.ahead + 1


class Passage(NamedTuple):
    """An item on its way: what the last stage made of it, and how long each took."""

    value: Any
    milliseconds: dict[str, float]


@dataclass(slots=True)
class Clock:
    """Where the time of a run went."""

    busy_ms: dict[str, float] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    started_s: float = field(default_factory=time.perf_counter)
    stopped_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stage: Stage, milliseconds: float) -> None:
        """Count the work of one item."""
        with self._lock:
            self.busy_ms[stage.name] = self.busy_ms.get(stage.name, 0.0) + milliseconds
            self.workers[stage.name] = stage.workers

    def stop(self) -> None:
        """The run is over."""
        self.stopped_s = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the start, until the end."""
        return max(1e-9, (self.stopped_s or time.perf_counter()) - self.started_s)

    def busy(self) -> dict[str, float]:
        """The part of the run, 0..1, in which each stage's threads worked; the largest is what limits the rate."""
        return {name: ms / 1e3 / self.seconds / self.workers[name] for name, ms in self.busy_ms.items()}


def overlapped(items: Iterable[Any], stages: Iterable[Stage], clock: Clock) -> Iterator[Passage]:
    """Take every item through all stages, the stages at the same time; the results are in the order of the items.

    A `FrameError` is the result of that item alone: later stages pass it on, the others go on. Any other exception
    comes out here and ends the run, as closing this iterator does: what has not begun is dropped, what has begun is
    finished, and no thread is left.

    Args:
        items: taken by the thread that iterates here, one when there is room for one.
        stages: in their order. Work that returns `END` ends the run.
        clock: gets the times.

    Raises:
        EngineError: the process that iterates was forked from the one that began.
    """
    guard = Guard("this run of frames")
    with ExitStack() as pools:
        flow: Iterator[Passage] = (Passage(item, {}) for item in items)
        for stage in stages:
            pool = ThreadPoolExecutor(stage.workers, stage.name)
            pools.callback(pool.shutdown, wait=True, cancel_futures=True)
            flow = _ahead(flow, stage, pool, clock, guard)
        yield from flow


def one_after_another(items: Iterable[Any], stages: Iterable[Stage], clock: Clock) -> Iterator[Passage]:
    """`overlapped` without threads: one item at a time goes the whole way. What overlapping is compared with."""
    chosen = tuple(stages)
    for item in items:
        passage = Passage(item, {})
        for stage in chosen:
            passage = _through(passage, stage, clock)
            if passage.value is END:
                return
        yield passage


def live_items(stages: Iterable[Stage]) -> int:
    """Items that `overlapped` holds at most, with the one that it has just given."""
    return sum(stage.holds for stage in stages) + 1


def _ahead(
    items: Iterator[Passage], stage: Stage, pool: ThreadPoolExecutor, clock: Clock, guard: Guard
) -> Iterator[Passage]:
    pending: deque[Future[Passage]] = deque()
    for item in items:
        guard.refuse_foreign()  # its futures are made by threads that a forked child does not have
        pending.append(pool.submit(_through, item, stage, clock))
        del item  # or a frame that went on long ago stays alive here
        while pending and (len(pending) > stage.ahead or pending[0].done()):
            if pending[0].result().value is END:
                return
            yield pending.popleft().result()
            guard.refuse_foreign()
    while pending:
        guard.refuse_foreign()
        if pending[0].result().value is END:
            return
        yield pending.popleft().result()


def _through(passage: Passage, stage: Stage, clock: Clock) -> Passage:
    if isinstance(passage.value, FrameError):
        return passage
    start = time.perf_counter()
    try:
        value = stage.work(passage.value)
    except FrameError as error:
        value = error
    milliseconds = (time.perf_counter() - start) * 1e3
    clock.add(stage, milliseconds)
    return Passage(value, {**passage.milliseconds, stage.name: milliseconds})
