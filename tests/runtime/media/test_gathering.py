"""Frames of many threads through an engine of several frames."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runtime.errors import EngineError
from runtime.lanes import Lanes
from runtime.media.gathering import Gathering
from tests.helpers.fake_backend import SPEC, FakeBackend


@pytest.fixture
def backend():
    """A backend of four frames at once that notes how many came together."""
    made = FakeBackend(SPEC)
    made.at_once, made.groups = 4, []
    segment_batch = made.segment_batch
    made.segment_batch = lambda frames, outs=None: made.groups.append(len(frames)) or segment_batch(frames, outs)
    return made


def frame(value):
    return np.full((4, 6, 3), value, np.uint8)


def waiting(gathering, count):
    with gathering._lock:
        return len(gathering._waiting) >= count


def gathered(lanes, frames, pool):
    """Every frame by a thread of its own, all of them waiting before the first gets a lane."""
    gathering = Gathering(lanes)
    with lanes.lane():
        futures = []
        for index, one in enumerate(frames):  # in this order
            futures.append(pool.submit(gathering.segment, one))
            while not waiting(gathering, index + 1):
                threading.Event().wait(0.001)
    return futures


def test_what_waits_goes_together_and_each_thread_gets_its_own_mask(backend):
    frames = [frame(value) for value in range(6)]
    with Lanes([backend]) as lanes, ThreadPoolExecutor(6) as pool:
        expected = [lanes.segment(one) for one in frames]
        found = [future.result(10) for future in gathered(lanes, frames, pool)]
    assert backend.groups == [4, 2]
    for (mask, parts_ms), alone in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, alone)
        assert set(parts_ms) == set(backend.stages_ms)


def test_an_error_of_a_group_reaches_every_thread_of_it(backend):
    def refuse(frames, outs=None):
        raise EngineError("the engine cannot")

    backend.segment_batch = refuse
    with Lanes([backend]) as lanes, ThreadPoolExecutor(3) as pool:
        for future in gathered(lanes, [frame(value) for value in range(3)], pool):
            with pytest.raises(EngineError, match="the engine cannot"):
                future.result(10)


def test_an_engine_that_is_closed_lets_nobody_wait(backend):
    lanes = Lanes([backend])
    gathering = Gathering(lanes)
    lanes.close()
    with pytest.raises(ValueError, match="closed"):
        gathering.segment(frame(1))
    assert not waiting(gathering, 1)
