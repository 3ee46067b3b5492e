"""The timing of the study, with workers that only say whose turn it was."""

from types import SimpleNamespace

import numpy as np
import pytest

from runtime.measure.worker import ENGINE, Job
from streetseg.study import timing
from streetseg.study.timing import FRAMES, Timed, measure, peaks_mib


@pytest.fixture
def turns_taken(monkeypatch):
    """Names in the order in which frames were done."""
    taken = []

    class Worker:
        def __init__(self, job, frame):
            self.name, self.size = job.kind, np.load(frame).shape[:2]
            self.patience_s = 1.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def frame_ms(self):
            taken.append(self.name)
            return float(taken.count(self.name))

        def ask(self, do):
            assert do == "peak"
            return SimpleNamespace(mib=float(self.size[0]))

    monkeypatch.setattr(timing, "Worker", Worker)
    return taken


def timed(name, frame=(8, 16)):
    return Timed(name, Job(name, ()), frame)


def test_each_takes_its_frames_in_every_round_and_one_before(turns_taken):
    found = measure([timed("large"), timed("small", (4, 8))], 5)
    assert turns_taken.count("large") == turns_taken.count("small") == 1 + 5 * FRAMES
    assert np.array(found["large"]["samples_ms"]).shape == (5, FRAMES)
    assert found["large"]["p50_ms"] == 9.0  # of 2 to 16


def test_the_memory_of_each_is_that_of_a_process_with_nothing_else(turns_taken):
    assert peaks_mib([timed("large"), timed("small", (4, 8))]) == {"large": 8.0, "small": 4.0}
    assert turns_taken == ["large", "small"]


def test_each_round_holds_the_turns_of_all(turns_taken):
    measure([timed("a"), timed("b")], 4)
    rounds = [turns_taken[2:][i : i + 2 * FRAMES] for i in range(0, 8 * FRAMES, 2 * FRAMES)]
    assert [sorted(each) for each in rounds] == [["a"] * FRAMES + ["b"] * FRAMES] * 4
    assert len({tuple(each) for each in rounds}) > 1  # in another order


def test_a_job_of_an_engine_is_what_the_bench_opens():
    assert Timed("x", Job(ENGINE, ()), (1, 1)).job.kind == "engine"
