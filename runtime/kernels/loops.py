"""The loops of `runtime.kernels.cpu`, as plain Python that numba compiles when `compile_loops` is called.

Each works on the rows from `start` to `stop`, so that threads share a frame in bands, and writes only its own band's
scratch memory: none allocates. Float arithmetic is float32 and in the order that `runtime.reference` defines: no
fastmath, no fused multiply-add. What is written as a choice of values (`a if p else b`) costs no wrong guess of the
CPU, and adding up comparisons runs in vector registers: that is worth a factor of six over branches.
"""

import functools
from typing import NamedTuple

import numpy as np

UNDECIDED = 255  # no class id: see `label_row`
EXACT = np.float32(0)  # a margin that leaves nothing undecided
TILE = 64  # logits whose classes lie side by side in a tile: 11 KB of it with 11 classes in blocks of 2

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
    classes: np.ndarray  # uintp (bands, channels), those that can be largest in a cell
    bits: np.ndarray  # uint32 (bands, 2, w, channels), two rows of bfloat16 logits as float32
    values: np.ndarray  # float32 (bands, 2, w, channels), the same memory


def resize_rows(band, start, stop, frame, top, bottom, v0, v1, left, right, u0, u1, lines, resized):
    """`reference.resize_frame`: uint8 (H, W, 3) frame, its two axis tables, uint8 (height, width, 3) out.

    Args:
        left, right: where the two samples of each output value lie in a row of the frame, channels included.
        u0, u1: their weights, float32 (width * 3,) as well.
        lines: float32 (bands, 2, width * 3), frame rows resized across; both survive until they are not needed.
    """
    upper, lower = lines[band, 0], lines[band, 1]
    in_upper, in_lower = -1, -1
    for y in range(start, stop):
        if top[y] == in_lower:
            upper, lower, in_upper, in_lower = lower, upper, in_lower, in_upper
        if top[y] != in_upper:
            _across(frame[top[y]].reshape(-1), left, right, u0, u1, upper)
            in_upper = top[y]
        if bottom[y] != in_lower and bottom[y] != in_upper:
            _across(frame[bottom[y]].reshape(-1), left, right, u0, u1, lower)
            in_lower = bottom[y]
        _between(upper, upper if bottom[y] == in_upper else lower, v0[y], v1[y], resized[y].reshape(-1))


def _across(row, left, right, u0, u1, line):
    for i in range(line.size):
        line[i] = np.float32(row[left[i]]) * u0[i] + np.float32(row[right[i]]) * u1[i]


def _between(upper, lower, weight_upper, weight_lower, out):
    for i in range(out.size):
        out[i] = np.uint8(np.rint(upper[i] * weight_upper + lower[i] * weight_lower))


def widen(row, bits):
    """bfloat16 -> float32 as bits: uint16 (w, channels) -> uint32 (w, channels)."""
    short, long = row.reshape(-1), bits.reshape(-1)
    for i in range(long.size):
        long[i] = np.uint32(short[i]) << np.uint32(16)


def label_row(row, block, margin, labels):
    """The largest class of every logit: float32 (w, C * block**2) -> uint8 (block, w * block).

    UNDECIDED where a lower class comes within `margin` of it, as a share of their size: between four such logits
    rounding can make the two equal, and then the lower one wins.
    """
    if block == 1:
        _label_pixels(row, margin, labels[0])
    elif block == 2:
        _label_pairs(row, margin, labels[0], labels[1])
    else:
        for place in range(block * block):
            _label_places(row, block, place, margin, labels[place // block])


def _label_pixels(row, margin, labels):
    # Most pixels have their left neighbour's class: whether one does is a count without a branch.
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
    # The largest class, the lowest of equals; and the same or UNDECIDED, as `label_row` says.
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


def _label_places(row, block, place, margin, labels):
    # One place of every block.
    for x in range(row.shape[0]):
        labels[x * block + place % block] = _largest(row[x, place :: block * block], margin)[1]


def label_rows(band, start, stop, logits, block, labels):
    """The largest class of every logit: float32 (h, w, C * block**2) -> uint8 (h * block, w * block)."""
    for y in range(start, stop):
        label_row(logits[y], block, EXACT, labels[y * block : (y + 1) * block])


def label_rows_bf16(band, start, stop, logits, block, scratch, labels):
    """`label_rows` of bfloat16 logits, uint16."""
    for y in range(start, stop):
        widen(logits[y], scratch.bits[band, 0])
        label_row(scratch.values[band, 0], block, EXACT, labels[y * block : (y + 1) * block])


def label_pairs_bf16(band, start, stop, logits, tiles, words, best, classes, labels):
    """`label_rows` of bfloat16 logits in blocks of 2, a tile at a time, class after class in vector registers.

    Args:
        logits: uint64 (h, w, C), the four bfloat16 logits of a block and a class in each.
        tiles, words: int16 (bands, C, 4 * TILE), and its memory as uint64 (bands, C, TILE).
        best, classes: int16 (bands, 4 * TILE).
    """
    width = logits.shape[1]
    for y in range(start, stop):
        upper, lower = labels[2 * y], labels[2 * y + 1]
        for x in range(0, width, TILE):
            count = min(TILE, width - x)
            for i in range(count):
                blocks = logits[y, x + i]
                for c in range(blocks.size):
                    words[band, c, i] = blocks[c]
            _largest_of_tile(tiles[band], best[band], classes[band])
            _unpair(classes[band], upper[2 * x : 2 * (x + count)], lower[2 * x : 2 * (x + count)])


def _largest_of_tile(tile, best, classes):
    for i in range(best.size):
        best[i], classes[i] = _ordered(tile[0, i]), 0
    for c in range(1, tile.shape[0]):
        row, k = tile[c], np.int16(c)
        for i in range(best.size):
            value = _ordered(row[i])
            classes[i] = k if value > best[i] else classes[i]
            best[i] = value if value > best[i] else best[i]


def _ordered(bits):
    # A bfloat16's bits as an integer that compares as it does, -0 and 0 alike.
    sign = bits >> np.int16(15)
    return np.int16((bits ^ (sign & np.int16(0x7FFF))) - sign)


def _unpair(classes, upper, lower):
    for x in range(upper.size // 2):
        upper[2 * x], upper[2 * x + 1] = classes[4 * x], classes[4 * x + 1]
        lower[2 * x], lower[2 * x + 1] = classes[4 * x + 2], classes[4 * x + 3]


def mask_rows(band, start, stop, logits, block, labels, down, across, scratch, mask):
    """`reference.postprocess` for the pixels below logit rows `start` to `stop`: labels, then what lies between them.

    The next band labels the row at `stop` too, with the same outcome. Logits float32 (h, w, C * block**2).
    """
    last = logits.shape[0] - 1
    label_row(logits[start], block, MARGIN, labels[start * block : (start + 1) * block])
    for y in range(start, stop):
        below = min(y + 1, last)
        if below > y:
            label_row(logits[below], block, MARGIN, labels[below * block : (below + 1) * block])
        _upsample_row(band, y, logits[y], logits[below], block, labels, down, across, scratch, mask)


def mask_rows_bf16(band, start, stop, logits, block, labels, down, across, scratch, mask):
    """`mask_rows` of bfloat16 logits, uint16: two rows at a time are float32."""
    last = logits.shape[0] - 1
    bits, values = scratch.bits[band], scratch.values[band]
    widen(logits[start], bits[start % 2])
    label_row(values[start % 2], block, MARGIN, labels[start * block : (start + 1) * block])
    for y in range(start, stop):
        below = min(y + 1, last)
        if below > y:
            widen(logits[below], bits[below % 2])
            label_row(values[below % 2], block, MARGIN, labels[below * block : (below + 1) * block])
        _upsample_row(band, y, values[y % 2], values[below % 2], block, labels, down, across, scratch, mask)


def _upsample_row(band, y, upper, lower, block, labels, down, across, scratch, mask):
    # Where one class is largest at all four corners of a cell it is so inside; the other cells are interpolated.
    height, width = labels.shape
    codes, cells, classes = scratch.codes[band], scratch.cells[band], scratch.classes[band]
    for i in range(y * block, (y + 1) * block):
        rows = down.starts[i], down.starts[i + 1]
        if rows[0] == rows[1]:
            continue
        below = min(i + 1, height - 1)
        _code_cells(labels[i], labels[below], codes)
        count = _fill_cells(codes, across.starts, mask[rows[0]], cells)
        for row in range(rows[0] + 1, rows[1]):
            mask[row] = mask[rows[0]]
        under = upper if below // block == y else lower
        for n in range(count):
            j = cells[n]
            right = min(j + 1, width - 1)
            columns = across.starts[j], across.starts[j + 1]
            if columns[0] == columns[1]:
                continue
            if block == 1:
                _paint(upper[j], upper[right], lower[j], lower[right], classes, rows, columns, down, across, mask)
            else:
                a, b = _corner(upper, block, i, j), _corner(upper, block, i, right)
                c, d = _corner(under, block, below, j), _corner(under, block, below, right)
                _paint(a, b, c, d, classes, rows, columns, down, across, mask)


def _code_cells(upper, lower, codes):
    last = upper.size - 1
    for j in range(last):
        label = upper[j]
        uniform = (label == upper[j + 1]) & (label == lower[j]) & (label == lower[j + 1])
        codes[j] = label if uniform else np.uint8(UNDECIDED)
    codes[last] = upper[last] if upper[last] == lower[last] else np.uint8(UNDECIDED)


def _fill_cells(codes, starts, line, undecided):
    # Runs of cells of one class; returns how many are left over.
    count, j = 0, 0
    while j < codes.size:
        code, first = codes[j], j
        j += 1
        if code == UNDECIDED:
            undecided[count] = first
            count += 1
            continue
        while j < codes.size and codes[j] == code:
            j += 1
        for x in range(starts[first], starts[j]):
            line[x] = code
    return count


def _corner(row, block, y, x):
    # The logits of one pixel, as a view: every block**2-th channel from the pixel's place in its block.
    return row[x // block, (y % block) * block + x % block :: block * block]


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


def _paint(a, b, c, d, classes, rows, columns, down, across, mask):
    # The pixels of one cell between its corners: upper left, upper right, lower left, lower right.
    count = _candidates(a, b, c, d, classes)
    u0, u1, v0, v1 = across.weight_first, across.weight_second, down.weight_first, down.weight_second
    for y in range(rows[0], rows[1]):
        for x in range(columns[0], columns[1]):
            best, label = np.float32(-np.inf), np.uintp(0)
            for n in range(count):
                k = classes[n]
                value = (a[k] * u0[x] + b[k] * u1[x]) * v0[y] + (c[k] * u0[x] + d[k] * u1[x]) * v1[y]
                if value > best:
                    best, label = value, k
            mask[y, x] = label


# Each after those that it calls.
LOOPS = (
    _across, _between, resize_rows, widen, _floor, _largest, _label_pixels, _second, _doubted, _label_pairs,
    _label_places, label_row, label_rows, label_rows_bf16, _ordered, _largest_of_tile, _unpair, label_pairs_bf16,
    _code_cells, _fill_cells, _corner, _candidates, _paint, _upsample_row, mask_rows, mask_rows_bf16,
)  # fmt: skip


@functools.cache
def compile_loops() -> None:
    """Put numba's compiled functions, which are kept on disk, in the place of this module's own.

    Raises:
        ImportError: numba is not installed.
    """
    from numba import njit

    for loop in LOOPS:
        try:
            compiled = njit(nogil=True, cache=True, error_model="numpy")(loop)
        except RuntimeError:  # there is no folder to keep it in that can be written, as in many containers
            compiled = njit(nogil=True, error_model="numpy")(loop)
        globals()[loop.__name__] = compiled
