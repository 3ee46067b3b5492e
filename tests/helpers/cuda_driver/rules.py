"""Breaks the rules of cuda.h through the real pycuda: `python -m ...rules NAME ...`, each in a process of its own.

It prints what the program sees of it; what the driver says of it goes to stderr. `BETWEEN` ends both of each.
"""

import ctypes
import os
import sys
import threading

import numpy as np
import pycuda.driver as cuda

from runtime.kernels.graph import NON_BLOCKING, Graph
from tests.helpers.cuda_driver import BETWEEN


def missing_wait(stream, device, pinned):
    """A copy that nothing waits for."""
    pinned[...] = 7
    cuda.memcpy_htod_async(device, pinned, stream)
    pinned[...] = 9
    cuda.memcpy_dtoh_async(pinned, device, stream)
    before = int(pinned[0])
    stream.synchronize()
    return before, int(pinned[0])


def free_in_use(stream, device, pinned):
    """Memory that a queued copy reads."""
    cuda.memcpy_htod_async(device, pinned, stream)
    device.free()
    stream.synchronize()


def beyond_an_allocation(stream, device, pinned):
    """More bytes than there are."""
    try:
        cuda.memcpy_htod_async(int(device) + 1, pinned, stream)
    except cuda.LogicError as error:
        return str(error)


def without_a_context(stream, device, pinned):
    """On a thread that pushed none."""
    found = []

    def call():
        found.append(ctypes.CDLL("libcuda.so.1").cuMemFree_v2(ctypes.c_uint64(int(device))))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return found[0]


def allocation_in_a_capture(stream, device, pinned):
    """A call that is unsafe there loses the capture, and the stream is as it was."""
    for enqueue in (lambda: cuda.mem_alloc(16), lambda: cuda.memcpy_htod_async(device, np.zeros(64, np.uint8), stream)):
        try:
            Graph(stream.handle, enqueue)
        except cuda.Error as error:
            yield str(error)
        stream.synchronize()


def other_threads_allocate(stream, device, pinned):
    """A capture in the thread-local mode does not mind them."""

    def enqueue():
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
        cuda.memcpy_htod_async(device, pinned, stream)

    def allocate():
        CONTEXT.push()
        cuda.mem_alloc(16).free()
        cuda.Context.pop()

    graph = Graph(stream.handle, enqueue)
    pinned[...] = 5
    graph.launch()
    stream.synchronize()
    graph.close()
    found = np.zeros(64, np.uint8)
    cuda.memcpy_dtoh(found, device)
    return found.tolist() == [5] * 64


def freed_memory_in_a_graph(stream, device, pinned):
    """A graph names memory that is gone."""
    other = cuda.mem_alloc(64)
    graph = Graph(stream.handle, lambda: cuda.memcpy_htod_async(other, pinned, stream))
    other.free()
    try:
        graph.launch()
    except Exception as error:
        return str(error)
    finally:
        graph.close()


def unknown_call(stream, device, pinned):
    """A call that is not imitated."""
    try:
        cuda.memset_d8(device, 0, 64)
    except cuda.Error as error:
        return str(error)


def write_beyond(stream, device, pinned):
    """What a kernel might do, one byte behind its memory."""
    ctypes.memset(int(device) + 64, 0, 1)


def leak(stream, device, pinned):
    """An event that nobody gives back."""
    ctypes.CDLL("libcuda.so.1").cuEventCreate(ctypes.byref(ctypes.c_void_p()), ctypes.c_uint(0))


def nothing(stream, device, pinned):
    """No rule is broken."""


def broken(name):
    """One rule, from a context made to its end."""
    global CONTEXT
    cuda.init()
    CONTEXT = cuda.Device(0).retain_primary_context()
    CONTEXT.push()
    stream, device, pinned = cuda.Stream(NON_BLOCKING), cuda.mem_alloc(64), cuda.pagelocked_empty(64, np.uint8)
    found = globals()[name](stream, device, pinned)
    print(list(found) if hasattr(found, "send") else found)
    if name != "free_in_use":
        device.free()
    pinned.base.free()
    del stream
    cuda.Context.pop()
    CONTEXT.detach()


def main(names):
    for name in names:
        child = os.fork()  # before CUDA is begun
        if not child:
            broken(name)
            sys.exit()  # as any program ends: then the driver tells what is left
        assert os.waitpid(child, 0)[1] == 0, name
        for stream in (sys.stdout, sys.stderr):
            print(BETWEEN, file=stream, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
