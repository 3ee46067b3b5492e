"""Shapes and values that break kernels, the same for the CPU and for a GPU."""

import itertools

import numpy as np

from runtime.spec import Preprocess
from tests.helpers.resize_cases import logits_with_ties

# (frame height, width), (network height, width)
INPUT_SIZES = (
    ((1, 1), (1, 1)),
    ((1, 1), (8, 8)),
    ((1, 9), (4, 7)),  # one row
    ((9, 1), (7, 4)),
    ((16, 32), (16, 32)),  # the same size, in whole strips
    ((5, 7), (5, 7)),  # the same size, with a part of a strip
    ((33, 61), (16, 32)),  # down, odd
    ((13, 17), (40, 72)),  # up
    ((48, 8), (16, 64)),  # down one way, up the other
    ((64, 128), (32, 64)),  # exactly half: every value a half between whole numbers
)
# (coarse height, width) before the block, (mask height, width)
MASK_SIZES = (
    ((1, 1), (1, 1)),
    ((1, 1), (9, 11)),
    ((1, 6), (5, 30)),
    ((6, 1), (30, 5)),
    ((5, 7), (5, 7)),
    ((8, 16), (8, 16)),
    ((6, 10), (24, 40)),  # x4
    ((6, 10), (12, 20)),
    ((7, 9), (31, 46)),  # up, odd
    ((24, 40), (7, 13)),  # down
    ((16, 5), (3, 64)),
)
# (frame height, width), (network height, width): a border above and below, at both sides, or none
FITTED_SIZES = (
    ((64, 20), (16, 32)),
    ((9, 100), (16, 32)),
    ((300, 1), (16, 32)),
    ((1, 1), (16, 32)),
    ((31, 33), (24, 56)),
    ((32, 64), (16, 32)),
    ((8, 13), (8, 16)),
)
CLASSES = (1, 2, 19)
STREET = Preprocess(8, 8, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "RGB")
RAW_BGR = Preprocess(8, 8, 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "BGR")


def frames(height: int, width: int) -> dict[str, np.ndarray]:
    """uint8 (height, width, 3) frames by what they are."""
    random = np.random.default_rng(height * 1000 + width)
    extremes = random.choice(np.array([0, 255], np.uint8), (height, width, 3))
    return {"noise": random.integers(0, 256, (height, width, 3), np.uint8), "extremes": extremes}


def logits(classes: int, block: int, height: int, width: int, dtype: type) -> dict[str, np.ndarray]:
    """(1, classes * block**2, height, width) logits by what they are."""
    shape = (1, classes * block * block, height, width)
    random = np.random.default_rng(classes * 100000 + block * 10000 + height * 100 + width)
    noise = random.normal(0, 5, shape)
    # The higher id larger by one unit in the last place everywhere: between four such pixels rounding can make both
    # equal, and the lower id, which wins at none of the four, wins there.
    near = np.sort(np.repeat(random.normal(0, 5, (1, 1, height, width)), shape[1], 1).astype(dtype), axis=1)
    for channel, steps in itertools.product(range(shape[1]), range(4)):
        if channel // block**2 > steps:
            near[:, channel] = np.nextafter(near[:, channel], dtype(np.inf))
    return {
        "noise": noise.astype(dtype),
        "ties": random.integers(-1, 2, shape).astype(dtype),
        "flat": np.zeros(shape, dtype),
        "near": near,
        "large": np.clip(noise * 5000, -6e4, 6e4).astype(dtype),
        "tiny": (noise * 1e-6).astype(dtype),
    }


def confidence_logits(classes: int, block: int, height: int, width: int, dtype: type) -> dict[str, np.ndarray]:
    """`logits`, smooth ones, some of a class that is far ahead, and some with values that are no numbers."""
    smooth = logits_with_ties(classes, height, width, block, step=0.125).astype(dtype)
    found = logits(classes, block, height, width, dtype) | {"smooth": smooth, "far ahead": smooth * dtype(8)}
    random = np.random.default_rng(height * width)
    for ruin in (np.nan, np.inf, -np.inf):
        found[str(ruin)] = np.where(random.random(smooth.shape) < 0.03, dtype(ruin), smooth)
    return found
