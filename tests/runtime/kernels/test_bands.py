"""Bands of rows are a thread each, none on the core of the thread that calls."""

import itertools
import os
import threading

import pytest

from runtime.kernels import bands
from runtime.kernels.bands import in_bands

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


MANY = pytest.mark.skipif(len(CORES) < 2, reason="one core, or a system that keeps no thread off one")


@pytest.fixture
def helper(monkeypatch):
    """There is one helper, and none before."""
    monkeypatch.setattr(bands, "usable", lambda: 2)
    bands._helpers.cache_clear()
    yield
    bands._helpers.cache_clear()


def spread(threads=2, rows=10):
    """By band its rows and what cores its thread may run on."""
    found = {}

    def loop(band, start, stop):
        found[band] = start, stop, os.sched_getaffinity(0) if CORES else set()

    in_bands(threads, rows, loop)
    return [found[band] for band in range(len(found))]


@pytest.mark.parametrize(("threads", "rows", "edges"), [(1, 5, [0, 5]), (3, 10, [0, 3, 6, 10]), (4, 2, [0, 1, 2])])
def test_rows_are_in_one_band_each(threads, rows, edges):
    assert [(start, stop) for start, stop, _ in spread(threads, rows)] == list(itertools.pairwise(edges))


def on_core(monkeypatch, core):
    monkeypatch.setattr(bands, "_core_of_this_thread", lambda: lambda: core)


@MANY
def test_a_helper_is_kept_off_the_core_of_who_calls_wherever_that_is(helper, monkeypatch):
    spread()  # its thread starts
    for here in CORES[:2] * 2:
        on_core(monkeypatch, here)
        (_, _, own), (_, _, helpers) = spread()
        assert own == set(CORES) and helpers == set(CORES) - {here}


@MANY
def test_of_two_who_call_the_second_moves_no_helper(helper, monkeypatch):
    spread()
    on_core(monkeypatch, CORES[0])
    with bands._helpers().kept_off_this_core():
        on_core(monkeypatch, CORES[1])
        assert spread()[1][2] == set(CORES) - {CORES[0]}
    assert spread()[1][2] == set(CORES) - {CORES[1]}


@MANY
def test_a_helper_that_stays_where_it_is_costs_no_call(helper, monkeypatch):
    spread()
    on_core(monkeypatch, CORES[0])
    before = spread()
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("moved"))
    assert spread() == before


@MANY
def test_on_one_core_no_helper_is_moved(helper, monkeypatch):
    spread()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(CORES[:1]))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("moved"))
    on_core(monkeypatch, CORES[0])
    assert len(spread()) == 2


@pytest.mark.skipif(not CORES, reason="a system that keeps no thread off a core")
def test_the_core_is_one_that_this_thread_may_run_on():
    assert bands._core_of_this_thread()() in CORES


def test_where_no_thread_is_kept_off_a_core_all_rows_are_done(monkeypatch):
    monkeypatch.setattr(bands, "_core_of_this_thread", lambda: None)
    done = []
    in_bands(3, 6, lambda band, start, stop: done.append((start, stop, threading.get_ident())))
    assert sorted(rows[:2] for rows in done) == [(0, 2), (2, 4), (4, 6)]


def test_what_a_band_raises_is_raised():
    def loop(band, start, stop):
        if band:
            raise ValueError(band)

    with pytest.raises(ValueError, match="1"):
        in_bands(2, 4, loop)
