import numpy as np
import pytest

from calib.histogram import Histogram
from calib.thresholds import FINDERS, METHODS, thresholds

RNG = np.random.default_rng(7)


def of(values):
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def quantization_error(values, threshold):
    scale = threshold / 127
    return float(np.mean((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2))


def test_min_max_is_the_largest_magnitude():
    assert FINDERS["minmax"](of([0.5, -3.25, 2])) == 3.25


def test_the_percentile_leaves_one_in_ten_thousand_out_and_zeros_do_not_count():
    values = np.concatenate((np.linspace(0.001, 1, 100_000), np.zeros(900_000)))
    assert FINDERS["percentile"](of(values)) == pytest.approx(0.9999, abs=0.002)


def test_mse_is_close_to_the_best_threshold_of_the_values_themselves():
    values = RNG.laplace(size=200_000).astype(np.float32)
    tried = np.abs(values).max() * np.arange(1, 101) / 100
    best = min(quantization_error(values, threshold) for threshold in tried)
    assert quantization_error(values, FINDERS["mse"](of(values))) <= 1.02 * best


def test_mse_keeps_the_whole_of_a_uniform_tensor():
    assert FINDERS["mse"](of(np.linspace(-1, 1, 100_000))) >= 0.98


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_a_lone_outlier_is_clipped(method):
    values = np.concatenate((RNG.normal(size=1_000_000), [60.0]))
    assert FINDERS[method](of(values)) < 30


@pytest.mark.parametrize("method", METHODS)
def test_no_threshold_is_beyond_the_largest_value_nor_zero(method):
    for values in (RNG.normal(size=1000), [1e-6], [3.0] * 10, RNG.exponential(size=50) * 1e4):
        found = thresholds(of(values))[method]
        assert 0 < found <= np.abs(np.float32(values)).max()


def test_a_tensor_that_is_always_zero_has_no_range():
    assert thresholds(of(np.zeros(100))) == dict.fromkeys(METHODS, 0.0)
