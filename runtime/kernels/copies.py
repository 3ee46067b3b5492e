"""Frames copied, whatever view of an array they are: NumPy by itself goes through such a view value by value."""

import numpy as np


def copy_frame(frame: np.ndarray, out: np.ndarray) -> None:
    """Copy a frame.

    Args:
        frame: uint8 (H, W, 3), of any strides: reversed channels, a mirrored or turned picture, each other pixel.
        out: of that shape, contiguous, written; it does not overlap the frame.
    """
    row_step, *steps = frame.strides
    if steps == [3, 1]:
        np.copyto(out, frame)
    elif row_step > 0 and steps in ([3, -1], [-3, 1]) and frame.shape[1] > 1:
        _reversed(frame, out)
    else:
        for channel in range(3):  # one long run each, where a run of three values would be begun for every pixel
            np.copyto(out[..., channel], frame[..., channel])


def contiguous(frame: np.ndarray) -> np.ndarray:
    """The frame itself where it is contiguous, else a copy."""
    if frame.flags.c_contiguous:
        return frame
    copied = np.empty(frame.shape, np.uint8)
    copy_frame(frame, copied)
    return copied


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same memory in the same order."""
    return (a.ctypes.data, a.shape, a.strides, a.dtype) == (b.ctypes.data, b.shape, b.strides, b.dtype)


def _reversed(frame: np.ndarray, out: np.ndarray) -> None:
    import cv2

    if frame.strides[2] < 0:
        cv2.cvtColor(frame[..., ::-1], cv2.COLOR_BGR2RGB, dst=out)
    else:
        cv2.flip(frame[:, ::-1], 1, dst=out)
