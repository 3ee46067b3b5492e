"""Several cameras in one run."""

import threading

import pytest

from runtime.media.together import together


def test_all_jobs_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=10)
    together([meeting.wait] * 3, threading.Event())


def test_a_single_job_runs_in_this_thread():
    names = []
    together([lambda: names.append(threading.current_thread())], threading.Event())
    assert names == [threading.current_thread()]


def test_one_that_fails_stops_the_others_and_its_error_comes_out():
    stop, ended = threading.Event(), []

    def fails():
        raise OSError("disk full")

    def waits():
        assert stop.wait(10)
        ended.append(1)

    with pytest.raises(OSError, match="disk full"):
        together([waits, fails, waits], stop)
    assert ended == [1, 1]
