"""The loops of `runtime.kernels.cpu`, as plain Python that numba compiles when `compile_loops` is called.

Each works on the rows from `start` to `stop`, so that threads share a frame in bands; none allocates more than a row.
Float arithmetic is float32 and in the order that `runtime.reference` defines: no fastmath, no fused multiply-add.
"""

import functools

import numpy as np

# A class can be largest inside a cell only if its largest corner reaches the largest of the classes' smallest corners.
# Interpolation rounds: a class this close below may still tie, so it is computed too.
MARGIN = np.float32(1e-5)


def resize_rows(start, stop, frame, top, bottom, v0, v1, left, right, u0, u1, resized):
    """`reference.resize_frame`: uint8 (H, W, 3) frame, its two axis tables, uint8 (height, width, 3) out."""
    for y in range(start, stop):
        upper, lower, wy0, wy1 = frame[top[y]], frame[bottom[y]], v0[y], v1[y]
        for x in range(resized.shape[1]):
            x0, x1, wx0, wx1 = left[x], right[x], u0[x], u1[x]
            for c in range(3):
                above = np.float32(upper[x0, c]) * wx0 + np.float32(upper[x1, c]) * wx1
                below = np.float32(lower[x0, c]) * wx0 + np.float32(lower[x1, c]) * wx1
                resized[y, x, c] = np.uint8(np.rint(above * wy0 + below * wy1))


def label_rows(start, stop, logits, block, labels):
    """The largest class of every logit: float32 (h, w, C * block**2) -> uint8 (h * block, w * block)."""
    places = block * block
    for y in range(start, stop):
        for x in range(logits.shape[1]):
            values = logits[y, x]
            for place in range(places):
                best, label = values[place], 0
                for c in range(1, values.size // places):
                    if values[c * places + place] > best:
                        best, label = values[c * places + place], c
                labels[y * block + place // block, x * block + place % block] = label


def _corner(logits, block, y, x):
    # The logits of one pixel, as a view: every block**2-th channel from the pixel's place in its block.
    return logits[y // block, x // block, (y % block) * block + x % block :: block * block]


def _candidates(a, b, c, d, classes):
    # Writes the classes that may be largest somewhere between four corners; returns how many.
    floor = np.float32(-np.inf)
    for k in range(a.size):
        floor = max(floor, min(min(a[k], b[k]), min(c[k], d[k])))
    floor -= abs(floor) * MARGIN
    count = 0
    for k in range(a.size):
        if max(max(a[k], b[k]), max(c[k], d[k])) >= floor:
            classes[count] = k
            count += 1
    return count


def upsample_rows(start, stop, logits, block, labels, down, v0, v1, across, u0, u1, mask):
    """`reference.postprocess` for the cells below logit rows `start` to `stop`.

    Where one class is largest at all four corners of a cell it is so inside; elsewhere the classes that can be are
    interpolated. `labels` comes from `label_rows`, `down` and `across` with their weights from `cell_table`.
    """
    height, width = labels.shape
    classes = np.empty(256, np.int64)
    for i in range(start, stop):
        if down[i] == down[i + 1]:
            continue
        below = min(i + 1, height - 1)
        for j in range(width):
            right = min(j + 1, width - 1)
            label = labels[i, j]
            if label == labels[i, right] and label == labels[below, j] and label == labels[below, right]:
                for y in range(down[i], down[i + 1]):
                    for x in range(across[j], across[j + 1]):
                        mask[y, x] = label
                continue
            a, b = _corner(logits, block, i, j), _corner(logits, block, i, right)
            c, d = _corner(logits, block, below, j), _corner(logits, block, below, right)
            count = _candidates(a, b, c, d, classes)
            for y in range(down[i], down[i + 1]):
                for x in range(across[j], across[j + 1]):
                    best = np.float32(-np.inf)
                    label = 0
                    for n in range(count):
                        k = classes[n]
                        value = (a[k] * u0[x] + b[k] * u1[x]) * v0[y] + (c[k] * u0[x] + d[k] * u1[x]) * v1[y]
                        if value > best:
                            best, label = value, k
                    mask[y, x] = label


@functools.cache
def compile_loops() -> None:
    """Put numba's compiled functions, which are kept on disk, in the place of this module's own.

    Raises:
        ImportError: numba is not installed.
    """
    from numba import njit

    compiled = njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)
    for loop in (_corner, _candidates, resize_rows, label_rows, upsample_rows):
        globals()[loop.__name__] = compiled(loop)
