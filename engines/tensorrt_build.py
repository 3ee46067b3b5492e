"""ONNX -> TensorRT engine. One code path for TensorRT 10 and 11 and TensorRT-RTX: the module is the parameter."""

import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from calib.graphs import graph_from_bytes
from engines.built import Built
from engines.tensorrt_layout import allow_batches, rewritten, write_channels_last
from engines.tensorrt_plan import layers_from_text
from engines.tensorrt_precision import CONTRADICTION, NETWORK, engine_beside_network, network_types, prove
from engines.tensorrt_timings import TimingCache
from runtime.backends.tensorrt_library import library, log_of, supported_gpu, target
from runtime.bars import bar
from runtime.cli import log
from runtime.errors import EngineError, GraphError, LibraryError
from runtime.libraries import refusing, signals_held
from runtime.spec import BackendName, ModelSpec, Precision

WORKSPACE = 2 << 30  # bytes of scratch memory that a kernel may ask for
# By its plan, of either shipped network: `python -m engines.plan INT8.onnx --against FP16.onnx`.
SLOW_INT8 = (
    "TensorRT-RTX quantizes in a kernel of its own after every INT8 convolution, and so moves more bytes than in FP16: "
    "FP16 is expected to be faster"
)


class NotBuilt(EngineError):
    """The library took a network and could not build it."""


def build(
    onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName, timings: Path | None = None
) -> Built:
    """The engine of a strongly typed graph, proven to compute in the precision asked.

    TensorRT measures its kernels on the GPU that it builds for. TensorRT-RTX builds without one, for all RTX GPUs from
    Ampere on, and compiles the kernels where the engine is opened.

    Args:
        onnx: a graph whose types are its precision; no flag changes them.
        spec: of that graph.
        precision: proven from the typed network before the build, and from the engine after it where a GPU can read it.
        backend: "tensorrt" or "tensorrt-rtx".
        timings: where TensorRT keeps what it measured (`engines.tensorrt_timings`); None: it measures anew.

    Raises:
        EngineError: the library cannot take a node or build the network, or the precision is another.
        LibraryError: the library is missing, or for TensorRT the GPU.
    """
    target(backend)
    trt = library(backend)
    logger = log_of(trt)
    if precision == "int8" and backend == "tensorrt-rtx":
        log(f"warning: {SLOW_INT8}")
    logger.clear()
    with refusing(EngineError, f"{trt.__name__} refuses the graph of {spec.name}"):
        try:
            return _proven(trt, onnx, spec, precision, backend, timings, channels_last=True)
        except NotBuilt as error:  # the kernels take planes, too
            log(f"{error}; building it with planes in place of channels last")
            logger.clear()
            return _proven(trt, onnx, spec, precision, backend, timings, channels_last=False)


def _in_layout(onnx: bytes, spec: ModelSpec, backend: BackendName) -> bytes:
    try:
        return rewritten(graph_from_bytes(onnx)).SerializeToString()
    except GraphError as error:
        raise EngineError(f"{backend} cannot take the graph of {spec.name}: {error}") from None


def _proven(
    trt: Any, onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName, timings: Path | None,
    *, channels_last: bool,
) -> Built:  # fmt: skip
    graph = _in_layout(onnx, spec, backend) if channels_last else onnx
    with signals_held() as asked:
        return _of_graph(trt, graph, spec, precision, backend, timings, asked, channels_last=channels_last)


def _of_graph(
    trt: Any, graph: bytes, spec: ModelSpec, precision: Precision, backend: BackendName, timings: Path | None,
    asked: threading.Event, *, channels_last: bool,
) -> Built:  # fmt: skip
    logger = log_of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise EngineError(_parser_error(parser, spec, backend))
    if channels_last:
        write_channels_last(trt, network)
    executed = prove(network_types(trt, network), precision, "graph", spec.name)
    engine = _built(trt, builder, network, precision, spec, timings, asked)
    layers = layers_from_text(logger.layers)
    types_from = _types_from(trt, engine, spec, backend, executed)
    if types_from.startswith(CONTRADICTION):
        log(f"warning: the types of {spec.name} are known from {types_from}; look at it with a profiler")
    return Built(engine, executed, types_from, layers)


def _built(
    trt: Any, builder: Any, network: Any, precision: Precision, spec: ModelSpec, timings: Path | None,
    asked: threading.Event,
) -> bytes:  # fmt: skip
    with closing(_progress(trt, asked)) as progress:
        config = _config(trt, builder, precision, progress)
        allow_batches(trt, builder, config, network, spec.batch)
        cache = TimingCache(config, timings) if timings else None
        serialized = builder.build_serialized_network(network, config)
    if serialized is None and asked.is_set():
        raise KeyboardInterrupt
    if serialized is None:
        raise NotBuilt(f"{trt.__name__} cannot build {spec.name}: {log_of(trt).first_error()}")
    if cache:
        cache.keep()
    return bytes(serialized)


def _config(trt: Any, builder: Any, precision: Precision, progress: Any) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # without it the inspector tells no types
    config.progress_monitor = progress
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, it cuts the inputs of every product to 10 bits
    if hasattr(
        trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"
    ):  # TensorRT-RTX from 1.4 on: nothing is allocated in a frame,
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # which would end its capture as a CUDA graph
    return config


def _types_from(trt: Any, engine: bytes, spec: ModelSpec, backend: BackendName, executed: dict[str, int]) -> str:
    # From what the engine tells of itself, too, where a GPU can read it.
    try:
        supported_gpu(backend)
    except LibraryError:
        return f"{NETWORK}; no GPU is here that could read the engine"
    runtime = trt.Runtime(log_of(trt))
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise EngineError(f"{trt.__name__} cannot read the {spec.name} it built: {log_of(trt).first_error()}")
    information = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return engine_beside_network(executed, information)


def _parser_error(parser: Any, spec: ModelSpec, backend: BackendName) -> str:
    error = parser.get_error(0)
    node = f"node {error.node_name()} ({error.node_operator()})" if error.node_operator() else "the graph"
    return f"{backend} cannot take {node} of {spec.name}: {' '.join(error.desc().split())}"


def _progress(trt: Any, asked: threading.Event) -> Any:
    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        """A bar for each phase that is open, on a terminal alone, and the end of a build that is asked to end."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._bars: dict[str, Any] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if sys.stderr and sys.stderr.isatty():
                self._bars[phase_name] = bar(phase_name, num_steps, "step", leave=False)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._bars:
                self._bars[phase_name].update()
            return not asked.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self._bars:
                self._bars.pop(phase_name).close()

        def close(self) -> None:
            while self._bars:  # of a build that failed or was interrupted
                self._bars.popitem()[1].close()

    return Progress()
