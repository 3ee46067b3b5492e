"""Arrays on a GPU as other libraries show theirs: by `__cuda_array_interface__`, and by DLPack."""

import ctypes

import numpy as np

from runtime.dlpack import CUDA, NAME, TAKEN, Managed, Tensor
from runtime.kernels.graph import Event


class OnGpu:
    """A copy of an array on the GPU; with a stream, it is copied when that comes to it."""

    def __init__(self, driver, array, stream=None):
        self._driver, self.shape, self._dtype = driver, array.shape, array.dtype
        self._pinned = driver.pagelocked_empty(array.shape, array.dtype)
        self._pinned[...] = array
        self.memory, self._stream = driver.mem_alloc(array.nbytes), stream
        if stream is None:
            driver.memcpy_htod(self.memory, self._pinned)
        else:
            driver.memcpy_htod_async(self.memory, self._pinned, stream)

    def read(self):
        """What is there now."""
        found = np.empty(self.shape, self._dtype)
        self._driver.memcpy_dtoh(found, self.memory)
        return found


class Interface(OnGpu):
    """As Numba and PyCUDA show them; `told` is said in place of what is so."""

    def __init__(self, driver, array, enqueued_on=None, **told):
        super().__init__(driver, array, enqueued_on)
        self._told = told

    @property
    def __cuda_array_interface__(self):
        stream = self._stream.handle if self._stream else None
        return {"shape": self.shape, "typestr": self._dtype.str, "data": (int(self.memory), False), "version": 3,
                "strides": None, "stream": stream} | self._told  # fmt: skip


class Dlpack(OnGpu):
    """As torch shows them: their stream is waited for by the one that is asked for."""

    def __init__(self, driver, array, stream=None, device=0, strides=None, code=1, bits=8):
        super().__init__(driver, array, stream)
        self._device, self._event = device, None
        sides = (ctypes.c_int64 * array.ndim)(*array.shape)
        steps = (ctypes.c_int64 * array.ndim)(*strides) if strides else None
        tensor = Tensor(int(self.memory), CUDA, device, array.ndim, code, bits, 1, sides, steps, 0)
        self._managed = Managed(tensor, None, None)

    def __dlpack_device__(self):
        return CUDA, self._device

    def __dlpack__(self, *, stream):
        if self._stream is not None:
            event = self._event = Event()
            event.record(self._stream.handle, captured=False)
            event.awaited_by(stream)
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return make(ctypes.addressof(self._managed), NAME, None)

    def close(self):
        """Give back what the driver counts."""
        if self._event:
            self._event.close()


class Taken:
    """What a library makes of another's array by DLPack: its memory, until it gives it back."""

    def __init__(self, driver, capsule):
        point, rename = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_SetName
        point.restype, point.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
        self._driver, self._place = driver, point(capsule, NAME)
        rename(capsule, TAKEN)
        tensor = Managed.from_address(self._place).tensor
        self.device, self.kind = (tensor.device_type, tensor.device), (tensor.code, tensor.bits, tensor.lanes)
        self.shape, self.strides = tensor.shape[: tensor.ndim], tensor.strides[: tensor.ndim]
        self.address = tensor.data + tensor.byte_offset

    def read(self):
        """What is there now."""
        found = np.empty(self.shape, np.uint8)
        self._driver.memcpy_dtoh(found, self.address)
        return found

    def give_back(self):
        """As it does when the last of its own arrays is gone."""
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(Managed.from_address(self._place).deleter)(self._place)


def ran():
    """What the imitated driver's streams did since it was asked last; None on a real one."""
    ask = getattr(ctypes.CDLL("libcuda.so.1"), "imitated_done", None)
    if ask is None:
        return None
    text = ctypes.create_string_buffer(1 << 16)
    ask(text, len(text) - 1)
    return text.value.decode().split("\n")[:-1]
