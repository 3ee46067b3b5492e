"""The library behind "tensorrt" and "tensorrt-rtx": imported when asked for, with what it says about errors."""

import functools
import importlib
from typing import Any

from runtime.commands import command, option
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
OLDEST_RTX = 8.0  # of what TensorRT-RTX builds for by itself; for 7.5 it wants an engine for that alone
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
    refuse_unlisted(backend, gpu)
    return gpu


def refuse_unlisted(backend: BackendName, gpu: nvidia.Gpu) -> None:
    """Refuse a GPU for which TensorRT-RTX has no kernels, before it fails over an engine in words of its own.

    Raises:
        LibraryError: it is not listed, or older than what engines are built for; the library does not load.
    """
    if backend != "tensorrt-rtx":
        return
    listed = [name for name in library(backend).ComputeCapability.__members__ if name.startswith("SM")]
    instead = f"Build for another library: {command('engine', backend='tensorrt')} or {option('backend', 'openvino')}"
    if f"SM{gpu.capability.replace('.', '')}" not in listed:
        raise LibraryError(
            f"{gpu.name} has compute capability {gpu.capability}; {backend} lists {', '.join(listed)}. {instead}"
        )
    if float(gpu.capability) < OLDEST_RTX:
        raise LibraryError(
            f"{gpu.name} has compute capability {gpu.capability}; engines for {backend} are built for Ampere "
            f"({OLDEST_RTX}) and newer. {instead}"
        )


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
