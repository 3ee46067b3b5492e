"""segment.cu compiled for this CPU, launched as `runtime.kernels.cuda` launches it on a GPU."""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from runtime.kernels.cuda import HEADER, SOURCE, Launch
from tests.helpers.cuda_driver.nvcc import HALVES

HERE = Path(__file__).parent
SHIM = HERE / "cuda_shim.cpp"
# No contraction, as -fmad=false: the arithmetic that is tested is the arithmetic that runs on the GPU.
FLAGS = (
    "-std=c++17",
    "-O2",
    *HALVES,
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
)
ANSWERS = {1: "segment.cu has no such kernel", 2: "threads ended and others wait at a barrier for them"}
TYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int}


def compiler() -> str | None:
    """A C++ compiler, if there is one: the probe on which these tests are skipped."""
    return shutil.which("g++") or shutil.which("clang++")


def source() -> str:
    """segment.cu with its header in it: what is broken on purpose may be in either."""
    return with_header(SOURCE.read_text(), HEADER.read_text())


def with_header(text: str, header: str) -> str:
    """A CUDA source with its header in the place where it is included."""
    return text.replace('#include "layout.cuh"', header.replace("#pragma once", ""))


@functools.cache
def library() -> ctypes.CDLL:
    """segment.cu as a shared library."""
    return compiled(source())


def compiled(source: str, *options: str) -> ctypes.CDLL:
    """A CUDA source as a shared library with `launch_kernel`; `options` of the compiler come after ours."""
    folder = Path(tempfile.mkdtemp(prefix="segment-"))
    (folder / "segment.cu").write_text(source)
    out = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    define = f'-DSEGMENT_CU="{folder / "segment.cu"}"'
    done = subprocess.run(
        [compiler(), *FLAGS, *options, define, SHIM, "-o", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(out))
    shutil.rmtree(folder)
    return loaded


def run(launch: Launch, kernels: ctypes.CDLL | None = None) -> None:
    """What `cuLaunchKernel` would do with it."""
    values = [TYPES[code](value) for code, value in zip(launch.types, launch.arguments, strict=True)]
    addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    found = (kernels or library()).launch_kernel(launch.kernel.encode(), *launch.grid, *launch.block[:2], addresses)
    assert found == 0, f"{launch.kernel}: {ANSWERS[found]}"


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 256 bytes, as CUDA's allocations do."""
    raw = np.empty(array.nbytes + 256, np.uint8)
    start = -raw.ctypes.data % 256
    place = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


class Cpu:
    """The place of `kernel_runs` that any machine has."""

    def __init__(self, kernels: ctypes.CDLL | None = None) -> None:
        self._kernels = kernels
        self._arrays: dict[int, np.ndarray] = {}

    def put(self, array: np.ndarray) -> int:
        """The address of a copy of `array`."""
        copy = aligned(array)
        self._arrays[copy.ctypes.data] = copy
        return copy.ctypes.data

    def get(self, address: int, like: np.ndarray) -> np.ndarray:
        """What lies there."""
        return self._arrays[address]

    def launch(self, launch: Launch) -> None:
        """Run it to its end."""
        run(launch, self._kernels)
