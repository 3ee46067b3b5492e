"""The stack on which this thread handles signals (sigaltstack), kept from a library that sets one of its own."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    # Source: sigaltstack(2), Linux.
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Give the thread back the signal stack that it had, if the body replaced it.

    OpenVINO's plugin sets one where the CPU has AMX, and frees it at its end, on whatever thread that is: the next
    signal on this one, a Ctrl-C say, would end the process. Elsewhere than on Linux nothing is done.
    """
    if sys.platform != "linux":
        yield
        return
    call = ctypes.CDLL(None).sigaltstack
    before, after = _Stack(), _Stack()
    call(None, ctypes.byref(before))
    try:
        yield
    finally:
        call(None, ctypes.byref(after))
        if after.address != before.address:
            call(ctypes.byref(before), None)
