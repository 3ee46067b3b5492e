"""The NVIDIA GPU of this machine, asked through the driver's own library: no package is needed to know what is here."""

import ctypes
import os
import sys
from typing import NamedTuple

from runtime.errors import LibraryError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# cuda.h, CUdevice_attribute
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
# cuda.h, CUDA_ERROR_NOT_INITIALIZED: what cuInit answers in a process that was forked from one that had called it.
FORKED = 3
_used_by: int | None = None  # the process that CUDA was begun in


class Gpu(NamedTuple):
    """The first GPU: its name, its compute capability ("9.0") and the CUDA version of its driver ("13.0")."""

    name: str
    capability: str
    driver: str


def gpu(driver: str = DRIVER) -> Gpu:
    """The first GPU that CUDA shows.

    Args:
        driver: the library to load.

    Raises:
        LibraryError: there is no driver, it shows no GPU, or this process was forked from one that used CUDA.
    """
    global _used_by
    if _used_by not in (None, os.getpid()):
        raise _forked()
    try:
        library = ctypes.CDLL(driver)
    except OSError:
        raise LibraryError(f"no NVIDIA GPU here: the driver's library {driver} is not installed") from None
    code, count = library.cuInit(0), ctypes.c_int()
    if code == FORKED:
        raise _forked()
    if code == 0:
        _used_by = os.getpid()
        code = library.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        raise LibraryError(f"no NVIDIA GPU here: the driver shows {count.value} of them (CUDA error {code})")
    return _describe(library)


def _forked() -> LibraryError:
    return LibraryError(
        "CUDA cannot be used in this process: it was forked from one that had used it. Start it by spawn, or fork "
        "before anything asks for the GPU"
    )


def _describe(library: ctypes.CDLL) -> Gpu:
    device, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library.cuDeviceGet(ctypes.byref(device), 0))
    _check(library.cuDeviceGetName(name, len(name), device))
    _check(library.cuDriverGetVersion(ctypes.byref(version)))
    major, minor = (_attribute(library, device, which) for which in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
    return Gpu(name.value.decode(), f"{major}.{minor}", f"{version.value // 1000}.{version.value % 1000 // 10}")


def _attribute(library: ctypes.CDLL, device: ctypes.c_int, which: int) -> int:
    value = ctypes.c_int()
    _check(library.cuDeviceGetAttribute(ctypes.byref(value), which, device))
    return value.value


def _check(code: int) -> None:
    if code:
        raise LibraryError(f"the NVIDIA driver answers CUDA error {code} about its first GPU; see nvidia-smi")
