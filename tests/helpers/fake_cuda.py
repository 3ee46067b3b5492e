"""`pycuda.driver` made of host memory: kernels run on the CPU, and only when something waits for their stream."""

import gc
import itertools
import struct
import threading
import weakref
from types import SimpleNamespace

import numpy as np

from runtime.kernels.cuda import Launch
from runtime.kernels.graph import NON_BLOCKING, RECORD_EXTERNAL
from tests.helpers import cuda_on_cpu

GARBAGE, EVENT = 0xCD, "event"
HANDLES = itertools.count(1)


class Allocation:
    """Memory with an address, counted until it is freed."""

    def __init__(self, driver, nbytes):
        self.array = cuda_on_cpu.aligned(np.full(nbytes, GARBAGE, np.uint8))
        self._driver = driver
        driver.live[self.array.ctypes.data] = self
        driver.made += 1

    def __int__(self):
        return self.array.ctypes.data

    def free(self):
        self._driver.need_context()
        self._driver.need_rest(int(self))
        assert self._driver.live.pop(int(self), None) is self, "freed twice"


class Pinned(Allocation):
    """What numpy calls the `base` of a page-locked array."""

    def __init__(self, driver, shape, dtype):
        super().__init__(driver, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        array = self.array.view(dtype).reshape(shape)
        self.__array_interface__ = array.__array_interface__
        driver.live[int(self)] = weakref.proxy(self)

    def free(self):
        self._driver.need_context()
        self._driver.need_rest(int(self))
        assert self._driver.live.pop(int(self), None) is not None, "freed twice"

    def __del__(self):
        self._driver.live.pop(int(self), None)  # pycuda's frees itself, with the context that it was made in


class Driver:
    """The part of `pycuda.driver` that the backend uses; everything wants a context current on its thread.

    `done` names what the stream ran, in order; `live` holds what is not freed; `left` is how many bytes there are.
    """

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    def __init__(self):
        self.live, self.made, self.done, self.left = {}, 0, [], 1 << 40
        self.waits, self.pushed = 0, threading.local()
        self.streams = weakref.WeakValueDictionary()  # pycuda frees one where its last name goes,
        self.freed_at = []  # and wants a context then: how many were current
        context = SimpleNamespace(push=lambda: self._stack().append(context), detach=lambda: None)
        self.Context = SimpleNamespace(pop=lambda: self._stack().pop())
        self.Device = lambda index: SimpleNamespace(retain_primary_context=lambda: context)

    def init(self):
        pass

    def depth(self):
        return len(self._stack())

    def need_context(self):
        assert self.depth() == 1, f"{self.depth()} contexts are current on this thread"

    def need_rest(self, address):
        """No work that waits uses what lies there."""
        assert not any(address in used for stream in self.streams.values() for _, _, used in stream.waiting)

    def mem_alloc(self, nbytes):
        self.need_context()
        assert all(stream.captured is None for stream in self.streams.values()), "an allocation ends the capture"
        if sum(allocation.array.nbytes for allocation in self.live.values()) + nbytes > self.left:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self, nbytes)

    def pagelocked_empty(self, shape, dtype, order="C", mem_flags=0):
        self.need_context()
        return np.asarray(Pinned(self, shape, dtype))

    def memcpy_dtoh(self, dest, src):
        self.need_rest(int(src))  # the null stream waits for none of the others
        dest.reshape(-1).view(np.uint8)[...] = self.at(src, dest.nbytes)

    def memcpy_htod_async(self, dest, src, stream=None):
        there, source = self.at(dest, src.nbytes), weakref.ref(src)
        if isinstance(src.base, Pinned):
            stream.add("htod", lambda: there.__setitem__(..., source().reshape(-1)), int(dest), int(src.base))
        else:  # another name, so that a frame's copy out of pageable memory shows
            stream.add("upload", lambda: there.__setitem__(..., source().reshape(-1).view(np.uint8)), int(dest))

    def memcpy_dtoh_async(self, dest, src, stream=None):
        assert isinstance(dest.base, Pinned), "the copy out is to pageable memory"
        there, target = self.at(src, dest.nbytes), weakref.ref(dest)
        stream.add("dtoh", lambda: target().reshape(-1).__setitem__(..., there), int(src), int(dest.base))

    def memcpy_dtod_async(self, dest, src, size, stream=None):
        there, here = self.at(dest, size), self.at(src, size)
        stream.add(f"dtod {size}", lambda: there.__setitem__(..., here), int(dest), int(src))

    def Stream(self, flags=0):
        self.need_context()
        assert flags == NON_BLOCKING, "the null stream of another thread would end its captures"
        return Stream(self)

    def module_from_buffer(self, buffer):
        self.need_context()
        assert buffer == b"cubin"
        return SimpleNamespace(get_function=lambda name: Function(self, name))

    def at(self, address, nbytes):
        """The bytes there, if all of them are inside one live allocation."""
        self.need_context()
        found = self.live[int(address)].array
        assert nbytes <= found.nbytes, f"{nbytes} bytes in an allocation of {found.nbytes}"
        return found[:nbytes]

    def _stack(self):
        if not hasattr(self.pushed, "stack"):
            self.pushed.stack = []
        return self.pushed.stack


class Stream:
    """Work that nobody has waited for is not done."""

    def __init__(self, driver):
        self._driver, self.waiting, self.captured, self.handle = driver, [], None, next(HANDLES)
        driver.streams[self.handle] = self
        weakref.finalize(self, lambda: driver.freed_at.append(driver.depth()))

    def add(self, name, work, *used):
        (self.waiting if self.captured is None else self.captured).append((name, work, used))

    def synchronize(self):
        self._driver.need_context()
        assert self.captured is None, "a stream that captures cannot be waited for"
        self._driver.waits += 1
        while self.waiting:
            name, work, _ = self.waiting.pop(0)
            work()
            if name != EVENT:
                self._driver.done.append(name)


class Function:
    """A kernel: its launch is checked when it is enqueued."""

    def __init__(self, driver, name):
        self._driver, self._name = driver, name

    def prepare(self, types):
        self.arg_format = types
        return self

    def _launch_kernel(self, grid, block, packed, shared, stream):
        self._driver.need_context()
        arguments = struct.unpack(self.arg_format, packed)
        # Without an overlay `upsample_argmax` gets nothing as its last four.
        live = {*self._driver.live, *((0,) if self._name.startswith("upsample") and not any(arguments[-4:]) else ())}
        for code, argument in zip(self.arg_format, arguments, strict=True):
            assert code != "P" or argument in live, f"{self._name} is given a dead address"
        launch = Launch(self._name, self.arg_format, grid, block, arguments)
        used = [argument for code, argument in zip(self.arg_format, arguments, strict=True) if code == "P" and argument]
        stream.add(self._name, lambda: cuda_on_cpu.run(launch), *used)


class Library:
    """The part of libcuda that `runtime.kernels.graph` calls, over the same memory and streams.

    `graphs` and `events` are those that nobody gave back; `launched` counts. `fails` names a call that does nothing but
    answer an error; the end of a capture ends it all the same.
    """

    REFUSED = 901  # CUDA_ERROR_STREAM_CAPTURE_INVALIDATED

    def __init__(self, driver):
        self._driver, self._made = driver, 0
        self.graphs, self.events, self.launched, self.fails = {}, {}, 0, ""

    def __getattr__(self, name):
        def call(*arguments):
            self._driver.need_context()
            plain = [getattr(argument, "value", argument) for argument in arguments]
            if name != self.fails:
                return getattr(self, f"_{name}")(*plain)
            if name == "cuStreamEndCapture":
                self._driver.streams[plain[0]].captured = None
            return self.REFUSED

        return call

    def _new(self, out, what, kept):
        self._made += 1
        out._obj.value, kept[self._made] = self._made, what
        return 0

    def _cuStreamBeginCapture_v2(self, stream, mode):
        assert not self._driver.streams[stream].waiting and not gc.isenabled()
        self._driver.streams[stream].captured = []
        return 0

    def _cuStreamEndCapture(self, stream, out):
        assert not gc.isenabled()
        work, self._driver.streams[stream].captured = self._driver.streams[stream].captured, None
        return self._new(out, work, self.graphs)

    def _cuGraphInstantiateWithFlags(self, out, graph, flags):
        return self._new(out, list(self.graphs[graph]), self.graphs)

    def _cuGraphLaunch(self, graph, stream):
        self.launched += 1
        for name, work, used in self.graphs[graph]:
            self._driver.streams[stream].add(name, work, *used)
        return 0

    def _cuGraphDestroy(self, graph):
        del self.graphs[graph]
        return 0

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuEventCreate(self, out, flags):
        return self._new(out, 0, self.events)

    def _cuEventRecordWithFlags(self, event, stream, flags):
        stream = self._driver.streams[stream]
        # Outside of a capture the flag is refused, inside of it the event would be no part of the graph without it.
        if (stream.captured is None) == (flags == RECORD_EXTERNAL):
            return 1
        stream.add(EVENT, lambda: self.events.__setitem__(event, self.events[event] + 1))
        return 0

    def _cuEventElapsedTime(self, out, start, end):
        assert self.events[start] == self.events[end] > 0
        out._obj.value = 0.25
        return 0

    def _cuEventDestroy_v2(self, event):
        del self.events[event]
        return 0
