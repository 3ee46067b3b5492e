"""How large a tensor's values get, over any number of frames in the memory of one."""

import numba
import numpy as np

BINS = 2048


class Histogram:
    """Counts of absolute values in `BINS` equal bins from 0; zeros apart.

    A value beyond the last bin doubles the bins' width, pairs of bins merged, as often as needed: nothing is clipped
    and no frame is read twice. The first width is a power of two, so that every later one is too and the result does
    not depend on the frames' order.
    """

    def __init__(self) -> None:
        self.width = 2.0**-20
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Count the absolute values of a float32 array.

        Raises:
            ValueError: one is not finite.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        largest = float(_largest(flat))
        if not np.isfinite(largest):
            raise ValueError("a value is not finite")
        while largest >= self.width * BINS:
            self.counts = np.concatenate((self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)))
            self.width *= 2
        self.zeros += int(_count(flat, np.float32(1 / self.width), self.counts))
        self.largest = max(self.largest, largest)

    def centres(self) -> np.ndarray:
        """float64 (BINS,), the middle of each bin."""
        return (np.arange(BINS) + 0.5) * self.width


@numba.njit(nogil=True, cache=True)
def _largest(values: np.ndarray) -> np.float32:
    largest = np.float32(0)
    for value in values:
        size = abs(value)
        if not size <= largest:  # also true of NaN, which is then returned
            largest = size
            if not size < np.inf:
                return np.float32(np.inf)
    return largest


@numba.njit(nogil=True, cache=True)
def _count(values: np.ndarray, per_width: np.float32, counts: np.ndarray) -> int:
    zeros = 0
    for value in values:
        if value == 0:
            zeros += 1
        else:
            counts[int(abs(value) * per_width)] += 1
    return zeros
