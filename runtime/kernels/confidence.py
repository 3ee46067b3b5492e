"""The loops of `runtime.kernels.cpu` for `reference.confidence`, compiled when one is asked for the first time.

A cell is the space from each logit to the next, as in `loops`. Bilinear arithmetic is monotonic in its corners, so what
no corner brings to the second of the classes' smallest corners is never among the two largest inside: those two alone
are interpolated, or a few. Where the largest stays far enough ahead of all others, nothing is.
"""

import functools

import numpy as np

MOST = 255  # of a confidence
# As in `loops`: well above what four roundings can make of a value.
MARGIN = np.float32(2.0**-18)
SMALLEST = np.float32(1e-24)
LARGE = np.float32(1e37)  # between smaller logits every value is finite


def confident_cells(band, start, stop, logits, block, down, across, steps, classes, confidence):
    """`reference.confidence` for the cells below rows `start` to `stop` of the unblocked logits.

    Args:
        logits: float32 (h, w, C * block**2).
        down, across: `loops.Cells`.
        steps: `reference.CONFIDENCE_STEPS`.
        classes: uintp (bands, C), scratch.
        confidence: uint8 (height, width), written.
    """
    last_row, last = logits.shape[0] * block - 1, logits.shape[1] * block - 1
    for i in range(start, stop):
        top, bottom = down.starts[i], down.starts[i + 1]
        below = min(i + 1, last_row)
        for j in range(last + 1 if top < bottom else 0):
            left, right = across.starts[j], across.starts[j + 1]
            if left == right:
                continue
            after = min(j + 1, last)
            a, b = _corner(logits, block, i, j), _corner(logits, block, i, after)
            c, d = _corner(logits, block, below, j), _corner(logits, block, below, after)
            count = _rivals(a, b, c, d, steps[MOST - 1], classes[band])
            for y in range(top, bottom):
                for x in range(left, right):
                    u, v = (
                        (across.weight_first[x], across.weight_second[x]),
                        (down.weight_first[y], down.weight_second[y]),
                    )
                    lead = _lead(a, b, c, d, u, v, classes[band], count)
                    confidence[y, x] = _step(lead, steps) if count else MOST


def confident_pixels(band, start, stop, logits, block, steps, confidence):
    """The same at the logits' own size: uint8 (h * block, w * block)."""
    for y in range(start, stop):
        for x in range(confidence.shape[1]):
            values = _corner(logits, block, y, x)
            best = second = np.float32(-np.inf)
            finite = True
            for k in range(values.size):
                value = values[k]
                finite &= abs(value) < np.float32(np.inf)
                second = max(second, min(best, value))
                best = max(best, value)
            confidence[y, x] = _step(best - second, steps) if finite else 0


def _corner(logits, block, y, x):
    # The classes of one pixel of the unblocked logits.
    return logits[y // block, x // block, (y % block) * block + x % block :: block * block]


def _rivals(a, b, c, d, enough, classes):
    # Writes the classes that may be first or second somewhere between four corners; returns how many. 0: the first is
    # `enough` ahead of all others everywhere.
    lowest = second_lowest = highest = second_highest = np.float32(-np.inf)
    size = np.float32(0)
    for k in range(a.size):
        low, high = min(min(a[k], b[k]), min(c[k], d[k])), max(max(a[k], b[k]), max(c[k], d[k]))
        second_lowest, lowest = max(second_lowest, min(lowest, low)), max(lowest, low)
        second_highest, highest = max(second_highest, min(highest, high)), max(highest, high)
        total = abs(a[k]) + abs(b[k]) + abs(c[k]) + abs(d[k])
        size = total if size < LARGE and not total <= size else size  # what is no number stays
    if not size < LARGE:
        for k in range(a.size):
            classes[k] = k
        return a.size
    # If the class that is ahead at its smallest is not the one that reaches highest, the difference is not above 0.
    if lowest - second_highest - (size + SMALLEST) * MARGIN > enough:
        return 0
    count = 0
    for k in range(a.size):
        classes[count] = k
        count += max(max(a[k], b[k]), max(c[k], d[k])) >= second_lowest
    return count


def _lead(a, b, c, d, u, v, classes, count):
    # The largest value less the second; not a number where a value is not finite. Without weight nothing is read.
    (u0, u1), (v0, v1) = u, v
    if u1 == 0:
        b, d = a, c
    if v1 == 0:
        c, d = a, b
    best = second = np.float32(-np.inf)
    finite = True
    for n in range(count):
        k = classes[n]
        value = (a[k] * u0 + b[k] * u1) * v0 + (c[k] * u0 + d[k] * u1) * v1
        finite &= abs(value) < np.float32(np.inf)
        second = max(second, min(best, value))
        best = max(best, value)
    return best - second if finite else np.float32(np.nan)


def _step(lead, steps):
    # How many steps are not above the lead.
    if lead >= steps[MOST - 1]:
        return np.uint8(MOST)
    count, half = 0, 128
    while half:
        count += half if lead >= steps[count + half - 1] else 0
        half //= 2
    return np.uint8(count)


# Each after those that it calls.
LOOPS = (_corner, _rivals, _lead, _step, confident_cells, confident_pixels)


@functools.cache
def compile_loops() -> None:
    """As `loops.compile_loops`.

    Raises:
        ImportError: numba is not installed.
    """
    from numba import njit

    from runtime.kernels.kept import keep

    for loop in LOOPS:
        globals()[loop.__name__] = keep(njit(nogil=True, error_model="numpy")(loop))
