"""Sizes that break resizing loops, and logits that break argmax ones."""

import numpy as np

# Rows and columns in, rows and columns out.
RESIZES = (
    (1, 1, 1, 1),
    (1, 1, 7, 5),
    (1, 9, 1, 20),
    (3, 5, 12, 20),
    (8, 16, 32, 64),
    (9, 7, 31, 50),
    (16, 16, 5, 6),
    (16, 16, 16, 16),
    (16, 16, 32, 32),
    (13, 17, 1, 1),
    (4, 4, 1, 300),
)


def logits_with_ties(classes: int, h: int, w: int, block: int = 1, *, seed: int = 0, step: float = 0.5) -> np.ndarray:
    """float32 (1, classes * block**2, h, w), smooth enough for regions, coarse enough in value for ties everywhere."""
    values = np.random.default_rng(seed).standard_normal((1, classes * block**2, h, w))
    values += np.roll(values, 1, axis=2) + np.roll(values, 1, axis=3)
    return (np.rint(values / step) * step).astype(np.float32)
