"""The loops of `runtime.kernels.cpu` for frames, written as `loops` says; `overlay_rows` has a frame to itself."""

import numpy as np


def resize_rows(band, start, stop, frame, top, bottom, v0, v1, left, right, u0, u1, lines, resized):
    """`reference.resize_frame`: uint8 (H, W * 3) frame, its two axis tables, uint8 (height, width * 3) out.

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
            _across(frame[top[y]], left, right, u0, u1, upper)
            in_upper = top[y]
        if bottom[y] != in_lower and bottom[y] != in_upper:
            _across(frame[bottom[y]], left, right, u0, u1, lower)
            in_lower = bottom[y]
        _between(upper, upper if bottom[y] == in_upper else lower, v0[y], v1[y], resized[y])


def _across(row, left, right, u0, u1, line):
    for i in range(line.size):
        line[i] = np.float32(row[left[i]]) * u0[i] + np.float32(row[right[i]]) * u1[i]


def _between(upper, lower, weight_upper, weight_lower, out):
    for i in range(out.size):
        out[i] = np.uint8(np.rint(upper[i] * weight_upper + lower[i] * weight_lower))


def overlay_rows(frame, mask, keep, shades, line, out):
    """`reference.overlay`: uint8 (H, W * 3) frame, uint8 (H, W) mask -> uint8 (H, W * 3).

    Args:
        keep, shades: as `reference.overlay_shades` gives them.
        line: uint16 (W * 3,), the shades of a row, so that the arithmetic runs in vector registers.
    """
    for y in range(mask.shape[0]):
        row, blended = frame[y], out[y]
        for x in range(mask.shape[1]):
            k = mask[y, x]
            line[3 * x], line[3 * x + 1], line[3 * x + 2] = shades[k, 0], shades[k, 1], shades[k, 2]
        for i in range(line.size):
            blended[i] = np.uint8((row[i] * keep + line[i]) >> np.uint16(8))


# Each after those that it calls.
LOOPS = (_across, _between, resize_rows, overlay_rows)
