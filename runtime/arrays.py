"""Frames and masks that are arrays of other libraries: taken by what they say of their memory, never copied here.

On the host: `__array_interface__`, or DLPack of a CPU (torch). On a GPU: DLPack (torch, CuPy, JAX), else
`__cuda_array_interface__` (Numba, PyCUDA, decoders). What no library is asked to do: to guess colours, types or shapes.

Source: data-apis.org, array API 2022.12, and dlpack.h; the interface of CUDA arrays, version 3, of Numba's manual.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime import dlpack
from runtime.errors import FrameError
from runtime.reference import check_frame, check_out

# dlpack.h, DLDeviceType: what the host reads as it is, and what lies on a GPU of CUDA.
DL_HOST, DL_CUDA = (1, 3), (2, 13)
LEGACY, PER_THREAD = 1, 2  # the streams of these numbers, in both protocols as in cuda.h
# What their authors may raise where an array cannot be handed over: sparse, on no device, of a type without a code.
REFUSALS = (AttributeError, BufferError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


class DeviceArray(NamedTuple):
    """An array on a GPU: uint8, contiguous; `owner` keeps its memory, and goes when the work on it is done."""

    address: int
    shape: tuple[int, ...]
    read_only: bool
    stream: int | None  # that it is ready on; None: it is ready, or its library has ordered that by itself
    device: int | None  # its GPU's number, where the array tells it
    owner: Any

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return math.prod(self.shape)


def on_gpu(array: object) -> bool:
    """Whether it is another library's array on a GPU; true only of what says so."""
    if array is None or isinstance(array, np.ndarray):
        return False
    return _dlpack_device(array) in DL_CUDA or _has(array, "__cuda_array_interface__")


def host_array(array: Any, what: str = "frame") -> Any:
    """An array of the host as NumPy's, the same memory; what is none of any library comes back as it is.

    Args:
        array: NumPy's, or one that has DLPack or `__array_interface__`.
        what: it is, for the message.

    Raises:
        FrameError: it lies on a GPU, or cannot be read where it lies.
    """
    # A picture of PIL says what its bytes are, and not whether they are RGB: YCbCr has three of them, too.
    if array is None or isinstance(array, np.ndarray) or type(array).__module__.startswith("PIL."):
        return array
    if on_gpu(array):
        raise FrameError(
            f"the {what} lies on a GPU ({_kind(array)}), and is taken from the host's memory here: copy it "
            "(tensor.cpu(), array.get())"
        )
    try:
        if _dlpack_device(array) is not None:
            return np.from_dlpack(array)
        return np.asarray(array) if _has(array, "__array_interface__") else array
    except REFUSALS as error:
        raise FrameError(f"the {what} ({_kind(array)}) cannot be read where it lies: {_line(error)}") from None


def host_arrays(frame: Any, out: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """A frame and where its mask goes, as `Backend.segment` takes them, as arrays of NumPy over the same memory.

    Raises:
        FrameError: no frame, or one of them lies on a GPU.
        ValueError: the mask cannot be written there.
    """
    frame = host_array(frame)
    check_frame(frame)
    if out is not None:
        check_out(out := host_array(out, "mask"), frame)
    return frame, out


def confident_arrays(frame: Any, out: Any, confidence_out: Any) -> tuple[np.ndarray, np.ndarray | None, Any]:
    """`host_arrays`, and where the confidence goes as the third.

    Raises:
        FrameError, ValueError: as `host_arrays`; or mask and confidence would be written over each other.
    """
    host, place = host_arrays(frame, out)
    try:
        _, other = host_arrays(frame, confidence_out)
    except ValueError as error:
        raise ValueError(f"confidence_out: {error}") from None
    if place is not None and other is not None and _overlap(place, other):
        raise ValueError("confidence_out: it would be written over the mask")
    return host, place, other


def check_early(frame: Any, out: Any) -> None:
    """Refuse what no backend takes, as `host_arrays` does, before one is free; what lies on a GPU is left to it."""
    if not (on_gpu(frame) or on_gpu(out)):
        host_arrays(frame, out)


def paired(frames: Sequence[Any], outs: Sequence[Any] | None) -> list[tuple[Any, Any]]:
    """Frames of a batch, each with where its mask goes, looked at as `check_early` does.

    Raises:
        FrameError, ValueError: as `host_arrays`, and which it is; there are not as many outs as frames; or on the host
            one overlaps another, or a frame.
    """
    # An array is a sequence of its rows, too, each of which would be told to be no frame.
    if isinstance(frames, (str, bytes, dict)) or not hasattr(frames, "__len__") or getattr(frames, "ndim", 4) < 4:
        raise FrameError(f"a batch is a list of frames, or an array of four dimensions, got {_kind(frames)}")
    places = [None] * len(frames) if outs is None else list(outs)
    if len(places) != len(frames):
        raise ValueError(f"a batch of {len(frames)} frames has as many masks, got {len(places)}")
    pairs = list(zip(frames, places, strict=True))
    for index, (frame, out) in enumerate(pairs):
        try:
            check_early(frame, out)
        except (FrameError, ValueError) as error:
            raise type(error)(f"frame {index} of the batch: {error}") from None
    if outs is not None:
        _check_apart(pairs)
    return pairs


def _check_apart(pairs: list[tuple[Any, Any]]) -> None:
    # One mask over another, or over a frame that is still to be read, would be wrong without a word.
    read, written = ([None if on_gpu(one) else host_array(one) for one in side] for side in zip(*pairs, strict=True))
    for index, out in enumerate(written):
        if out is None:
            continue
        others = [other for other in (*read, *written[index + 1 :]) if other is not None]
        if any(_overlap(out, other) for other in others):
            raise ValueError(
                f"frame {index} of the batch: its mask would be written over another mask, or over a frame"
            )


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.may_share_memory(a, b) and np.shares_memory(a, b))  # the first only looks at where both end


def device_array(array: Any, what: str, stream: int) -> DeviceArray:
    """An array on a GPU, as it says itself.

    Args:
        array: of which `on_gpu` is true.
        what: it is, for the message.
        stream: which will use it; a library that has DLPack makes that wait for what it has enqueued.

    Raises:
        FrameError: not uint8, not contiguous, masked, or not to be handed over.
    """
    try:
        read = _from_dlpack if _dlpack_device(array) is not None else _from_interface
        return read(array, what, stream)
    except REFUSALS as error:
        raise FrameError(f"the {what} ({_kind(array)}) cannot be read where it lies: {_line(error)}") from None


def _from_dlpack(array: Any, what: str, stream: int) -> DeviceArray:
    # The capsule is not consumed: its library frees it, and what it holds, with the capsule's last name.
    capsule = array.__dlpack__(stream=stream)
    tensor = dlpack.tensor_of(capsule)
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if (tensor.code, tensor.bits, tensor.lanes) != (dlpack.UINT, 8, 1):
        raise _refused(what, array, f"a type of code {tensor.code}, {tensor.bits} bits", shape)
    steps = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    _check_contiguous(what, array, shape, steps)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, False, None, tensor.device, capsule)


def _from_interface(array: Any, what: str, stream: int) -> DeviceArray:
    told = array.__cuda_array_interface__
    shape, dtype = tuple(int(side) for side in told["shape"]), np.dtype(told["typestr"])
    if dtype != np.uint8 or told.get("mask") is not None:
        raise _refused(what, array, f"{dtype}{' with a mask' if told.get('mask') is not None else ''}", shape)
    _check_contiguous(what, array, shape, told.get("strides"))
    address, read_only = told["data"]
    ready = told.get("stream")
    if ready is not None and ready < LEGACY:
        raise FrameError(f"the {what} ({_kind(array)}) names the stream {ready}, which is none")
    return DeviceArray(int(address or 0), shape, bool(read_only), ready, None, array)


def _check_contiguous(what: str, array: Any, shape: tuple[int, ...], steps: tuple[int, ...] | None) -> None:
    # Of uint8 steps are the same in values and in bytes.
    expected = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if steps is None or all(step == want or side < 2 for side, step, want in zip(shape, steps, expected, strict=True)):
        return
    raise FrameError(
        f"a {what} on a GPU is contiguous, got strides {tuple(steps)} of {shape} ({_kind(array)}): "
        "tensor.contiguous(), cupy.ascontiguousarray(array)"
    )


def _refused(what: str, array: Any, dtype: str, shape: tuple[int, ...]) -> FrameError:
    return FrameError(f"a {what} is uint8, got {dtype} {shape} ({_kind(array)})")


def _dlpack_device(array: object) -> int | None:
    # The kind of device; None where there is no DLPack, or the array cannot tell.
    if not _has(array, "__dlpack__") or not _has(array, "__dlpack_device__"):
        return None
    try:
        return int(array.__dlpack_device__()[0])  # type: ignore[attr-defined]
    except REFUSALS:
        return None


def _has(array: object, name: str) -> bool:
    # As hasattr, for attributes that raise more than AttributeError where they do not apply.
    try:
        return getattr(array, name, None) is not None
    except REFUSALS:
        return False


def _kind(array: object) -> str:
    return f"{type(array).__module__}.{type(array).__qualname__}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
