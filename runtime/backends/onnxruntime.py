"""onnxruntime: the referee. Pre- and post-processing are the NumPy definitions themselves."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime import reference
from runtime.arrays import host_array
from runtime.backend import ClosedOnExit, InGroups, PlainBuffers, Stopwatch, check_frame
from runtime.errors import EngineError, LibraryError
from runtime.fit import spec_with_fit
from runtime.forks import Guard
from runtime.kernels.copies import contiguous
from runtime.libraries import refusing
from runtime.manifest import installed_version, this_system
from runtime.spec import ANY, BackendName, EngineManifest, Fit, Target
from runtime.threads import asked, count

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
ERRORS = 3  # its log level; below it warns of every constant of float16 that it does not fold
PACKAGES = ("onnxruntime-gpu", "onnxruntime")


def this_target(backend: BackendName) -> Target:
    """This machine: an ONNX graph runs anywhere, so the version alone is held to.

    Raises:
        LibraryError: onnxruntime is not installed.
    """
    return Target("onnxruntime", installed_version(*reversed(PACKAGES)), ANY, ANY, this_system())


def providers(available: list[str]) -> list[str]:
    """Where a graph runs, of what this package offers: CUDA, and the CPU for the rest."""
    return [name for name in (CUDA, CPU) if name in available]


def session_options() -> Any:
    """What every session of ours is opened with.

    The referee computes what a graph says: onnxruntime's fusions of Q/DQ into integer operators change results, and
    with scales in float16 they ruin them (version 1.32; microsoft/onnxruntime issues 24711 and 32132 are of this kind).
    On a CPU without VNNI their products of 8 bits saturate, too.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = ERRORS
    threads = count()
    if asked() or threads < (os.cpu_count() or 1):  # by itself it takes the whole machine's, whatever is granted
        options.intra_op_num_threads = threads
    return options


def open_engine(engine: bytes, manifest: EngineManifest) -> "OnnxRuntimeBackend":
    """The graph in a session: on CUDA where the package has it, else on the CPU.

    Raises:
        EngineError: onnxruntime refuses it.
        LibraryError: onnxruntime is not installed.
    """
    return OnnxRuntimeBackend(engine, manifest)


class OnnxRuntimeBackend(InGroups, PlainBuffers, ClosedOnExit):
    """A graph in onnxruntime; `provider` names where it runs."""

    def __init__(self, engine: bytes, manifest: EngineManifest) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise LibraryError(f"onnxruntime does not load ({error}): pip install onnxruntime") from None
        self.spec, self.at_once = manifest.spec, manifest.spec.batch
        self.stages_ms: dict[str, float] = {}
        with refusing(EngineError, "onnxruntime refuses the engine"):
            usable = providers(onnxruntime.get_available_providers())
            session = onnxruntime.InferenceSession(engine, session_options(), providers=usable)
        self.provider: str = session.get_providers()[0]
        self._input = session.get_inputs()[0].name
        self._dtype = np.float16 if "float16" in session.get_inputs()[0].type else np.float32
        taken = session.get_inputs()[0].shape[0]
        if not (isinstance(taken, str) if self.spec.batch_free else taken == self.spec.batch):
            raise EngineError(
                f"the engine takes {taken} frames at once, its manifest says {self.spec.batch_shown}; build it again"
            )
        self._session = session
        self._guard = Guard(f"the engine of {self.spec.name}", self)

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask of one frame and its overlay; see `runtime.backend.Backend`."""
        frame = host_array(frame)
        mask = self.segment(frame)
        return mask, reference.overlay(frame, mask, palette, alpha)

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """The network's output for one frame, float32 NCHW; see `runtime.backend.Backend`."""
        check_frame(frame := host_array(frame))
        with self._guard:
            return self._infer([reference.preprocess(frame, self.spec.preprocess)])[:1].astype(np.float32)

    def refit(self, fit: Fit) -> None:
        """Each frame is laid by the spec; see `runtime.backend.Backend`."""
        with self._guard:
            self.spec = spec_with_fit(self.spec, fit)

    def close(self) -> None:
        """Free the session; see `runtime.backend.Backend`."""
        if not self._guard.foreign:
            with self._guard:
                self._session = self._buffers = None

    def _refuse_closed(self) -> None:
        if self._session is None:
            raise ValueError("the engine is closed")

    def _group(self, frames: Sequence[np.ndarray], places: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        watch = Stopwatch()
        values = [reference.preprocess(contiguous(frame), self.spec.preprocess) for frame in frames]
        watch.lap("preprocess")
        logits = self._infer(values)
        watch.lap("network")
        masks = [reference.segment(logits[i : i + 1], self.spec, frame.shape) for i, frame in enumerate(frames)]
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return [_placed(mask, place) for mask, place in zip(masks, places, strict=True)]

    def _confident(
        self, frame: np.ndarray, place: np.ndarray | None, other: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        watch = Stopwatch()
        values = [reference.preprocess(contiguous(frame), self.spec.preprocess)]
        watch.lap("preprocess")
        logits = self._infer(values)[:1]
        watch.lap("network")
        mask = reference.segment(logits, self.spec, frame.shape)
        found = reference.segment_confidence(logits, self.spec, frame.shape)
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return _placed(mask, place), _placed(found, other)

    def _infer(self, frames: list[np.ndarray]) -> np.ndarray:
        # float32 (1, 3, height, width) each -> the graph's own type (batch, channels, h, w), the last frame again for
        # those that are missing
        self._refuse_closed()
        with refusing(EngineError, f"onnxruntime cannot run the engine of {self.spec.name}"):
            values = frames[0] if self.spec.batch == 1 else self._batch(frames)
            logits: np.ndarray = self._session.run(None, {self._input: values.astype(self._dtype, copy=False)})[0]
        return logits

    def _batch(self, frames: list[np.ndarray]) -> np.ndarray:
        missing = 0 if self.spec.batch_free else self.spec.batch - len(frames)
        return np.concatenate([*frames, *[frames[-1]] * missing])


def _placed(mask: np.ndarray, place: np.ndarray | None) -> np.ndarray:
    if place is None:
        return mask
    np.copyto(place, mask)
    return place
