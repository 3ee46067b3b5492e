"""The library behind "tensorrt" and "tensorrt-rtx": imported when asked for, with what it says about errors."""

import functools
import importlib
from typing import Any

from runtime.errors import LibraryError
from runtime.kernels import nvidia
from runtime.manifest import installed_version, this_system
from runtime.spec import ANY, BackendName, Target

MODULES: dict[BackendName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
DISTRIBUTIONS: dict[BackendName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx-cu13", "tensorrt-rtx-cu12", "tensorrt-rtx"),
}
LAYERS = "Layers:\n"  # how a verbose message begins that tells all of an engine's layers
INSTALL: dict[BackendName, str] = {
    "tensorrt": "install it as NVIDIA says (pip install tensorrt, or its package for your system)",
    "tensorrt-rtx": "pip install tensorrt-rtx-cu13",
}


def library(backend: BackendName) -> Any:
    """The Python module, either of the two.

    Raises:
        LibraryError: it is not installed, or the libraries that it loads are not.
    """
    try:
        return importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:  # OSError: a shared library that the module opens is missing
        raise LibraryError(f"{backend} cannot be loaded ({error}): {INSTALL[backend]}") from None


def target(backend: BackendName) -> Target:
    """What an engine built here fits.

    A TensorRT engine fits one GPU model; so it needs a GPU to be built and to be opened. A TensorRT-RTX engine is
    compiled for its GPU where it is opened and fits all of them; it is built, and has a target, without any.
    The driver's version is no part of either: an engine outlives a driver's update.

    Raises:
        LibraryError: the library is not installed; for TensorRT also, that there is no GPU.
    """
    version = installed_version(*DISTRIBUTIONS[backend])
    if backend == "tensorrt-rtx":
        return Target(backend, version, ANY, "portable", this_system())
    gpu = nvidia.gpu()
    return Target(backend, version, gpu.name, gpu.capability, this_system())


def supported_gpu(backend: BackendName) -> nvidia.Gpu:
    """The GPU, where the library loads and lists it; TensorRT-RTX does not list every one, such as those of 9.0.

    Raises:
        LibraryError: there is no GPU, the library is not installed or does not load, or it does not list the GPU.
    """
    gpu = nvidia.gpu()
    target(backend)
    trt = library(backend)
    if backend == "tensorrt-rtx":
        listed = trt.ComputeCapability.__members__
        if f"SM{gpu.capability.replace('.', '')}" not in listed:
            known = ", ".join(name for name in listed if name.startswith("SM"))
            raise LibraryError(f"{gpu.name} has compute capability {gpu.capability}; {backend} lists {known}")
    return gpu


@functools.cache
def log_of(trt: Any) -> Any:
    """The logger of this process, an `ILogger` that keeps errors instead of printing them.

    There is one for each module because the library itself keeps the first logger that it is given and ignores others.
    Its `first_error()` is the first message since `clear()`: the cause, where the ones after it are consequences. Its
    `layers` is what a build told since then of the engine's layers, a line each; empty where it told nothing.
    """
    severity = trt.ILogger.Severity

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._first = self.layers = ""

        def log(self, level: Any, message: str) -> None:
            if message.startswith(LAYERS):
                self.layers = message
            if level in (severity.INTERNAL_ERROR, severity.ERROR) and not self._first:
                self._first = " ".join(message.split())

        def clear(self) -> None:
            self._first = self.layers = ""

        def first_error(self) -> str:
            return self._first or "it gives no reason"

    return Log()
