"""DLPack: an array in memory as dlpack.h lays it down, read from a capsule and handed out in one.

Source: dlpack.h 0.8; data-apis.org, array API 2023.12, `__dlpack__`.
"""

import ctypes
from typing import Any

NAME, TAKEN = b"dltensor", b"used_dltensor"  # of a capsule, before and after a library has taken it
CUDA, UINT = 2, 1  # DLDeviceType, DLDataTypeCode


class Tensor(ctypes.Structure):
    """dlpack.h, DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )  # fmt: skip


class Managed(ctypes.Structure):
    """dlpack.h, DLManagedTensor."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_Python = ctypes.PYFUNCTYPE  # with the interpreter's lock held, as what it calls wants it
_new = _Python(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", ctypes.pythonapi))
# By the capsule's address: in its destructor it is no object any more.
_is = _Python(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = _Python(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_pointer_of_object = _Python(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_handed_out: dict[int, tuple[Any, ...]] = {}  # what must live until it is given back, by the address of its `Managed`


def tensor_of(capsule: object) -> Tensor:
    """The tensor of a capsule that nobody has taken; valid as long as the capsule.

    Raises:
        ValueError: it is no such capsule.
    """
    return Tensor.from_address(_pointer_of_object(capsule, NAME))


def check_request(
    stream: int | None, dl_device: tuple[int, int] | None, copy: bool | None, device: tuple[int, int]
) -> None:
    """Hold what `__dlpack__` of an array on a GPU of CUDA is asked for to the array API.

    Args:
        stream: 1 the legacy default, as None is, 2 the thread's own, -1 for no order, or a stream's handle.
        dl_device: where it is wanted.
        copy: whether a copy is.
        device: where it lies.

    Raises:
        TypeError, ValueError: no stream; 0 is none, since it could be either default.
        BufferError: it would have to be copied.
    """
    if stream is not None and (isinstance(stream, bool) or not isinstance(stream, int)):
        raise TypeError(f"a stream is a number or None, got {stream!r}")
    if stream is not None and (stream == 0 or stream < -1):
        raise ValueError(f"a stream of CUDA is -1, 1, 2 or a handle, got {stream}")
    if copy or dl_device not in (None, device):
        raise BufferError(f"this array lies on device {device}, and is handed out there without a copy")


def capsule_of(owner: object, address: int, shape: tuple[int, ...], device: tuple[int, int]) -> object:
    """uint8, contiguous, as a capsule; `owner` lives until the library that takes it gives it back, or the capsule.

    Args:
        owner: of the memory.
        address: where it begins.
        shape: of the array.
        device: (DLDeviceType, number).
    """
    steps = [1]
    for side in shape[:0:-1]:
        steps.insert(0, steps[0] * side)
    sides, strides = ((ctypes.c_int64 * len(shape))(*values) for values in (shape, steps))
    tensor = Tensor(address, *device, len(shape), UINT, 8, 1, sides, strides, 0)
    managed = Managed(tensor, None, ctypes.cast(_GIVE_BACK, ctypes.c_void_p))
    place = ctypes.addressof(managed)
    _handed_out[place] = managed, sides, strides, owner
    return _new(place, NAME, ctypes.cast(_CAPSULE_GONE, ctypes.c_void_p))


def _give_back(managed: int) -> None:
    _handed_out.pop(managed, None)


def _capsule_gone(capsule: int) -> None:
    if _is(capsule, NAME):  # who takes it gives it another name, and calls the deleter
        _handed_out.pop(_pointer(capsule, NAME), None)


# The first may come from any thread, and waits for the interpreter's lock.
_GIVE_BACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_give_back)
_CAPSULE_GONE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_capsule_gone)
