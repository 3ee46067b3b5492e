"""`pycuda.driver` made of host memory: kernels run on the CPU, and only when something waits for their stream."""

import threading
from types import SimpleNamespace

import numpy as np

from runtime.kernels.cuda import Launch
from tests.helpers import cuda_on_cpu

GARBAGE = 0xCD


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
        assert self._driver.live.pop(int(self), None) is self, "freed twice"


class Pinned(Allocation):
    """What numpy calls the `base` of a page-locked array."""

    def __init__(self, driver, shape, dtype):
        super().__init__(driver, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        array = self.array.view(dtype).reshape(shape)
        self.__array_interface__ = array.__array_interface__


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
        self.streams, self.waits, self.pushed = {}, 0, threading.local()
        context = SimpleNamespace(push=lambda: self._stack().append(context), detach=lambda: None)
        self.Context = SimpleNamespace(pop=lambda: self._stack().pop())
        self.Device = lambda index: SimpleNamespace(retain_primary_context=lambda: context)

    def init(self):
        pass

    def depth(self):
        return len(self._stack())

    def need_context(self):
        assert self.depth() == 1, f"{self.depth()} contexts are current on this thread"

    def mem_alloc(self, nbytes):
        self.need_context()
        if sum(allocation.array.nbytes for allocation in self.live.values()) + nbytes > self.left:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self, nbytes)

    def pagelocked_empty(self, shape, dtype, order="C", mem_flags=0):
        self.need_context()
        return np.asarray(Pinned(self, shape, dtype))

    def memcpy_htod(self, dest, src):
        self.at(dest, src.nbytes)[...] = np.frombuffer(src.tobytes(), np.uint8)

    def memcpy_dtoh(self, dest, src):
        for stream in self.streams.values():
            assert not stream.waiting, "the null stream would wait for this one: it must have been synchronised"
        dest.reshape(-1).view(np.uint8)[...] = self.at(src, dest.nbytes)

    def memcpy_htod_async(self, dest, src, stream=None):
        assert isinstance(src.base, Pinned), "the copy in is from pageable memory"
        there = self.at(dest, src.nbytes)
        stream.add("htod", lambda: there.__setitem__(..., src.reshape(-1)))

    def memcpy_dtoh_async(self, dest, src, stream=None):
        assert isinstance(dest.base, Pinned), "the copy out is to pageable memory"
        there = self.at(src, dest.nbytes)
        stream.add("dtoh", lambda: dest.reshape(-1).__setitem__(..., there))

    def Stream(self, flags=0):
        self.need_context()
        return Stream(self)

    def Event(self, flags=0):
        self.need_context()
        return SimpleNamespace(record=lambda stream: self.need_context(), time_since=lambda event: 0.25)

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
        self._driver, self.waiting, self.handle = driver, [], len(driver.streams) + 1
        driver.streams[self.handle] = self

    def add(self, name, work):
        self.waiting.append((name, work))

    def synchronize(self):
        self._driver.need_context()
        self._driver.waits += 1
        while self.waiting:
            name, work = self.waiting.pop(0)
            work()
            self._driver.done.append(name)


class Function:
    """A kernel: its launch is checked when it is enqueued."""

    def __init__(self, driver, name):
        self._driver, self._name = driver, name

    def prepare(self, types):
        self._types = types
        return self

    def prepared_async_call(self, grid, block, stream, *arguments):
        self._driver.need_context()
        for code, argument in zip(self._types, arguments, strict=True):
            assert code != "P" or argument in self._driver.live, f"{self._name} is given a dead address"
        launch = Launch(self._name, self._types, grid, block, arguments)
        stream.add(self._name, lambda: cuda_on_cpu.run(launch))
