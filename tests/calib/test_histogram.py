import numpy as np
import pytest

from calib.histogram import BINS, Histogram

RNG = np.random.default_rng(5)


def of(*arrays):
    histogram = Histogram()
    for values in arrays:
        histogram.add(np.asarray(values, np.float32))
    return histogram


def test_every_value_is_counted_by_its_magnitude():
    values = RNG.normal(size=10_000).astype(np.float32)
    values[:100] = 0
    histogram = of(values)
    edges = np.arange(BINS + 1) * histogram.width
    expected, _ = np.histogram(np.abs(values[values != 0]), edges)
    assert np.array_equal(histogram.counts, expected)
    assert (histogram.zeros, histogram.largest) == (100, np.abs(values).max())


def test_a_larger_value_doubles_the_width_and_loses_no_count():
    small, large = RNG.uniform(0, 1, 5000).astype(np.float32), np.float32([900.0])
    grown, direct = of(small, large), of(np.concatenate((small, large)))
    assert grown.width == direct.width
    assert np.array_equal(grown.counts, direct.counts)
    assert grown.counts.sum() == 5001


def test_the_order_of_the_frames_does_not_matter():
    frames = [RNG.normal(scale=scale, size=3000).astype(np.float32) for scale in (0.1, 30, 2)]
    forth, back = of(*frames), of(*frames[::-1])
    assert (forth.width, forth.largest) == (back.width, back.largest)
    assert np.array_equal(forth.counts, back.counts)


def test_memory_does_not_grow_with_the_frames():
    assert of(*[RNG.normal(size=1000)] * 50).counts.shape == (BINS,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        of([0.5, value, 1.0])


def test_a_value_on_a_bins_edge_counts_in_the_upper_bin():
    histogram = of([1.0])
    assert histogram.counts[int(1 / histogram.width)] == 1
