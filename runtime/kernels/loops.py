"""The loops of `runtime.kernels.cpu` for masks, as plain Python that `runtime.kernels.kept` has numba compile.

Each works on the rows from `start` to `stop`, so that threads share a frame in bands, and writes only its own band's
scratch memory: none allocates. Float arithmetic is float32 and in the order that
`runtime.reference` defines: no fastmath, no fused multiply-add. What is written as a choice of values
(`a if p else b`) costs no wrong guess of the CPU, and adding up comparisons runs in vector registers: that is worth a
factor of six over branches.
"""

from typing import NamedTuple

import numpy as np

UNDECIDED = 255  # no class id: see `_label_pixels`
EXACT = np.float32(0)  # a margin that leaves nothing undecided

# Between four logits a value is rounded four times, by under 2^-21 of their size; this is well above, and well below
# the steps of 16-bit logits. SMALLEST keeps out products that underflow, whose relative errors say nothing.
MARGIN = np.float32(2.0**-18)
SMALLEST = np.float32(1e-24)


class Cells(NamedTuple):
    """One axis of a mask, by the space from each logit to the next: `runtime.kernels.cpu.cell_table`."""

    starts: np.ndarray  # int32 (n_in + 1,), cell i holds the pixels starts[i] to starts[i + 1]
    weight_first: np.ndarray  # float32 (n_out,)
    weight_second: np.ndarray  # float32 (n_out,)


class Scratch(NamedTuple):
    """Working memory for one frame size, a share a band."""

    codes: np.ndarray  # uint8 (bands, W), the class of each cell of a row or UNDECIDED
    cells: np.ndarray  # int32 (bands, W), the cells that are UNDECIDED
    classes: np.ndarray  # uintp (bands, C), those that can be largest in a cell
    corners: np.ndarray  # float32 (bands, 4, C), the logits around a cell
    rows: np.ndarray  # float32 (bands, 2, w, channels), two rows of bfloat16 logits
    row_bits: np.ndarray  # uint32 (bands, 2, w * channels), the same memory


class Doubling(NamedTuple):
    """More of it, for logits that are half as many each way as the mask is made from."""

    rows: np.ndarray  # float32 (bands, 2, 2 * w, C), two doubled rows
    lines: np.ndarray  # float32 (bands, w * C), a row between two of the logits'
    wide: np.ndarray  # float32 (bands, 2, w * C), two rows of bfloat16 logits
    bits: np.ndarray  # uint32 (bands, 2, w * C), the same memory
    held: np.ndarray  # int64 (bands, 2), which rows those are


def label_pixels(band, start, stop, logits, labels):
    """The largest class of every logit: float32 (h, w, C) -> uint8 (h, w)."""
    for y in range(start, stop):
        _label_pixels(logits[y], EXACT, labels[y])


def label_pixels_bf16(band, start, stop, logits, rows, bits, labels):
    """`label_pixels` of bfloat16 logits, uint16 (h, w * C): one row at a time is float32, `Scratch.rows`."""
    for y in range(start, stop):
        _widen(logits[y], bits[band, 0])
        _label_pixels(rows[band, 0], EXACT, labels[y])


def label_pairs(band, start, stop, logits, labels):
    """The same in blocks of 2: float32 (h, w, C * 4) -> uint8 (h * 2, w * 2)."""
    for y in range(start, stop):
        _label_pairs(logits[y], EXACT, labels[2 * y], labels[2 * y + 1])


def _label_pixels(row, margin, labels):
    # UNDECIDED where a lower class comes within `margin` of the largest, as a share of their size: between four such
    # logits rounding can make the two equal, and then the lower one wins. Most pixels have their left neighbour's
    # class: whether one does is a count without a branch.
    label = 0
    for x in range(row.shape[0]):
        values = row[x]
        floor = _floor(values[label], margin)
        below = 0
        for c in range(values.size):
            below += values[c] < floor
        if below == values.size - 1:
            labels[x] = label
        else:
            label, labels[x] = _largest(values, margin)


def _largest(values, margin):
    # The largest class, the lowest of equals; and the same or UNDECIDED, as `_label_pixels` says.
    best, before, label = values[0], np.float32(-np.inf), 0
    for c in range(1, values.size):
        value = values[c]
        if value > best:
            best, before, label = value, best, c
    near = margin > 0 and label > 0 and best - before <= (max(abs(best), abs(before)) + SMALLEST) * margin
    return label, UNDECIDED if near else label


def _label_pairs(row, margin, upper, lower):
    # Blocks of 2 x 2: four largest at once, which keep the CPU's adders busy where one would wait for itself; and what
    # is second, of whatever id.
    low, first = np.float32(-np.inf), np.int32(0)
    for x in range(row.shape[0]):
        values = row[x]
        b0, b1, b2, b3 = values[0], values[1], values[2], values[3]
        s0, s1, s2, s3 = low, low, low, low
        k0, k1, k2, k3 = first, first, first, first
        for c in range(1, values.size // 4):
            v0, v1, v2, v3 = values[4 * c], values[4 * c + 1], values[4 * c + 2], values[4 * c + 3]
            k = np.int32(c)
            s0, s1 = _second(s0, b0, v0), _second(s1, b1, v1)
            s2, s3 = _second(s2, b2, v2), _second(s3, b3, v3)
            k0, b0 = k if v0 > b0 else k0, v0 if v0 > b0 else b0
            k1, b1 = k if v1 > b1 else k1, v1 if v1 > b1 else b1
            k2, b2 = k if v2 > b2 else k2, v2 if v2 > b2 else b2
            k3, b3 = k if v3 > b3 else k3, v3 if v3 > b3 else b3
        upper[2 * x], upper[2 * x + 1] = _doubted(k0, b0, s0, margin), _doubted(k1, b1, s1, margin)
        lower[2 * x], lower[2 * x + 1] = _doubted(k2, b2, s2, margin), _doubted(k3, b3, s3, margin)


def _second(second, best, value):
    other = best if value > best else value
    return other if other > second else second


def _doubted(label, best, second, margin):
    near = margin > 0 and not second < _floor(best, margin)
    return np.uint8(UNDECIDED) if near else np.uint8(label)


def _floor(value, margin):
    # What stays below it is not within the margin of the value.
    return value - (abs(value) + SMALLEST) * (margin + margin)


def mask_pixels(band, start, stop, logits, labels, down, across, scratch, mask):
    """`reference.postprocess` for the cells below logit rows `start` to `stop`.

    Where one class is largest at all four corners of a cell it is so inside; the other cells are interpolated. The
    next band labels the row at `stop` too, with the same outcome.

    Args:
        logits: float32 (h, w, C).
        labels: uint8 (h, w), written here.
        down, across: Cells.
    """
    _label_pixels(logits[start], MARGIN, labels[start])
    for i in range(start, stop):
        below = min(i + 1, labels.shape[0] - 1)
        if below > i:
            _label_pixels(logits[below], MARGIN, labels[below])
        _mask_pixels(band, i, logits[i], logits[below], labels, down, across, scratch, mask)


def mask_pixels_bf16(band, start, stop, logits, labels, down, across, scratch, mask):
    """`mask_pixels` of bfloat16 logits, uint16 (h, w * C): two rows at a time are float32."""
    rows, bits = scratch.rows[band], scratch.row_bits[band]
    _widen(logits[start], bits[start % 2])
    _label_pixels(rows[start % 2], MARGIN, labels[start])
    for i in range(start, stop):
        below = min(i + 1, labels.shape[0] - 1)
        if below > i:
            _widen(logits[below], bits[below % 2])
            _label_pixels(rows[below % 2], MARGIN, labels[below])
        _mask_pixels(band, i, rows[i % 2], rows[below % 2], labels, down, across, scratch, mask)


def double_rows(band, start, stop, logits, lines, doubled):
    """`doubling.doubled`: float32 (h, w * C) -> float32 (2 * h, 2 * w, C); lines as in `Doubling`."""
    for y in range(start, stop):
        _double(logits[y // 2], logits[_other(y, logits.shape[0])], lines[band], doubled[y])


def _other(y, rows):
    # A doubled row is three quarters of the row that it lies in and one of this row.
    return min(y // 2 + 1, rows - 1) if y % 2 else max(y // 2 - 1, 0)


def _double(near, other, line, row):
    most, least = np.float32(0.75), np.float32(0.25)
    for i in range(line.size):
        line[i] = near[i] * most + other[i] * least
    count = row.shape[1]
    end = line.size - count
    for c in range(count):
        row[0, c] = line[c] * most + line[c] * least
        row[row.shape[0] - 1, c] = line[end + c] * most + line[end + c] * least
    for x in range(row.shape[0] // 2 - 1):
        for c in range(count):
            left, right = line[x * count + c], line[(x + 1) * count + c]
            row[2 * x + 1, c] = left * most + right * least
            row[2 * x + 2, c] = right * most + left * least


def mask_doubled(band, start, stop, logits, labels, down, across, scratch, doubling, mask):
    """`mask_pixels` of `doubling.doubled` logits: float32 (h, w * C), labels uint8 (2 * h, 2 * w); see `Doubling`."""
    rows, line = doubling.rows[band], doubling.lines[band]
    for i in range(start, stop + 1):
        if i < labels.shape[0]:
            _double(logits[i // 2], logits[_other(i, logits.shape[0])], line, rows[i % 2])
            _label_pixels(rows[i % 2], MARGIN, labels[i])
        if i > start:
            below = min(i, labels.shape[0] - 1)
            _mask_pixels(band, i - 1, rows[(i - 1) % 2], rows[below % 2], labels, down, across, scratch, mask)


def mask_doubled_bf16(band, start, stop, logits, labels, down, across, scratch, doubling, mask):
    """`mask_doubled` of bfloat16 logits, uint16 (h, w * C): two rows at a time are float32."""
    rows = doubling.rows[band]
    doubling.held[band, 0] = doubling.held[band, 1] = -1
    for i in range(start, stop + 1):
        if i < labels.shape[0]:
            _double_bf16(band, i, logits, doubling)
            _label_pixels(rows[i % 2], MARGIN, labels[i])
        if i > start:
            below = min(i, labels.shape[0] - 1)
            _mask_pixels(band, i - 1, rows[(i - 1) % 2], rows[below % 2], labels, down, across, scratch, mask)


def _double_bf16(band, y, logits, doubling):
    near, other = y // 2, _other(y, logits.shape[0])
    held, wide = doubling.held[band], doubling.wide[band]
    for i in (near, other):
        if held[i % 2] != i:
            _widen(logits[i], doubling.bits[band, i % 2])
            held[i % 2] = i
    _double(wide[near % 2], wide[other % 2], doubling.lines[band], doubling.rows[band, y % 2])


def _mask_pixels(band, i, upper, under, labels, down, across, scratch, mask):
    # The cells below one row of logits.
    last = labels.shape[1] - 1
    for n in range(_fill_row(band, i, labels, down, across, scratch, mask)):
        j = scratch.cells[band, n]
        right = min(j + 1, last)
        _paint((upper[j], upper[right], under[j], under[right]), scratch.classes[band], i, j, down, across, mask)


def mask_pairs(band, start, stop, logits, labels, down, across, scratch, mask):
    """`mask_pixels` in blocks of 2: logits float32 (h, w, C * 4), labels uint8 (h * 2, w * 2)."""
    _label_pairs(logits[start], MARGIN, labels[2 * start], labels[2 * start + 1])
    for y in range(start, stop):
        below = min(y + 1, logits.shape[0] - 1)
        if below > y:
            _label_pairs(logits[below], MARGIN, labels[2 * below], labels[2 * below + 1])
        _mask_pairs(band, y, logits[y], logits[below], labels, down, across, scratch, mask)


def mask_pairs_bf16(band, start, stop, logits, labels, down, across, scratch, mask):
    """`mask_pairs` of bfloat16 logits, uint16 (h, w * C * 4): two rows at a time are float32."""
    rows, bits = scratch.rows[band], scratch.row_bits[band]
    _widen(logits[start], bits[start % 2])
    _label_pairs(rows[start % 2], MARGIN, labels[2 * start], labels[2 * start + 1])
    for y in range(start, stop):
        below = min(y + 1, logits.shape[0] - 1)
        if below > y:
            _widen(logits[below], bits[below % 2])
            _label_pairs(rows[below % 2], MARGIN, labels[2 * below], labels[2 * below + 1])
        _mask_pairs(band, y, rows[y % 2], rows[below % 2], labels, down, across, scratch, mask)


def _widen(row, bits):
    # bfloat16 -> float32: uint16 (w * channels) -> uint32 (w * channels).
    for i in range(bits.size):
        bits[i] = np.uint32(row[i]) << np.uint32(16)


def _mask_pairs(band, y, upper, lower, labels, down, across, scratch, mask):
    # The cells below both label rows of one row of blocks.
    corners, last = scratch.corners[band], labels.shape[1] - 1
    around = corners[0], corners[1], corners[2], corners[3]
    for i in range(2 * y, 2 * y + 2):
        below = min(i + 1, labels.shape[0] - 1)
        under = upper if below // 2 == y else lower
        for n in range(_fill_row(band, i, labels, down, across, scratch, mask)):
            j = scratch.cells[band, n]
            right = min(j + 1, last)
            _gather(upper[j // 2], 2 * (i % 2) + j % 2, corners[0])
            _gather(upper[right // 2], 2 * (i % 2) + right % 2, corners[1])
            _gather(under[j // 2], 2 * (below % 2) + j % 2, corners[2])
            _gather(under[right // 2], 2 * (below % 2) + right % 2, corners[3])
            _paint(around, scratch.classes[band], i, j, down, across, mask)


def _gather(values, place, corner):
    for k in range(corner.size):
        corner[k] = values[4 * k + place]


def _fill_row(band, i, labels, down, across, scratch, mask):
    # The cells of one class below a row of labels; returns how many others there are, which `scratch.cells` lists.
    first, end = down.starts[i], down.starts[i + 1]
    if first == end:
        return 0
    below = min(i + 1, labels.shape[0] - 1)
    _code_cells(labels[i], labels[below], scratch.codes[band])
    count = _fill_cells(scratch.codes[band], across.starts, mask[first], scratch.cells[band])
    for y in range(first + 1, end):
        for x in range(mask.shape[1]):  # numba compiles mask[y] = mask[first] for seconds
            mask[y, x] = mask[first, x]
    return count


def _code_cells(upper, lower, codes):
    last = upper.size - 1
    for j in range(last):
        label = upper[j]
        uniform = (label == upper[j + 1]) & (label == lower[j]) & (label == lower[j + 1])
        codes[j] = label if uniform else np.uint8(UNDECIDED)
    codes[last] = upper[last] if upper[last] == lower[last] else np.uint8(UNDECIDED)


def _fill_cells(codes, starts, line, undecided):
    # Runs of cells of one class; returns how many are left over and hold a pixel.
    count, j = 0, 0
    while j < codes.size:
        code, first = codes[j], j
        j += 1
        if code == UNDECIDED:
            undecided[count] = first
            count += starts[first] < starts[j]
            continue
        while j < codes.size and codes[j] == code:
            j += 1
        for x in range(starts[first], starts[j]):
            line[x] = code
    return count


def _candidates(a, b, c, d, classes):
    # Writes the classes that may be largest somewhere between four corners; returns how many. A class can only if its
    # largest corner reaches the largest of the classes' smallest corners; this close below, rounding makes it a tie.
    floor = np.float32(-np.inf)
    for k in range(a.size):
        floor = max(floor, min(min(a[k], b[k]), min(c[k], d[k])))
    floor -= abs(floor) * MARGIN + SMALLEST
    count = 0
    for k in range(a.size):
        classes[count] = k
        count += max(max(a[k], b[k]), max(c[k], d[k])) >= floor
    return count


def _paint(corners, classes, i, j, down, across, mask):
    # The pixels of one cell between its corners: upper left, upper right, lower left, lower right.
    a, b, c, d = corners
    count = _candidates(a, b, c, d, classes)
    u0, u1, v0, v1 = across.weight_first, across.weight_second, down.weight_first, down.weight_second
    for y in range(down.starts[i], down.starts[i + 1]):
        for x in range(across.starts[j], across.starts[j + 1]):
            best, label = np.float32(-np.inf), np.uintp(0)
            for n in range(count):
                k = classes[n]
                value = (a[k] * u0[x] + b[k] * u1[x]) * v0[y] + (c[k] * u0[x] + d[k] * u1[x]) * v1[y]
                if value > best:
                    best, label = value, k
            mask[y, x] = label


# Each after those that it calls.
LOOPS = (
    _floor, _largest, _label_pixels, label_pixels, _widen, label_pixels_bf16, _second, _doubted, _label_pairs,
    label_pairs, _code_cells, _fill_cells, _fill_row, _candidates, _paint, _mask_pixels, mask_pixels, mask_pixels_bf16,
    _gather, _mask_pairs, mask_pairs, mask_pairs_bf16, _other, _double, double_rows, mask_doubled, _double_bf16,
    mask_doubled_bf16,
)  # fmt: skip
