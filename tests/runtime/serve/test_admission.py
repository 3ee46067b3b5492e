import math
import random
from collections import deque
from contextlib import ExitStack, suppress
from heapq import heappop, heappush
from itertools import count
from statistics import fmean, pstdev

import pytest

from runtime.serve.admission import Admission
from runtime.serve.recent import FEWEST, KEPT, Recent
from runtime.serve.replies import Refusal

LANES, QUEUE, DONE = 2, 16, 4000
# Seconds of twenty requests: their 99 % is 2.2 times their mean, as was measured of a busy machine.
SERVICE_S = [0.07] * 6 + [0.1] * 8 + [0.15] * 4 + [0.25] * 2


class Clock:
    """Tells what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_as_many_are_let_in_as_there_are_lanes_and_places_and_one_more_when_one_is_done():
    admission = Admission(lanes=1, queue=1)
    with admission.place():
        with admission.place():
            with pytest.raises(Refusal) as caught, admission.place():
                pass
            assert caught.value.status == 503 and int(caught.value.headers["Retry-After"]) >= 1
            assert admission.taken == 2
        with admission.place():
            assert admission.taken == 2
    assert admission.taken == 0


def test_a_place_is_given_back_by_work_that_fails():
    admission = Admission(lanes=1, queue=0)
    for _ in range(3):
        with pytest.raises(KeyError), admission.place():
            raise KeyError
    assert admission.taken == 0


def test_who_comes_when_the_server_stops_is_sent_away_and_who_is_in_stays():
    admission = Admission(lanes=1, queue=5)
    with admission.place():
        admission.closed = True
        with pytest.raises(Refusal, match="stopping"), admission.place():
            pass
        assert admission.taken == 1


def test_who_is_refused_is_told_to_come_after_about_the_time_of_one_request():
    admission = Admission(lanes=1, queue=0)
    admission._mean_s = 2.5
    with admission.place(), pytest.raises(Refusal) as caught, admission.place():
        pass
    assert caught.value.headers["Retry-After"] == "3"


def test_nobody_is_late_where_nothing_is_measured_nobody_was_sent_away_or_no_bound_is_asked_for():
    time, recent = Clock(), Recent()
    admission = Admission(1, 2, clock=time)

    def waited(seconds, *, full=True):
        with admission.place() as came:
            with ExitStack() as others:
                for _ in range(2):
                    others.enter_context(admission.place())
                time.now += 1
                if full:
                    with pytest.raises(Refusal, match="come again"), admission.place():
                        pass
            time.now = came + seconds
            admission.refuse_late(came, 1, recent)

    waited(1e6)
    for _ in range(FEWEST):
        recent.add(1.0)
    waited(1e6, full=False)  # nor by one that was sent away before it came
    waited(2.0)  # as long as all the others take, who have the places before it
    with pytest.raises(Refusal, match=r"waited for 2\.01 s \(--wait-seconds\)") as caught:
        waited(2.01)
    assert caught.value.status == 503 and int(caught.value.headers["Retry-After"]) >= 1
    admission = Admission(1, 2, wait_s=0, clock=time)
    waited(1e6)
    admission = Admission(1, 2, wait_s=0.5, clock=time)
    waited(0.5, full=False)
    with pytest.raises(Refusal, match="waited"):
        waited(0.6, full=False)


def test_a_bound_is_of_the_least_mean_less_what_a_slow_one_takes_but_not_less_than_half():
    recent = Recent()
    assert recent.longest_wait_s(9) == math.inf

    def least_mean_of(seconds):
        for each in (*[50.0] * KEPT, *seconds):  # what was before them is forgotten
            recent.add(each)
        return fmean(seconds) - 2 * pstdev(seconds) / math.sqrt(KEPT)

    seconds = [1.0] * (KEPT - 8) + [3.0] * 8
    assert 9 * least_mean_of(seconds) - 3 == pytest.approx(recent.longest_wait_s(9))
    seconds[-2:] = [12.0, 12.0]
    assert 9 * least_mean_of(seconds) / 2 == pytest.approx(recent.longest_wait_s(9))


def test_what_requests_wait_for_the_event_loop_is_left_of_the_bound_twice():
    quick, busy = Recent(), Recent()
    for _ in range(KEPT):
        quick.add(1.0)
        busy.add(1.0, 0.25)
    assert quick.longest_wait_s(9) - busy.longest_wait_s(9) == pytest.approx(0.5)


@pytest.mark.parametrize("outlier_s", [0.3, 0.5, 60.0])
def test_one_outlier_takes_no_more_than_half_of_the_mean_and_nobody_is_late_at_once(outlier_s):
    recent, seconds = Recent(), [0.02] * (FEWEST - 1) + [outlier_s]
    for each in seconds:
        recent.add(each)
    assert recent.longest_wait_s(9) >= 9 * fmean(seconds) / 2 / 2


@pytest.mark.parametrize(("wait_s", "holds"), [(None, True), (0.0, False)])
def test_where_more_come_than_there_are_places_for_who_is_done_is_done_within_the_bound(wait_s, holds):
    done, late, elapsed = overloaded(wait_s)
    bound = (QUEUE + LANES) / LANES * sum(service for _, service in done) / len(done)
    took = sorted(seconds for seconds, _ in done)
    assert (took[int(0.99 * DONE)] <= bound) is holds
    assert late <= 0.4 * DONE and (late > 0) is holds
    # The lanes are never idle: who is late costs them nothing.
    assert sum(service for _, service in done) >= 0.99 * LANES * elapsed


def overloaded(wait_s):
    """Requests that come whenever there is a place, until so many are done.

    Returns:
        of those that were done, how long they were in here and in a lane; how many were late; how long it took.
    """
    time, recent, service, number = Clock(), Recent(), random.Random(1), count()
    admission = Admission(LANES, QUEUE, wait_s, time)
    waiting, busy, done, late = deque(), [], [], 0
    while len(done) < DONE:
        if len(busy) == LANES:
            time.now, _, came, seconds, place = heappop(busy)
            place.close()
            recent.add(seconds)
            done.append((time.now - came, seconds))
        with suppress(Refusal):
            while True:
                place = ExitStack()
                waiting.append((place.enter_context(admission.place()), place))
        came, place = waiting.popleft()
        try:
            admission.refuse_late(came, LANES, recent)
        except Refusal:
            late += 1
            place.close()
            continue
        seconds = service.choice(SERVICE_S)
        heappush(busy, (time.now + seconds, next(number), came, seconds, place))
    return done, late, time.now
