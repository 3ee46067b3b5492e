"""The loops of `runtime.kernels.cpu` for `reference.confidence`, compiled when one is asked for the first time.

A cell is the space from each logit to the next, as in `loops`. Bilinear arithmetic is monotonic in its corners, so what
no corner brings to the second of the classes' smallest corners is never among the two largest inside: those two alone
are interpolated, or a few. Where the largest stays far enough ahead of all others, nothing is.
"""

import numpy as np

MOST = 255  # of a confidence
# As in `loops`: well above what four roundings can make of a value.
MARGIN = np.float32(2.0**-18)
SMALLEST = np.float32(1e-24)
LARGE = np.float32(1e37)  # between smaller logits every value is finite
BINS = np.float32(128)  # of a lead of 1; no two steps lie in one


def first_of_bins(steps: np.ndarray) -> np.ndarray:
    """How many steps are not above the beginning of each bin: uint8, up to the last step's."""
    bins = np.arange(int(steps[-1] * BINS) + 1) / BINS
    first: np.ndarray = np.searchsorted(steps, bins, side="right").astype(np.uint8)
    return first


def confident_cells(band, start, stop, logits, block, down, across, steps, first, corners, classes, confidence):
    """`reference.confidence` for the cells below rows `start` to `stop` of the unblocked logits.

    Args:
        logits: float32 (h, w, C * block**2).
        down, across: `loops.Cells`.
        steps: `reference.CONFIDENCE_STEPS`.
        first: `first_of_bins` of them.
        corners: float32 (bands, 4, C), scratch: upper left, upper right, lower left, lower right.
        classes: uintp (bands, C), scratch.
        confidence: uint8 (height, width), written.
    """
    last_row, last = logits.shape[0] * block - 1, logits.shape[1] * block - 1
    around, rivals = corners[band], classes[band]
    for i in range(start, stop):
        below = min(i + 1, last_row)
        for j in range(last + 1 if down.starts[i] < down.starts[i + 1] else 0):
            if across.starts[j] == across.starts[j + 1]:
                continue
            after = min(j + 1, last)
            _gather(logits, block, i, j, around[0])
            _gather(logits, block, i, after, around[1])
            _gather(logits, block, below, j, around[2])
            _gather(logits, block, below, after, around[3])
            count = _rivals(around, steps[MOST - 1], rivals)
            for y in range(down.starts[i], down.starts[i + 1]):
                v0, v1 = down.weight_first[y], down.weight_second[y]
                for x in range(across.starts[j], across.starts[j + 1]):
                    u0, u1 = across.weight_first[x], across.weight_second[x]
                    confidence[y, x] = (
                        _step(_lead(around, u0, u1, v0, v1, rivals, count), steps, first) if count else MOST
                    )


def confident_pixels(band, start, stop, logits, block, steps, first, confidence):
    """The same at the logits' own size: uint8 (h * block, w * block)."""
    step = block * block
    for y in range(start, stop):
        for x in range(confidence.shape[1]):
            i, j, part = y // block, x // block, (y % block) * block + x % block
            best = second = np.float32(-np.inf)
            finite = True
            for k in range(part, logits.shape[2], step):
                value = logits[i, j, k]
                finite &= abs(value) < np.float32(np.inf)
                second = max(second, min(best, value))
                best = max(best, value)
            confidence[y, x] = _step(best - second, steps, first) if finite else 0


def _gather(logits, block, y, x, corner):
    # The classes of one pixel of the unblocked logits.
    i, j, part, step = y // block, x // block, (y % block) * block + x % block, block * block
    for k in range(corner.size):
        corner[k] = logits[i, j, k * step + part]


def _rivals(corners, enough, classes):
    # Writes the classes that may be first or second somewhere between four corners; returns how many. 0: the first is
    # `enough` ahead of all others everywhere.
    lowest = second_lowest = highest = second_highest = np.float32(-np.inf)
    size = np.float32(0)
    for k in range(classes.size):
        a, b, c, d = corners[0, k], corners[1, k], corners[2, k], corners[3, k]
        low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
        second_lowest, lowest = max(second_lowest, min(lowest, low)), max(lowest, low)
        second_highest, highest = max(second_highest, min(highest, high)), max(highest, high)
        total = abs(a) + abs(b) + abs(c) + abs(d)
        size = total if size < LARGE and not total <= size else size  # what is no number stays
    if not size < LARGE:
        for k in range(classes.size):
            classes[k] = k
        return classes.size
    # If the class that is ahead at its smallest is not the one that reaches highest, the difference is not above 0.
    if lowest - second_highest - (size + SMALLEST) * MARGIN > enough:
        return 0
    count = 0
    for k in range(classes.size):
        classes[count] = k
        highest = max(max(corners[0, k], corners[1, k]), max(corners[2, k], corners[3, k]))
        count += highest >= second_lowest
    return count


def _lead(corners, u0, u1, v0, v1, classes, count):
    # The largest value less the second; not a number where a value is not finite. Without weight nothing is read.
    right, lower = 1 if u1 != 0 else 0, 2 if v1 != 0 else 0
    best = second = np.float32(-np.inf)
    finite = True
    for n in range(count):
        k = classes[n]
        upper = corners[0, k] * u0 + corners[right, k] * u1
        value = upper * v0 + (corners[lower, k] * u0 + corners[lower + right, k] * u1) * v1
        finite &= abs(value) < np.float32(np.inf)
        second = max(second, min(best, value))
        best = max(best, value)
    return best - second if finite else np.float32(np.nan)


def _step(lead, steps, first):
    # How many steps are not above the lead; none where it is no number.
    if lead >= steps[MOST - 1]:
        return np.uint8(MOST)
    if not lead > 0:
        return np.uint8(0)
    count = first[int(lead * BINS)]
    return np.uint8(count + (lead >= steps[count]))


# Each after those that it calls.
LOOPS = (_gather, _rivals, _lead, _step, confident_cells, confident_pixels)
