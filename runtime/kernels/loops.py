"""The loops of `runtime.kernels.cpu`, as plain Python that numba compiles when `compile_loops` is called.

Each works on the rows from `start` to `stop`, so that threads share a frame in bands; none allocates more than a row.
Float arithmetic is float32 and in the order that `runtime.reference` defines: no fastmath, no fused multiply-add.
"""

import functools

import numpy as np

UNDECIDED = 255  # no class id: see `label_rows`
EXACT = np.float32(-1)  # a margin that leaves nothing undecided

# Between four logits a value is rounded four times, by under 2^-21 of their size; this is well above, and well below
# the steps of 16-bit logits. SMALLEST keeps out products that underflow, whose relative errors say nothing.
MARGIN = np.float32(2.0**-18)
SMALLEST = np.float32(1e-24)


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


def label_rows(start, stop, logits, block, margin, labels):
    """The largest class of every logit: float32 (h, w, C * block**2) -> uint8 (h * block, w * block).

    UNDECIDED where a lower class comes within `margin` of it, as a share of their size: between four such logits
    rounding can make the two equal, and then the lower one wins.
    """
    places = block * block
    for y in range(start, stop):
        for x in range(logits.shape[1]):
            values = logits[y, x]
            for place in range(places):
                best, before, label = values[place], np.float32(-np.inf), 0
                for c in range(1, values.size // places):
                    value = values[c * places + place]
                    if value > best:
                        best, before, label = value, best, c
                if label > 0 and best - before <= (max(abs(best), abs(before)) + SMALLEST) * margin:
                    label = UNDECIDED
                labels[y * block + place // block, x * block + place % block] = label


def _corner(logits, block, y, x):
    # The logits of one pixel, as a view: every block**2-th channel from the pixel's place in its block.
    return logits[y // block, x // block, (y % block) * block + x % block :: block * block]


def _candidates(a, b, c, d, classes):
    # Writes the classes that may be largest somewhere between four corners; returns how many. A class can only if its
    # largest corner reaches the largest of the classes' smallest corners; this close below, rounding makes it a tie.
    floor = np.float32(-np.inf)
    for k in range(a.size):
        floor = max(floor, min(min(a[k], b[k]), min(c[k], d[k])))
    floor -= abs(floor) * MARGIN + SMALLEST
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
            uniform = label == labels[i, right] and label == labels[below, j] and label == labels[below, right]
            if uniform and label != UNDECIDED:
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

    for loop in (_corner, _candidates, resize_rows, label_rows, upsample_rows):
        try:
            compiled = njit(nogil=True, cache=True, error_model="numpy")(loop)
        except RuntimeError:  # there is no folder to keep it in that can be written, as in many containers
            compiled = njit(nogil=True, error_model="numpy")(loop)
        globals()[loop.__name__] = compiled
