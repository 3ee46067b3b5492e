"""How much the tests for a GPU take on: the frames that matter there, and small ones on the driver that is imitated."""

import ctypes

from runtime.kernels.nvidia import DRIVER


def imitated() -> bool:
    """Is the driver the one of `cuda_driver`? None is none of it."""
    try:
        return hasattr(ctypes.CDLL(DRIVER), "imitated_launch")
    except OSError:
        return False


IMITATED = imitated()
# (height, width)
LARGE = (128, 256) if IMITATED else (1024, 2048)
HALF = (64, 128) if IMITATED else (512, 1024)
VIDEO = (90, 160) if IMITATED else (720, 1280)
# How often what must take no memory is done.
FRAMES = 50 if IMITATED else 10_000
CHANGES = 5 if IMITATED else 50
OPENINGS = 4 if IMITATED else 20
