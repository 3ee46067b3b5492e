"""What an engine looks like from outside, and how one is opened."""

import importlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np

from runtime.arrays import confident_arrays, host_arrays, paired
from runtime.errors import EngineError
from runtime.first_use import is_due, prove_once
from runtime.fit import with_fit
from runtime.forks import Guard
from runtime.manifest import read_manifest, refuse_other_target, verified_engine
from runtime.reference import check_frame as check_frame
from runtime.reference import check_size
from runtime.signature import refuse_unsigned
from runtime.spec import BackendName, EngineManifest, Fit, ModelSpec, Target
from runtime.texts import shown
from runtime.threads import limited

Opened = TypeVar("Opened")

# One file per inference library; TensorRT and TensorRT-RTX are one API under two module names.
MODULES: dict[BackendName, str] = {
    "tensorrt": "runtime.backends.tensorrt",
    "tensorrt-rtx": "runtime.backends.tensorrt",
    "openvino": "runtime.backends.openvino",
    "onnxruntime": "runtime.backends.onnxruntime",
}


class Backend(Protocol):
    """An open engine, for one thread at a time and the process that opened it; a result is the caller's to keep.

    Another thread meanwhile, and a process that was forked from this one, are refused as an EngineError. The refusal
    costs a frame a microsecond.
    """

    spec: ModelSpec
    at_once: int  # frames that one run of the engine computes at most
    stages_ms: dict[str, float]  # of the last frame or group: preprocess, network, postprocess; host clock

    @overload
    def segment(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray: ...

    @overload
    def segment(self, frame: Any, out: Any = None) -> Any: ...

    def segment(self, frame: Any, out: Any = None) -> Any:
        """The mask of one frame.

        Either is NumPy's, or another library's by DLPack or `__array_interface__`. TensorRT also takes either on the
        GPU, by DLPack or `__cuda_array_interface__`, contiguous, and copies nothing: it waits for what their library
        has enqueued (DLPack), or for their `stream`; when it returns, the mask is there on every stream.

        Args:
            frame: uint8 (H, W, 3) RGB, any size and strides. From `frame_buffer` it is taken without a copy.
            out: uint8 (H, W), where the mask is written; None: a new array. To `mask_buffer` it comes without a copy.

        Returns:
            uint8 (H, W) train ids: `out`, or a new array; of a frame on the GPU a new `GpuMask` there, for DLPack and
            `__cuda_array_interface__`.

        Raises:
            FrameError: the frame is no array, of another shape or type, or on a GPU where the engine does not run.
            ValueError: `out` is of another shape or type, read-only, or overlaps the frame; nothing is written.
            EngineError: another thread uses the engine, or another process opened it.
        """

    def segment_batch(self, frames: Sequence[Any], outs: Sequence[Any] | None = None) -> list[Any]:
        """The masks of several frames, of any sizes: an engine of BATCH=N computes N at once, others one after another.

        All are looked at before the first is segmented: one that is refused costs no other's mask.

        Args:
            frames: as `segment` takes them; none is none.
            outs: where the masks are written, one a frame; None: new arrays.

        Returns:
            the masks in the frames' order, the same as `segment` gives: the same bits where the library adds up a
            batch as it adds up one frame, as OpenVINO and onnxruntime do.

        Raises:
            FrameError: as `segment`, and says which frame.
            ValueError: as `segment`, and says which; or there are not as many outs as frames.
            EngineError: as `segment`.
        """

    def frame_buffer(self, height: int, width: int) -> np.ndarray:
        """Where a frame is best decoded to: `segment`, `overlay` and `logits` take it from there without a copy.

        On a GPU it is page-locked. It is the same array for a size until another size is asked for or, on a GPU, used;
        then, and after `close`, it remains an ordinary array, valid as long as it is referenced. A call with a frame
        that lies elsewhere may write over it, so may nothing else but the caller.

        Returns:
            uint8 (height, width, 3), contiguous, its values unset.

        Raises:
            ValueError: a size below one, or the engine is closed.
            EngineError: another thread uses the engine, or another process opened it.
            LibraryError: the system locks no more memory.
        """

    def mask_buffer(self, height: int, width: int) -> np.ndarray:
        """Where a mask is best taken from: as `out` of `segment` it is written without a copy.

        As `frame_buffer`, uint8 (height, width); any next call may write over it.
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
            FrameError: it is no array, or of another shape or type.
            EngineError: another thread uses the engine, or another process opened it.
            ValueError: the palette has another shape or type, or alpha is out of range.
        """

    def confidence(self, frame: Any, out: Any = None, confidence_out: Any = None) -> tuple[Any, Any]:
        """The mask of one frame, as `segment` gives it, and how far each pixel's class is ahead of the second.

        It costs what `segment` costs, and one more look at the logits. `segment` is as quick as without it.

        Args:
            frame: as `segment` takes it.
            out: where the mask is written; None: a new array.
            confidence_out: likewise the confidence; it does not overlap the mask.

        Returns:
            uint8 (H, W) each, `runtime.reference.confidence` the second; where they are is as `segment` has it.

        Raises:
            FrameError, ValueError: as `segment`.
            EngineError: as `segment`; or the graph gives class ids, which have no confidence.
        """

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """The network's output for one frame, for comparison only: it copies what `segment` leaves on the device.

        Returns:
            float32 (1, classes * block**2, h, w), NCHW; see `ModelSpec`.
        """

    def refit(self, fit: Fit) -> None:
        """Lay the next frames in the network's input by this fit (`Preprocess.fit`), in place of the one before."""

    def close(self) -> None:
        """Free everything; a second call does nothing, nor does one in a forked child: the engine is its parent's.

        Raises:
            EngineError: another thread uses the engine, which stays open.
        """

    def __enter__(self: Opened) -> Opened:
        """The backend itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls `close`."""


def refuse_ids(spec: ModelSpec) -> None:
    """Refuse to tell how sure a class is of a network that names nothing but the class.

    Raises:
        EngineError: its graph gives class ids.
    """
    if spec.upsample == "nearest":
        raise EngineError(
            f"{spec.name} has no confidence: its graph gives class ids and no logits. Take in a file that ends in them"
        )


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


class OneByOne:
    """`segment_batch` of a backend that takes one frame at a time."""

    at_once = 1

    def segment(self, frame: Any, out: Any = None) -> Any:
        """The mask of one frame; see `Backend.segment`."""
        raise NotImplementedError

    def segment_batch(self, frames: Sequence[Any], outs: Sequence[Any] | None = None) -> list[Any]:
        """One after another; see `Backend.segment_batch`."""
        return [self.segment(frame, out) for frame, out in paired(frames, outs)]


class InGroups:
    """`segment` and `segment_batch` of a backend on the CPU, as many frames at once as its engine takes."""

    spec: ModelSpec
    at_once: int
    _guard: Guard

    def segment(self, frame: Any, out: Any = None) -> Any:
        """The mask of one frame; see `Backend.segment`."""
        host, place = host_arrays(frame, out)
        with self._guard:
            (mask,) = self._group([host], [place])
        return mask if out is None else out

    def confidence(self, frame: Any, out: Any = None, confidence_out: Any = None) -> tuple[Any, Any]:
        """The mask of one frame and its confidence; see `Backend.confidence`."""
        refuse_ids(self.spec)
        host, place, other = confident_arrays(frame, out, confidence_out)
        with self._guard:
            mask, found = self._confident(host, place, other)
        return mask if out is None else out, found if confidence_out is None else confidence_out

    def segment_batch(self, frames: Sequence[Any], outs: Sequence[Any] | None = None) -> list[Any]:
        """The masks of several frames; see `Backend.segment_batch`."""
        pairs = [(*host_arrays(*pair), pair[1]) for pair in paired(frames, outs)]
        found: list[Any] = []
        with self._guard:
            for start in range(0, len(pairs), self.at_once):
                images, places, given = zip(*pairs[start : start + self.at_once], strict=True)
                masks = self._group(images, places)
                found += [mask if out is None else out for mask, out in zip(masks, given, strict=True)]
        return found

    def _group(self, frames: Sequence[np.ndarray], places: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        # Masks of `at_once` frames or fewer, within the guard; a place is where one is written, None a new array.
        raise NotImplementedError

    def _confident(
        self, frame: np.ndarray, place: np.ndarray | None, other: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        # The mask and the confidence of one frame, likewise.
        raise NotImplementedError


class PlainBuffers:
    """`frame_buffer` and `mask_buffer` of a backend that takes any contiguous array without a copy."""

    _guard: Guard
    _buffers: tuple[np.ndarray, np.ndarray] | None = None  # frame and mask of the size that was asked for last

    def frame_buffer(self, height: int, width: int) -> np.ndarray:
        """The frame of that size; see `Backend.frame_buffer`."""
        return self._held(height, width)[0]

    def mask_buffer(self, height: int, width: int) -> np.ndarray:
        """The mask of that size; see `Backend.mask_buffer`."""
        return self._held(height, width)[1]

    def _refuse_closed(self) -> None:
        # Raises a ValueError once the engine is closed.
        raise NotImplementedError

    def _held(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        size = check_size(height, width)
        with self._guard:
            self._refuse_closed()
            if self._buffers is None or self._buffers[1].shape != size:
                self._buffers = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
            return self._buffers


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


def open_backend(
    path: str | Path,
    *,
    threads: int | None = None,
    require_signed: str | Path | None = None,
    fit: Fit | None = None,
) -> Backend:
    """The engine at `path`, checked against its manifest and this machine, ready to run by one thread at a time.

    Args:
        path: of the engine.
        threads: of the CPU that it uses at most; None: as many as this process may, by affinity and cgroup.
        require_signed: a public key, whose owner must have signed it.
        fit: what becomes of frames of another shape, in place of what its manifest says; see `Preprocess`.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, built for another machine, or wrong on
            this one.
        LibraryError: its inference library is not installed.
        ValueError: threads is no number of threads, or fit is none.
    """
    with limited(threads), Guard("an engine that is being opened"):
        module, engine, manifest = checked_engine(path, require_signed)
        fitted = with_fit(manifest, fit)
        prove_before_fit(path, module, engine, manifest, fitted)
        backend = module.open_engine(engine, fitted)
        try:
            if fitted == manifest:
                prove_once(path, manifest, backend)
        except BaseException:
            backend.close()
            raise
        return backend


def prove_before_fit(
    path: str | Path, module: BackendModule, engine: bytes, manifest: EngineManifest, fitted: EngineManifest
) -> None:
    """Prove an engine that is to be opened with another fit, where that is due: the proof was made with its own.

    Raises:
        EngineError: it computes something else on this machine.
    """
    if fitted != manifest and is_due(path, manifest):
        with module.open_engine(engine, manifest) as backend:
            prove_once(path, manifest, backend)


def checked_engine(
    path: str | Path, require_signed: str | Path | None = None
) -> tuple[BackendModule, bytes, EngineManifest]:
    """The engine at `path` and who opens it, checked against its manifest and this machine.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library, or the one that checks signatures, is not installed.
    """
    if not isinstance(path, (str, os.PathLike)) or not Path(path).name:
        given = repr(path) if isinstance(path, (str, os.PathLike)) else type(path).__name__
        raise EngineError(f"an engine is named by its path, got {given}")
    if Path(path).suffix == ".onnx":
        raise EngineError(f"{shown(path)} is a graph, not an engine; build one of it: python -m engines.build {path}")
    manifest = read_manifest(path)
    if require_signed is not None:
        refuse_unsigned(path, manifest, require_signed)
    module = backend_module(manifest.backend)
    refuse_other_target(path, manifest, module.this_target(manifest.backend))
    engine = verified_engine(path, manifest)
    return module, engine, manifest
