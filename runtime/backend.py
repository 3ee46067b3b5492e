"""What an engine looks like from outside, and how one is opened."""

import importlib
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, cast

import numpy as np

from runtime.errors import EngineError, FrameError
from runtime.manifest import read_manifest, rebuild_command, refuse_other_target, verified_engine
from runtime.signature import refuse_unsigned
from runtime.spec import BackendName, EngineManifest, ModelSpec, Target

Opened = TypeVar("Opened")

# One file per inference library; TensorRT and TensorRT-RTX are one API under two module names.
MODULES: dict[BackendName, str] = {
    "tensorrt": "runtime.backends.tensorrt",
    "tensorrt-rtx": "runtime.backends.tensorrt",
    "openvino": "runtime.backends.openvino",
    "onnxruntime": "runtime.backends.onnxruntime",
}


class Backend(Protocol):
    """An open engine. Not thread-safe: one thread at a time, and a result is the caller's to keep."""

    spec: ModelSpec
    stages_ms: dict[str, float]  # of the last frame: preprocess, network, postprocess; host clock

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """The mask of one frame.

        Args:
            frame: uint8 (H, W, 3) RGB, any size.

        Returns:
            uint8 (H, W) train ids, a new array.

        Raises:
            FrameError: another shape or type.
        """

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask of one frame, as `segment` gives it, and the frame under its colours.

        TensorRT makes both in one pass, and its buffers anew for other colours and for a `segment` in between.

        Args:
            frame: uint8 (H, W, 3) RGB, any size.
            palette: uint8 (256, 3) RGB, `runtime.labels.palette`.
            alpha: 0 (the frame alone) to 1 (the colours alone).

        Returns:
            uint8 (H, W) and uint8 (H, W, 3) RGB, as `runtime.reference.overlay` defines it; new arrays.

        Raises:
            FrameError: another shape or type.
            ValueError: the palette has another shape or type, or alpha is out of range.
        """

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """The network's output for one frame, for comparison only: it copies what `segment` leaves on the device.

        Returns:
            float32 (1, classes * block**2, h, w), NCHW; see `ModelSpec`.
        """

    def close(self) -> None:
        """Free everything; a second call does nothing."""

    def __enter__(self: Opened) -> Opened:
        """The backend itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls `close`."""


class ClosedOnExit:
    """The `with` statement for a class that has `close`."""

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self: Opened) -> Opened:
        """The object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls `close`."""
        self.close()


class Stopwatch:
    """Milliseconds between laps, by the host's clock."""

    def __init__(self) -> None:
        self.laps_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the lap of that name; the next one begins."""
        now = time.perf_counter()
        self.laps_ms[name] = (now - self._last) * 1e3
        self._last = now


class BackendModule(Protocol):
    """What each module of `MODULES` offers."""

    def this_target(self, backend: BackendName) -> Target:
        """This machine, as that library sees it.

        Raises:
            LibraryError: the library or its device is not here.
        """

    def open_engine(self, engine: bytes, manifest: EngineManifest) -> Backend:
        """The engine, ready to run.

        Raises:
            EngineError: the library refuses it.
        """


def backend_module(backend: BackendName) -> BackendModule:
    """The one module that knows the library behind `backend`."""
    return cast(BackendModule, importlib.import_module(MODULES[backend]))


def open_backend(path: str | Path, *, require_signed: str | Path | None = None) -> Backend:
    """The engine at `path`, checked against its manifest and this machine, ready to run by one thread at a time.

    Args:
        path: of the engine.
        require_signed: a public key, whose owner must have signed it.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library is not installed.
    """
    module, engine, manifest = checked_engine(path, require_signed)
    return module.open_engine(engine, manifest)


def checked_engine(
    path: str | Path, require_signed: str | Path | None = None
) -> tuple[BackendModule, bytes, EngineManifest]:
    """The engine at `path` and who opens it, checked against its manifest and this machine.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library, or the one that checks signatures, is not installed.
    """
    manifest = read_manifest(path)
    if require_signed is not None:
        refuse_unsigned(path, manifest, require_signed)
    module = backend_module(manifest.backend)
    refuse_other_target(path, manifest, module.this_target(manifest.backend))
    engine = verified_engine(path, manifest)
    if manifest.spec.batch != 1:
        raise EngineError(
            f"{path} takes {manifest.spec.batch} frames at once, the runtime gives one. "
            f"Build it for one: {rebuild_command(manifest)}"
        )
    return module, engine, manifest


def check_frame(frame: object) -> None:
    """Refuse what is not a frame.

    Raises:
        FrameError: it is not an array, not uint8 (H, W, 3), or empty.
    """
    if not isinstance(frame, np.ndarray):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}".removeprefix("builtins.")
        raise FrameError(f"a frame is a NumPy array, uint8 (height, width, 3) RGB, got {kind}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise FrameError(f"a frame is uint8 (height, width, 3) RGB, got {frame.dtype} {frame.shape}")
