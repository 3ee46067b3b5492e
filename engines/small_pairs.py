"""INT8 weights of which two neighbours, multiplied by bytes, add up to no more than 16 bits hold."""

import numpy as np

LEVELS = 127  # of weights on either side of zero
MOST = (2**15 - 1) // 255  # of two neighbours of one sign: 128
# How much larger a channel's step may become, tried in sixteenths; with twice the step any two fit.
STEPS = np.arange(16, 33) / 16


def small_pairs(codes: np.ndarray, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest weights of which no two neighbouring channels' of one sign add up to more than `MOST`.

    Of each output's weights either the step grows, so that all are rounded anew, or the largest pairs give way, or
    both, whichever moves them less. An output without such a pair keeps its weights. Beside that, the weights that read
    one input keep their sum as far as integers can, so that a map that changes slowly gives the same; zeros stay.

    Args:
        codes: int8 (outputs, channels, kh, kw), -127..127; channels 2i and 2i + 1 are neighbours.
        inputs: how many inputs the channels are of: channel c reads input c % inputs. As many as channels, unless
            columns of a frame were folded into them.

    Returns:
        int8 codes of the same shape, and float64 (outputs,), by how much each output's step grew, 1 to 2.
    """
    found, wider = codes.astype(np.int64), np.ones(len(codes))
    least = np.full(len(codes), np.inf)
    for step in STEPS:
        wanted = codes / step
        tried = _whole(_kept_sums(wanted, _within(wanted), inputs))
        error = step**2 * ((tried - wanted) ** 2).sum((1, 2, 3))
        better = error < least
        found[better], wider[better], least[better] = tried[better], step, error[better]
    return found.astype(np.int8), wider


def largest_pair(codes: np.ndarray) -> int:
    """The largest sum of two neighbouring channels' weights of one sign, of (outputs, channels, kh, kw)."""
    pairs = _pairs(codes.astype(np.int64))
    return max(int(np.maximum(sign * pairs, 0).sum(2).max()) for sign in (1, -1))


def _within(values: np.ndarray) -> np.ndarray:
    # The nearest real values that fit: what is over is taken from both neighbours alike.
    pairs = _pairs(values)
    for sign in (1, -1):
        over = _over(pairs, sign)
        pairs = pairs - np.where(over > 0, sign * np.minimum(np.maximum(sign * pairs, 0), over / 2), 0)
    return _unpaired(pairs, values)


def _whole(values: np.ndarray) -> np.ndarray:
    # Of integers that rounding left over the larger neighbour gives way.
    pairs = _pairs(values)
    for sign in (1, -1):
        first = (sign * pairs[:, :, :1] >= sign * pairs[:, :, 1:]).astype(np.int64)
        pairs = pairs - sign * _over(pairs, sign) * np.concatenate([first, 1 - first], 2)
    return _unpaired(pairs, values)


def _kept_sums(wanted: np.ndarray, near: np.ndarray, inputs: int) -> np.ndarray:
    # Rounds; those that are nearest to the other integer go there until each input's sum is the wanted one.
    wanted_of, near_of = (_by_input(values, inputs) for values in (wanted, near))
    rounded = np.rint(near_of)
    missing = np.rint((wanted_of - rounded).sum(2, keepdims=True))
    towards = np.where(wanted_of == 0, -np.inf, (near_of - rounded) * np.sign(missing))
    ranks = np.argsort(np.argsort(-towards, axis=2), axis=2)
    moved = (ranks < np.abs(missing)) & (wanted_of != 0)
    return _by_channel(rounded + moved * np.sign(missing), wanted)


def _by_input(values: np.ndarray, inputs: int) -> np.ndarray:
    # (outputs, channels, kh, kw) -> (outputs, inputs, weights that read it)
    outputs, channels, high, wide = values.shape
    return values.reshape(outputs, channels // inputs, inputs, high * wide).swapaxes(1, 2).reshape(outputs, inputs, -1)


def _by_channel(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    outputs, inputs, _ = values.shape
    _, channels, high, wide = like.shape
    return values.reshape(outputs, inputs, channels // inputs, high * wide).swapaxes(1, 2).reshape(like.shape)


def _over(pairs: np.ndarray, sign: int) -> np.ndarray:
    return np.maximum(np.maximum(sign * pairs, 0).sum(2, keepdims=True) - MOST, 0)


def _pairs(values: np.ndarray) -> np.ndarray:
    # (outputs, channels, kh, kw) -> (outputs, pairs, 2, kh, kw), with a channel of zeros beside an odd last one.
    outputs, channels, high, wide = values.shape
    even = np.pad(values, ((0, 0), (0, channels % 2), (0, 0), (0, 0)))
    return even.reshape(outputs, -1, 2, high, wide)


def _unpaired(pairs: np.ndarray, like: np.ndarray) -> np.ndarray:
    return pairs.reshape(len(like), -1, *like.shape[2:])[:, : like.shape[1]]
