import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from runtime.serve.pools import in_thread


def test_work_in_a_thread_tells_how_long_it_waited_and_took():
    async def run(pool):
        gate = threading.Event()
        first = asyncio.ensure_future(in_thread(pool, gate.wait, 5))
        second = asyncio.ensure_future(in_thread(pool, lambda: 7))
        await asyncio.sleep(0.05)
        gate.set()
        one, other = await first, await second
        assert one.value is True and one.took_ms >= 40
        assert other.value == 7 and other.waited_ms >= 40

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))


def test_how_late_the_loop_sees_that_it_is_done_is_told():
    async def run(pool):
        going = asyncio.ensure_future(in_thread(pool, lambda: 7))
        await asyncio.sleep(0)
        time.sleep(0.1)  # the loop is busy
        assert 50 <= (await going).late_ms < 1000

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))


def test_what_is_cancelled_before_it_began_is_never_done_and_what_began_is_waited_for():
    done = []

    async def run(pool):
        gate, begun = threading.Event(), threading.Event()

        def work():
            begun.set()
            gate.wait(5)
            done.append("first")

        first = asyncio.ensure_future(in_thread(pool, work))
        second = asyncio.ensure_future(in_thread(pool, done.append, "second"))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 5)
        second.cancel()
        first.cancel()
        await asyncio.sleep(0.05)
        assert second.done() and not first.done()  # its lane is still taken
        gate.set()
        for each in (first, second):
            with pytest.raises(asyncio.CancelledError):
                await each

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))
    assert done == ["first"]


def test_what_the_work_raises_is_raised():
    async def run(pool):
        with pytest.raises(ZeroDivisionError):
            await in_thread(pool, lambda: 1 / 0)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(run(pool))


class Large:
    """A frame, say."""


def test_what_work_was_given_is_freed_at_once_where_it_fails():
    def work(given):
        raise ValueError

    async def run(pool, given):
        with pytest.raises(ValueError):
            await in_thread(pool, work, given)

    given = Large()
    seen = weakref.ref(given)
    gc.disable()  # nobody may have to look for cycles: it looks seldom, and a cycle of few objects may hold many MiB
    try:
        with ThreadPoolExecutor(1) as pool:
            asyncio.run(run(pool, given))
        del given
        assert seen() is None
    finally:
        gc.enable()
