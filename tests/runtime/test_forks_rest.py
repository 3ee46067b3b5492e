"""A fork waits until the threads of libraries sleep, for a moment, and never for those of Python."""

import _thread
import ctypes
import time

import numba
import numpy as np

from runtime import forks
from tests.helpers.children import in_child

SOON_S = 10.0  # in which the threads that other tests left are asleep


def test_a_fork_waits_for_a_library_s_thread_that_runs_and_not_for_ever(monkeypatch):
    done, steps = 0, slice(1, 3)  # of `values`: whether it ended; how far it goes, read at either place in turn
    values = np.zeros(3, np.int64)

    @numba.cfunc("int64(CPointer(int64))")
    def work(values):
        number, step = values[0], 0
        while step < values[1 + (number & 1)]:  # each step needs the one before it, and looks whether it is the last
            number = number * 6364136223846793005 + 1442695040888963407
            step += 1
        values[0] = number | 1
        return 0

    monkeypatch.setattr(forks, "_guarded", True)  # as with an engine open
    libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
    for rest_s, last in ((20.0, 100_000_000), (0.0, 2**62)):
        monkeypatch.setattr(forks, "REST_S", rest_s)
        values[done], values[steps] = 0, last
        assert libc.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(work.address), values.ctypes) == 0
        try:
            assert in_child(lambda: int(values[done]) != 0) == (rest_s > 0)
        finally:
            values[steps] = 0
            libc.pthread_join(thread, None)


def test_a_thread_that_threading_does_not_know_does_not_take_itself_for_a_library_s():
    found = []

    def look():
        until, awake = time.monotonic() + SOON_S, True
        while awake and time.monotonic() < until:
            awake = forks._is_awake()
        found.append(awake)

    _thread.start_new_thread(look, ())
    while not found:
        time.sleep(0.01)
    assert found == [False]


class Clock:
    """In the place of `time`."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_beside_a_thread_that_never_sleeps_frames_are_held_up_for_a_quarter_of_a_second_at_most(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(forks, "time", clock)
    monkeypatch.setattr(forks, "_is_awake", lambda: True)
    forks._rest()
    assert 0.1 < clock.now < 0.3
