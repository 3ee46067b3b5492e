"""An execution context over the imitated driver: a network that a stream runs, with memory of its own on the device."""

import ctypes
import gc
import itertools
import weakref

import numpy as np

from runtime.kernels import graph

SCRATCH = 1 << 20  # bytes
NUMPY = {"tensor(float16)": np.float16, "tensor(float)": np.float32}
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
CONTEXTS = weakref.WeakValueDictionary()  # by what a launch hands to `_run`: one may be launched after its end
NUMBERS = itertools.count(1)


class Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t))


def violation(text):
    """Told as the driver tells what it finds."""
    graph.library().imitated_violate(b"TensorRT", text.encode())


@HostFunction
def _run(number):
    context = CONTEXTS.get(number)
    if context is None:
        violation("a context was destroyed before the stream came to it")
    else:
        context._compute()


class IExecutionContext:
    """As the bindings' class of that name."""

    def __init__(self, engine, error):
        self._engine, self._error, self._addresses, self._ran = engine, error, {}, False
        self._frames = None if engine._most else engine.get_tensor_shape(engine.get_tensor_name(0))[0]
        # As the library has it: of several contexts the first takes the profile by itself.
        self.active_optimization_profile = -1 if any(one._engine is engine for one in CONTEXTS.values()) else 0
        self._driver, self._number = graph.library(), next(NUMBERS)
        CONTEXTS[self._number] = self
        self._scratch = ctypes.c_uint64()
        code = self._driver.cuMemAlloc_v2(ctypes.byref(self._scratch), ctypes.c_size_t(SCRATCH))
        assert code == 0, f"cuMemAlloc answers {code}"

    def __del__(self):
        if self._driver.cuMemFree_v2(self._scratch):
            violation("a context's memory cannot be freed: it goes without a CUDA context, or in a capture")

    def set_tensor_address(self, name, memory):
        if name not in self._engine._tensors:
            self._engine._logger.log(self._error, f"no tensor {name}")
            return False
        self._addresses[name] = memory
        return True

    def set_optimization_profile_async(self, profile_index, stream_handle):
        if profile_index != 0:
            return self._refused(f"no profile {profile_index}")
        self.active_optimization_profile = profile_index
        return True

    def set_input_shape(self, name, shape):
        known = self._engine.get_tensor_shape(name)
        if name not in self._engine._inputs or tuple(shape[1:]) != known[1:]:
            return self._refused(f"the shape {shape} of {name} is not {known}")
        if self.active_optimization_profile != 0 or not 1 <= shape[0] <= self._engine._most:
            return self._refused(f"{shape[0]} frames are outside of the profile")
        if shape[0] != self._frames:  # the first call of a shape cannot be captured, either
            self._frames, self._ran = shape[0], False
        return True

    def execute_async_v3(self, stream_handle):
        if self._frames is None:
            return self._refused("an input has no shape")
        if set(self._addresses) != set(self._engine._tensors):
            return self._refused("a tensor has no address")
        if self._captures(stream_handle):
            if not self._ran:
                return self._refused("the first call of a context cannot be captured")
            if gc.isenabled():
                violation("what is collected may end the capture")
        self._ran = True
        uses = (Range * 2)(*(Range(self._addresses[name], self._nbytes(name)) for name in self._addresses))
        code = self._driver.imitated_launch(
            ctypes.c_void_p(stream_handle), b"network", _run, ctypes.c_void_p(self._number), uses, len(uses)
        )
        return code == 0 or self._refused(f"CUDA error {code}")

    def _refused(self, why):
        self._engine._logger.log(self._error, why)
        return False

    def _captures(self, stream_handle):
        status = ctypes.c_int()
        self._driver.cuStreamIsCapturing(ctypes.c_void_p(stream_handle), ctypes.byref(status))
        return status.value != 0

    def _nbytes(self, name):
        tensor = self._engine._tensors[name]
        return int(np.prod(self._shape(name))) * np.dtype(NUMPY[tensor.type]).itemsize

    def _shape(self, name):
        return (self._frames, *self._engine.get_tensor_shape(name)[1:])

    def _array(self, name):
        tensor = self._engine._tensors[name]
        raw = (ctypes.c_char * self._nbytes(name)).from_address(self._addresses[name])
        n, channels, height, width = self._shape(name)
        if not self._engine._last[name]:
            return np.frombuffer(raw, NUMPY[tensor.type]).reshape(n, channels, height, width)
        return np.frombuffer(raw, NUMPY[tensor.type]).reshape(n, height, width, channels).transpose(0, 3, 1, 2)

    def _compute(self):
        given = {name: np.ascontiguousarray(self._array(name)) for name in self._engine._inputs}
        for name, value in zip(
            (one.name for one in self._engine._session.get_outputs()),
            self._engine._session.run(None, given),
            strict=True,
        ):
            self._array(name)[...] = value
