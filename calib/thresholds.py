"""From a tensor's histogram to the largest magnitude that its INT8 codes reach: four methods.

All are symmetric with codes -127..127: a magnitude `t` gives the scale `t / 127`, and what lies beyond is clipped.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from calib.histogram import BINS, Histogram

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

LEVELS = 127  # codes of one sign
PERCENTILE = 99.99  # of the values that are not zero
CANDIDATES = 100  # thresholds tried by "mse", equally spaced up to the largest value
SMALLEST = 1e-30  # keeps a logarithm finite


def thresholds(histogram: Histogram) -> dict[str, float]:
    """The threshold of each method; 0 for a tensor that never was anything but zero."""
    if histogram.largest == 0:
        return dict.fromkeys(METHODS, 0.0)
    return {method: min(FINDERS[method](histogram), histogram.largest) for method in METHODS}


def minmax(histogram: Histogram) -> float:
    """The largest magnitude seen: nothing is clipped."""
    return histogram.largest


def percentile(histogram: Histogram) -> float:
    """The upper edge of the bin up to which `PERCENTILE` % of the values that are not zero lie."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    return float((int(np.searchsorted(share, PERCENTILE / 100)) + 1) * histogram.width)


def mse(histogram: Histogram) -> float:
    """The threshold of least mean squared error, rounding and clipping together."""
    centres, counts = histogram.centres(), histogram.counts
    tried = histogram.largest * np.arange(1, CANDIDATES + 1) / CANDIDATES

    def error(threshold: float) -> float:
        scale = threshold / LEVELS
        codes = np.minimum(np.rint(centres / scale), LEVELS)
        # A bin narrower than a step holds values all over the step: their rounding error is that of a uniform one.
        rounding = np.where(codes < LEVELS, scale**2 / 12, 0) if histogram.width < scale else 0
        clipping = np.where(centres > threshold, (centres - threshold) ** 2, 0)
        return float(np.sum(counts * (rounding + clipping)))

    return float(min(tried, key=error))


def entropy(histogram: Histogram) -> float:
    """The threshold of least information lost, as Kullback and Leibler measure it.

    For each candidate the histogram up to it, the clipped mass on its last bin, is compared with itself quantized to
    128 levels, each level's mass spread over its bins that are not empty.

    Source: S. Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    used = int(histogram.largest / histogram.width) + 1
    first = min(LEVELS + 1, used)
    candidates = range(first, used + 1, max(1, used // 256))
    best = min(candidates, key=lambda end: _divergence(histogram.counts[:used], end))
    return float(best * histogram.width)


FINDERS: dict[Method, Callable[[Histogram], float]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def _divergence(counts: np.ndarray, end: int) -> float:
    kept = counts[:end].astype(np.float64)
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    level = np.arange(end) * (LEVELS + 1) // end
    filled = kept > 0
    mass = np.bincount(level, kept, LEVELS + 1)
    bins = np.bincount(level, filled, LEVELS + 1)
    quantized = np.where(filled, (mass / np.maximum(bins, 1))[level], 0)
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), SMALLEST)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], SMALLEST))))


assert BINS >= LEVELS + 1
