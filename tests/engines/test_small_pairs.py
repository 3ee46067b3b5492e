import numpy as np
import pytest

from engines.small_pairs import LEVELS, MOST, largest_pair, small_pairs


def weights(shape, *, spread=40, seed=0):
    values = np.random.default_rng(seed).laplace(0, spread, shape)
    return np.clip(np.rint(values), -LEVELS, LEVELS).astype(np.int8)


def values_of(small, wider):
    return small * wider.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shape", "inputs"),
    [((16, 12, 6, 2), 3), ((8, 7, 3, 3), 7), ((8, 1, 3, 3), 1), ((8, 64, 1, 1), 64), ((1, 2, 1, 1), 2)],
)
def test_no_two_neighbours_of_one_sign_add_up_to_more(shape, inputs, seed):
    codes = weights(shape, seed=seed)
    small, wider = small_pairs(codes, inputs)
    assert largest_pair(small) <= MOST
    assert small.shape == codes.shape and small.dtype == np.int8
    assert np.all((wider >= 1) & (wider <= 2)) and not small[codes == 0].any()


@pytest.mark.parametrize("value", [LEVELS, -LEVELS])
def test_where_every_weight_is_the_largest_the_step_doubles(value):
    codes = np.full((2, 4, 3, 3), value, np.int8)
    small, wider = small_pairs(codes, 4)
    assert largest_pair(codes) == 2 * LEVELS and largest_pair(small) <= MOST
    assert np.abs(values_of(small, wider) - codes).max() <= 1


def test_an_output_whose_pairs_fit_keeps_its_weights():
    codes = weights((4, 6, 3, 3))
    codes[1] = np.clip(codes[1], -64, 64)
    codes[2] = 0
    codes[2, 0], codes[2, 1] = LEVELS, -LEVELS  # of two signs nothing adds up
    small, wider = small_pairs(codes, 6)
    assert np.array_equal(small[1:3], codes[1:3]) and np.all(wider[1:3] == 1)
    assert not np.array_equal(small[0], codes[0])


def test_they_move_less_than_codes_of_half_the_range_would():
    codes = weights((32, 64, 3, 3))
    moved = values_of(*small_pairs(codes, 64)) - codes
    halved = 2 * np.rint(codes / 2) - codes
    assert np.square(moved).mean() < 0.7 * np.square(halved).mean()


@pytest.mark.parametrize(("channels", "inputs"), [(16, 16), (12, 3)])
def test_the_weights_of_an_input_keep_their_sum(channels, inputs):
    codes = weights((32, channels, 5, 5))
    moved = (values_of(*small_pairs(codes, inputs)) - codes).reshape(32, channels // inputs, inputs, 25)
    sums = moved.sum((1, 3))
    assert np.abs(sums).mean() < 0.75 and np.abs(sums).max() <= 4
    assert moved.any()
