"""OpenVINO on the CPU: the default where there is no GPU."""

import importlib
import io
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np

from runtime.arrays import host_array
from runtime.backend import Backend, ClosedOnExit, InGroups, PlainBuffers, Stopwatch, check_frame
from runtime.cpu import cpu_features, cpu_name, max_isa
from runtime.doubling import HALVED
from runtime.errors import EngineError, LibraryError
from runtime.fit import spec_with_fit
from runtime.forks import Guard
from runtime.kernels.cpu import FrameResizer, Segmenter, load_loops, overlay
from runtime.libraries import refusing
from runtime.manifest import installed_version, this_system
from runtime.signal_stack import own_signal_stack
from runtime.spec import HALVED_VERSION, BackendName, EngineManifest, Fit, ModelSpec, Precision, Target
from runtime.threads import bound, count

DEVICE, CONVERTER = "CPU", "openvino.tools.ovc"
WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
# Two streams of half the cores each wait less for each other's threads than one of all.
LANES = 2
# How OpenVINO's execution graph names types, and how we do.
TYPE_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
# Caps of oneDNN (runtime.cpu.max_isa) under which there is no code for these types, or, under the last two of BF16,
# convolutions that take five times FP32's time. OpenVINO asks the CPU alone for its types: told BF16 under the others,
# it may end the process.
BELOW_AVX512 = ("sse41", "avx", "avx2", "avx2_vnni")
BELOW_BF16 = (*BELOW_AVX512, "avx512_core", "avx512_core_vnni")
BELOW_FP16 = (*BELOW_BF16, "avx512_core_bf16")


def this_target(backend: BackendName) -> Target:
    """This CPU. Without importing OpenVINO, which takes longer than looking for an engine should.

    Raises:
        LibraryError: OpenVINO is not installed.
    """
    return Target("openvino", installed_version("openvino"), cpu_name(), " ".join(cpu_features()), this_system())


def execution_type(precision: Precision, capabilities: list[str]) -> str:
    """What `fp16` runs as on this CPU; weights and activations of other precisions are as the graph says.

    What an engine runs as: `execution_of`.

    FP16 convolutions need AMX-FP16 to be faster than BF16 ones: without it, 16-bit means BF16 wherever the CPU has it.

    Args:
        precision: what was asked.
        capabilities: OpenVINO's OPTIMIZATION_CAPABILITIES of the device: what the CPU has, whatever the library is
            held to.

    Returns:
        "f16", "bf16" or "f32", as OpenVINO's INFERENCE_PRECISION_HINT takes them.
    """
    cap = max_isa()
    bf16, fp16 = "BF16" in capabilities and cap not in BELOW_BF16, "FP16" in capabilities and cap not in BELOW_FP16
    if precision == "fp32" or not (bf16 or fp16):
        return "f32"
    matrices = "amx_fp16" in cpu_features() and (not cap or cap.endswith("amx_fp16"))
    return "f16" if fp16 and (matrices or not bf16) else "bf16"


def execution_of(precision: Precision, executed: Collection[str], capabilities: list[str]) -> str:
    """What an engine's float layers run as, and what its maps are kept as between passes.

    Where a CPU computes faster in FP32 an engine of FP16 says so (`engines.openvino_half`). One whose weighted layers
    are all in INT8 keeps the maps that are none in BF16 on every CPU with AVX-512: of the instructions of BF16 only
    those are missing that multiply.

    Args:
        precision: of its graph.
        executed: the types that its weighted layers run in, as `executed_types` gives them.
        capabilities: as of `execution_type`.

    Source: `hasBF16HardwareSupport` in OpenVINO's intel_cpu/src/utils/precision_support.cpp.
    """
    if precision == "fp16" and set(executed) == {"fp32"}:
        return "f32"
    wanted = execution_type(precision, capabilities)
    return "bf16" if wanted == "f32" and set(executed) == {"int8"} and keeps_bf16() else wanted


def keeps_bf16() -> bool:
    """Whether OpenVINO keeps maps in BF16 here, with instructions for it or with AVX-512's."""
    return "avx512f" in cpu_features() and max_isa() not in BELOW_AVX512


def core() -> Any:
    """An openvino.Core whose plugin for the CPU is loaded, and has left this thread its own stack for signals."""
    with own_signal_stack():
        made = _library().Core()
        made.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return made


def _library() -> Any:
    # Its converter of models is a third of its import: it loads when somebody asks for `openvino.convert_model`. Until
    # this import is done, another thread's import of the converter itself fails.
    if "openvino" not in sys.modules:
        sys.modules[CONVERTER] = None  # type: ignore[assignment]
    try:
        library = importlib.import_module("openvino")
    finally:
        if sys.modules.get(CONVERTER, CONVERTER) is None:
            del sys.modules[CONVERTER]
    if "convert_model" not in vars(library):
        vars(library)["__getattr__"] = _of_converter
    return library


def _of_converter(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module(CONVERTER).convert_model


def compile_options(execution: str, lanes: int = 1) -> dict[str, str]:
    """The plugin's options for an execution type; an exported engine forgets them, so opening it gives them again.

    Without the hint a CPU with BF16 units runs everything in BF16, an FP32 engine too. Threads it counts by the
    affinity, and knows nothing of a quota.
    """
    options = {"INFERENCE_PRECISION_HINT": execution, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": str(lanes)}
    threads = bound()
    return options if threads is None else {**options, "INFERENCE_NUM_THREADS": str(threads)}


def at_once(spec: ModelSpec) -> int:
    """How many frames an engine of that spec computes at once: where the graph leaves it open, one."""
    return 1 if spec.batch_free else spec.batch


def executed_types(compiled: Any) -> dict[str, int]:
    """How many weighted layers an openvino.CompiledModel runs in each type, from its execution graph."""
    counts: Counter[str] = Counter()
    for layer in compiled.get_runtime_model().get_ops():
        info = layer.get_rt_info()
        if info["layerType"].astype(str) in WEIGHTED:
            name = info["runtimePrecision"].astype(str)
            counts[TYPE_NAMES.get(name, name)] += 1
    return dict(sorted(counts.items()))


def open_engine(engine: bytes, manifest: EngineManifest) -> Backend:
    """The engine, ready to run.

    Raises:
        EngineError: OpenVINO refuses it, or runs it in other types than its manifest says.
        LibraryError: OpenVINO is not installed.
    """
    return open_lanes(engine, manifest, 1)[0]


def open_lanes(engine: bytes, manifest: EngineManifest, lanes: int, *, lone: bool = False) -> list[Backend]:
    """The engine for so many threads at once: one copy of the weights, the cores shared out among the lanes.

    Args:
        engine, manifest: checked.
        lanes: how many.
        lone: compile it once more, for all cores, and do so a frame that is alone; see `runtime.lanes.AsksIfAlone`.

    Raises:
        EngineError: OpenVINO refuses it, or runs it in other types than its manifest says.
        LibraryError: OpenVINO is not installed.
    """
    whole = lone and lanes > 1 and count() > 1
    with ThreadPoolExecutor(2) as beside:
        loaded = beside.submit(load_loops, manifest.spec, halved=manifest.version == HALVED_VERSION)
        second = beside.submit(copy_context().run, compiled_engine, engine, manifest) if whole else None
        compiled = compiled_engine(engine, manifest, lanes)
        loaded.result()
        request = second.result().create_infer_request() if second else None
    return [OpenVinoBackend(compiled, manifest.spec, request) for _ in range(lanes)]


class OpenVinoBackend(InGroups, PlainBuffers, ClosedOnExit):
    """An engine on OpenVINO's CPU plugin. The frame goes in as uint8, the logits come out channels last."""

    def __init__(self, compiled: Any, spec: ModelSpec, alone: Any = None) -> None:
        """A request to an openvino.CompiledModel, with buffers of its own.

        Args:
            compiled: whose streams the lanes share.
            spec: of the engine.
            alone: a request that has all cores, which the lanes share: for a frame that is in flight by itself.
        """
        self.spec, self.at_once = spec, at_once(spec)
        self.stages_ms: dict[str, float] = {}
        self._request, self._alone = compiled.create_infer_request(), alone
        self._is_alone: Callable[[], bool] = lambda: False
        self._stack: np.ndarray | None = None  # of an engine that takes several
        self._resizer = FrameResizer(self.spec.preprocess)
        self._segmenter = Segmenter(self.spec, halved=HALVED in compiled.output(0).get_names())
        self._guard = Guard(f"the engine of {spec.name}", self)

    def ask(self, alone: Callable[[], bool]) -> None:
        """Ask so before each frame whether another is in flight; see `runtime.lanes.AsksIfAlone`."""
        self._is_alone = alone

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask of one frame and its overlay; see `runtime.backend.Backend`."""
        check_frame(frame := host_array(frame))
        with self._guard:
            (mask,) = self._group([frame], [None])
            return mask, overlay(frame, mask, palette, alpha)

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """The network's output for one frame, float32 NCHW; see `runtime.backend.Backend`."""
        check_frame(frame := host_array(frame))
        with self._guard:
            values = self._segmenter.doubled(self._infer([frame])[0])
            return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def postprocessing(self, frame: np.ndarray) -> Callable[[], np.ndarray]:
        """What makes the mask of one frame's logits, by itself, to be timed."""
        with self._guard:
            logits = self._infer([frame])[0].copy()
        return lambda: self._segmenter.segment(logits, *frame.shape[:2])

    def refit(self, fit: Fit) -> None:
        """The engine knows nothing of a frame's shape, its tables do; see `runtime.backend.Backend`."""
        with self._guard:
            self.spec = spec_with_fit(self.spec, fit)
            self._resizer.refit(self.spec.preprocess)
            self._segmenter.refit(self.spec)

    def close(self) -> None:
        """Free the engine and its buffers; see `runtime.backend.Backend`."""
        if not self._guard.foreign:
            with self._guard:
                self._request = self._alone = self._buffers = None

    def _refuse_closed(self) -> None:
        if self._request is None:
            raise ValueError("the engine is closed")

    def _group(self, frames: Sequence[np.ndarray], places: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        watch = Stopwatch()
        logits = self._infer(frames, watch)
        shapes = [frame.shape for frame in frames]
        masks = [
            self._segmenter.segment(one, shape[0], shape[1], place)
            for one, shape, place in zip(logits, shapes, places, strict=False)
        ]
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return masks

    def _confident(
        self, frame: np.ndarray, place: np.ndarray | None, other: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        watch, (height, width) = Stopwatch(), frame.shape[:2]
        logits = self._infer([frame], watch)[0]
        mask = self._segmenter.segment(logits, height, width, place)
        found = self._segmenter.confidence(logits, height, width, other)
        watch.lap("postprocess")
        self.stages_ms = watch.laps_ms
        return mask, found

    def _images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        # uint8 (batch, height, width, 3), writable: OpenVINO shares memory only where it could also write.
        if self.at_once == 1:
            image = self._resizer.resize(frames[0])
            return (image if image.flags.writeable else image.copy())[None]
        if self._stack is None:
            size = self.spec.preprocess
            self._stack = np.zeros((self.spec.batch, size.height, size.width, 3), np.uint8)
        for place, frame in zip(self._stack, frames, strict=False):
            np.copyto(place, self._resizer.resize(frame))
        return self._stack

    def _infer(self, frames: Sequence[np.ndarray], watch: Stopwatch | None = None) -> np.ndarray:
        # A view of the engine's (batch, h, w, channels), valid until the next call: float32, or uint16 that are
        # bfloat16's bits. What is beyond the frames is of none of them.
        import openvino

        self._refuse_closed()
        watch = watch or Stopwatch()
        images = self._images(frames)
        watch.lap("preprocess")
        with refusing(EngineError, f"OpenVINO cannot run the engine of {self.spec.name}", line=-1):
            request = self._alone if self._alone is not None and self._is_alone() else self._request
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            request.infer()
        watch.lap("network")
        output = request.get_output_tensor()
        logits: np.ndarray = output.data  # NumPy has no bfloat16: OpenVINO gives it as float16 of the same bits
        logits = logits.reshape(len(images), -1, *logits.shape[-2:])  # BF16 has the frames' rows below one another
        return logits.view(np.uint16) if output.element_type == openvino.Type.bf16 else logits


def compiled_engine(engine: bytes, manifest: EngineManifest, lanes: int = 1) -> Any:
    """The engine as an openvino.CompiledModel, held to what its manifest says that it executes.

    Raises:
        EngineError: OpenVINO refuses it, or runs it in other types than its manifest says.
        LibraryError: OpenVINO is not installed.
    """
    try:
        plugins = core()
    except ImportError as error:
        raise LibraryError(f"OpenVINO does not load ({error}): pip install openvino") from None
    with refusing(EngineError, "OpenVINO refuses the engine", line=-1):
        capabilities = plugins.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        wanted = execution_of(manifest.precision, manifest.executed, capabilities)
        compiled = plugins.import_model(io.BytesIO(engine), DEVICE, compile_options(wanted, lanes))
        executed = executed_types(compiled)
    taken = compiled.input(0).partial_shape[0]
    wanted_batch = at_once(manifest.spec)
    if taken.is_dynamic or taken.get_length() != wanted_batch:
        raise EngineError(f"the engine takes {taken} frames at once, its manifest says {wanted_batch}; build it again")
    if executed != manifest.executed:
        raise EngineError(f"the engine runs {executed}, its manifest says {manifest.executed}; build it again")
    return compiled
