"""Where a frame comes from and its mask goes to: page-locked memory of the backend, or the GPU's memory of others."""

import ctypes
import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np

from runtime import dlpack
from runtime.arrays import DeviceArray, device_array, host_array, on_gpu
from runtime.errors import EngineError, FrameError, LibraryError
from runtime.kernels.graph import Event, current_context, pointer_attribute
from runtime.reference import check_frame, check_out

DEVICE = 0  # the GPU that `tensorrt.primary_context` is of
# cuda.h, CUpointer_attribute and CUmemorytype
CONTEXT, MEMORY_TYPE, DEVICE_ORDINAL = 1, 2, 9
ON_DEVICE = 2

Pushed = Callable[[], AbstractContextManager[None]]


class Places:
    """A frame and where its mask goes, one of them on the GPU or both: checked, and ready for a stream.

    `frame_dev` and `mask_dev` are addresses on the GPU, None where `host_frame` or `host_mask` is an array of the host,
    or where no mask was given. They are valid as long as this is.
    """

    def __init__(self, frame: Any, out: Any, stream: int, event: Event) -> None:
        """Check both, with the context current.

        Args:
            frame: as `Backend.segment` takes it.
            out: likewise.
            stream: that will read the frame and write the mask; from now on it waits for what they wait for.
            event: orders their own streams before that; free to be used again.

        Raises:
            FrameError: no frame; or what lies on a GPU is of another type or shape, not contiguous, or elsewhere.
            ValueError: the mask cannot be written there.
        """
        self.host_frame = self.host_mask = self.frame_dev = self.mask_dev = None
        read = None
        if on_gpu(frame):
            read = frame_on_gpu(frame, stream, event)
            self.size, self.frame_dev = (read.shape[0], read.shape[1]), read.address
        else:
            check_frame(host := host_array(frame))
            self.size, self.host_frame = (host.shape[0], host.shape[1]), host
        written = None
        if on_gpu(out):
            written = mask_on_gpu(out, self.size, read, stream, event)
            self.mask_dev = written.address
        elif out is not None:
            # Beside a frame on the GPU, which no array of the host overlaps.
            check_out(place := host_array(out, "mask"), np.broadcast_to(np.uint8(0), (*self.size, 3)))
            self.host_mask = place
        self._owners = (read, written)


class GpuMask:
    """A mask on the GPU, uint8 (H, W) train ids, by DLPack and `__cuda_array_interface__`.

    `torch.from_dlpack(mask)`, `cupy.from_dlpack(mask)`, `cupy.asarray(mask)` take it without a copy.
    Its memory goes with its last name, or that of what was made of it; the engine may be closed before.
    """

    def __init__(self, allocation: Any, shape: tuple[int, int], pushed: Pushed, gone: type[Exception]) -> None:
        """Own the memory.

        Args:
            allocation: of pycuda.
            shape: (H, W).
            pushed: makes the context current in which it was made.
            gone: what the driver raises when that context is no more.
        """
        self.shape, self.address = shape, int(allocation)
        weakref.finalize(self, _free, allocation, pushed, gone, os.getpid())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; no stream, since the mask is there when `segment` returns."""
        return {"shape": self.shape, "typestr": "|u1", "data": (self.address, False), "strides": None, "version": 3,
                "stream": None}  # fmt: skip

    def __dlpack_device__(self) -> tuple[int, int]:
        """The GPU that it lies on."""
        return dlpack.CUDA, DEVICE

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """As the array API says, of no version; every stream may read it at once, as above.

        Raises:
            TypeError, ValueError: `stream` is none.
            BufferError: it is wanted elsewhere, or copied.
        """
        dlpack.check_request(stream, dl_device, copy, self.__dlpack_device__())
        return dlpack.capsule_of(self, self.address, self.shape, self.__dlpack_device__())


def _free(allocation: Any, pushed: Pushed, gone: type[Exception], made_by: int) -> None:
    if os.getpid() != made_by:
        return  # a forked child has no CUDA to give it back to
    with suppress(gone), pushed():  # the context may be gone before it, when the program ends
        allocation.free()


def new_mask(shape: tuple[int, int], driver: Any, pushed: Pushed) -> GpuMask:
    """Memory for a mask, uninitialised; with the context current that `pushed` makes current.

    Raises:
        LibraryError: the GPU has too little left.
    """
    try:
        allocation = driver.mem_alloc(shape[0] * shape[1])
    except driver.MemoryError:
        raise LibraryError(f"the GPU has no memory left for a mask of {shape}; close what else uses it") from None
    return GpuMask(allocation, shape, pushed, driver.Error)


def frame_on_gpu(frame: Any, stream: int, event: Event) -> DeviceArray:
    """A frame on the GPU, ready for what is enqueued next on `stream`; with the context current.

    Args:
        frame: of which `runtime.arrays.on_gpu` is true.
        stream: that reads it.
        event: orders the frame's own stream before that; free to be used again.

    Raises:
        FrameError: it is not uint8 (H, W, 3), contiguous, on this GPU; or its stream is none.
    """
    found = device_array(frame, "frame", stream)
    if len(found.shape) != 3 or found.shape[2] != 3 or not found.nbytes:
        raise FrameError(f"a frame is uint8 (height, width, 3) RGB, got uint8 {found.shape} on a GPU")
    return _ready(found, "frame", stream, event)


def mask_on_gpu(out: Any, shape: tuple[int, int], frame: DeviceArray | None, stream: int, event: Event) -> DeviceArray:
    """Where a mask of that shape may be written; as `frame_on_gpu`.

    Raises:
        FrameError: it does not lie on this GPU, or its stream is none.
        ValueError: another shape, read-only, or over the frame.
    """
    found = device_array(out, "mask", stream)
    if found.shape != shape:
        raise ValueError(f"the mask of this frame is written to uint8 {shape}, got uint8 {found.shape} on a GPU")
    if found.read_only:
        raise ValueError("the mask cannot be written to an array that is read-only")
    if frame and found.address < frame.address + frame.nbytes and frame.address < found.address + found.nbytes:
        raise ValueError("the mask cannot be written over its frame: their memory overlaps")
    return _ready(found, "mask", stream, event)


def _ready(array: DeviceArray, what: str, stream: int, event: Event) -> DeviceArray:
    _check_place(array, what)
    if array.stream is not None:
        _order(array.stream, stream, event, what)
    return array


def _check_place(array: DeviceArray, what: str) -> None:
    if array.device not in (None, DEVICE):
        raise FrameError(f"the {what} lies on GPU {array.device}, the engine on GPU {DEVICE}: copy it there first")
    try:
        kind, device = (pointer_attribute(which, array.address) for which in (MEMORY_TYPE, DEVICE_ORDINAL))
    except EngineError:
        raise FrameError(
            f"the {what} says that it lies on a GPU, at an address that the driver does not know"
        ) from None
    if kind != ON_DEVICE:
        raise FrameError(f"the {what} says that it lies on a GPU, and the driver that it lies in the host's memory")
    if device != DEVICE:
        raise FrameError(f"the {what} lies on GPU {device}, the engine on GPU {DEVICE}: copy it there first")
    with suppress(EngineError):  # memory of a pool is of no context
        context = pointer_attribute(CONTEXT, array.address, ctypes.c_uint64)
        if context and context != current_context():
            raise FrameError(
                f"the {what} was made in another CUDA context than the GPU's primary one, which torch and CuPy use"
            )


def _order(first: int, then: int, event: Event, what: str) -> None:
    try:
        event.record(first, captured=False)
        event.awaited_by(then)
    except EngineError as error:
        raise FrameError(f"the {what} names the stream {first}, which the driver does not take: {error}") from None
