"""Work in threads, for the event loop: nothing is begun for who has left, and what has begun is waited for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple


class Timed(NamedTuple):
    """What the work gave, how long it waited for a thread, how long it took, and until that was seen."""

    value: Any
    waited_ms: float
    took_ms: float
    late_ms: float = 0.0


async def in_thread(
    pool: ThreadPoolExecutor,
    work: Callable[..., Any],
    *given: Any,
    left: threading.Event | None = None,
    ends: Callable[[], bool] = lambda: False,
) -> Timed:
    """Do the work in a thread of the pool.

    Cancelled before a thread has begun it, it is never done. Cancelled later, it is finished first: whoever counts the
    work that is going on counts it to its end.

    Args:
        pool: of the thread.
        work: called with what is given.
        given: see there.
        left: set when it is cancelled, for work that can stop earlier.
        ends: whether the server does: then nobody counts any more, and the work may hang.
    """
    asked = perf_counter()
    future = pool.submit(_timed, asked, work, given)
    waiting = asyncio.wrap_future(future)
    try:
        done: Timed = await asyncio.shield(waiting)
        return done._replace(late_ms=(perf_counter() - asked) * 1e3 - done.waited_ms - done.took_ms)
    except asyncio.CancelledError:
        if left is not None:
            left.set()
        if not future.cancel() and not ends():
            await asyncio.wait([waiting])
        raise
    finally:
        # An error refers to this call, which would refer to it: a frame would live until someone looks for cycles.
        del future, waiting


def _timed(asked: float, work: Callable[..., Any], given: tuple[Any, ...]) -> Timed:
    begun = perf_counter()
    value = work(*given)
    return Timed(value, (begun - asked) * 1e3, (perf_counter() - begun) * 1e3)
