"""Where the mask of a frame cannot be written."""

import numpy as np


def outs():
    """(frame, out, words of the refusal) of each kind."""
    frame = np.zeros((4, 6, 3), np.uint8)
    read_only = np.zeros((4, 6), np.uint8)
    read_only.flags.writeable = False
    overlapping = np.lib.stride_tricks.as_strided(np.zeros(6, np.uint8), (4, 6), (0, 1))
    size = r"is written to uint8 \(4, 6\), got"
    return [
        (frame, np.zeros((6, 4), np.uint8), rf"{size} uint8 \(6, 4\)"),
        (frame, np.zeros((4, 6), np.int64), rf"{size} int64 \(4, 6\)"),
        (frame, np.zeros((4, 6, 1), np.uint8), size),
        (frame, [[0] * 6] * 4, rf"{size} list"),
        (frame, read_only, "read-only"),
        (frame, overlapping, "overlaps itself"),
        (frame, frame[..., 1], "over its frame"),
    ]
