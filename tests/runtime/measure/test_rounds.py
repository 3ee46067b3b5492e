"""Taking turns, and what is kept of it."""

import time

import numpy as np

from runtime.measure.rounds import by_path, percentiles, take_turns, timed, turns


def test_every_path_has_one_turn_a_frame():
    order = turns(np.random.default_rng(0), rounds=4, frames=5, paths=3)
    assert order.shape == (4, 15)
    assert (np.sort(order.reshape(4, 5, 3), axis=2) == np.arange(3)).all()


def test_the_order_is_a_fair_coin_and_comes_from_the_seed():
    first, again, other = (turns(np.random.default_rng(seed), 50, 20, 2) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert abs(first[:, ::2].mean() - 0.5) < 0.05


def test_times_go_to_the_path_that_took_them():
    order = turns(np.random.default_rng(0), rounds=3, frames=4, paths=2)
    clock = iter(range(1000))
    called: list[list[int]] = [[], []]

    def path(which: int) -> float:
        called[which].append(next(clock))
        return float(called[which][-1])

    samples = take_turns([lambda: path(0), lambda: path(1)], order)
    assert samples.shape == (2, 3, 4)
    assert [side.ravel().tolist() for side in samples] == called


def test_simulated_times_are_sorted_like_measured_ones():
    order = np.array([[1, 0, 0, 1]])
    assert by_path(np.array([[10.0, 1.0, 2.0, 20.0]]), order, 2).tolist() == [[[1.0, 2.0]], [[10.0, 20.0]]]


def test_a_call_is_timed_in_milliseconds():
    assert 20 <= timed(lambda: time.sleep(0.02))() < 2000


def test_percentiles_are_those_of_numpy_and_the_maximum():
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
