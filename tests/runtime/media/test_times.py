"""When frames are shown."""

import pytest

from runtime.media.times import Times

STEP = 10


def shown(given, **settings):
    times = Times(STEP, **settings)
    return [times.shown(pts) for pts in given]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([5, 15, 40, 41], [5, 15, 40, 41]),
        ([None, None, None], [0, 10, 20]),
        ([0, 10, 20, 0, 10, 20], [0, 10, 20, 30, 40, 50]),
        ([0, 10, 20, 0, 10, 20, 0, 10], [0, 10, 20, 30, 40, 50, 60, 70]),
        ([1000, 1010, 500, 510], [1000, 1010, 1020, 1030]),
        # Two frames of one time, and two in the wrong order: a moment behind each other, and the clock stays.
        ([0, 10, 10, 20], [0, 10, 11, 20]),
        ([0, 10, 30, 20, 40], [0, 10, 30, 31, 40]),
        # One time that is damaged does not move those behind it.
        ([1000, 1010, 3, 1030, 1040], [1000, 1010, 1020, 1030, 1040]),
    ],
)
def test_times_only_go_on_and_a_clock_that_starts_anew_goes_on_a_step_later(given, expected):
    assert shown(given) == expected


def test_a_jump_is_none_only_where_clocks_jump():
    assert shown([0, 10, 5000, 5010]) == [0, 10, 5000, 5010]
    assert shown([0, 10, 5000, 5010], jump=1000) == [0, 10, 20, 30]


def test_a_gap_is_counted_and_a_new_start_is_none():
    times = Times(STEP)
    for pts in [*range(0, 100, 10), 130, 140, *range(0, 100, 10)]:
        times.shown(pts)
    assert times.missing == 3 and times.end == times.last + STEP
