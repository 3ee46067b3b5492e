"""What the doctor tries of an NVIDIA GPU, from its driver to a captured frame; each step needs the one before."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import EngineError, LibraryError
from runtime.health.steps import Note, Step
from runtime.kernels import nvidia

if TYPE_CHECKING:  # NumPy comes with it, which may be what is broken
    from runtime.spec import BackendName

BACKENDS: "tuple[BackendName, ...]" = ("tensorrt", "tensorrt-rtx")
SIZE = (37, 53)  # of the frame: odd, and another than the network's
MIB = 1 << 20


class GpuTrial:
    """The steps and what they hand on; `close` gives all of it back."""

    def __init__(self, engine: Path | None) -> None:
        """Nothing is tried yet; `engine` is one for TensorRT, by default the newest that fits."""
        self._engine = engine
        self._stack = ExitStack()
        self._driver: Any = None
        self._stream: Any = None
        self._case: Any = None
        self._opened: Any = None
        self._mask: Any = None

    def steps(self) -> list[Step]:
        """In their order."""
        return [
            Step("GPU", _gpu),
            Step("TensorRT", _library),
            Step("nvcc", _nvcc),
            Step("pycuda", self._pycuda),
            Step("allocate", self._allocate),
            Step("copy", self._copy),
            Step("kernels", self._kernels),
            Step("capture", self._capture),
            Step("deserialise", self._deserialise),
            Step("enqueue", self._enqueue),
            Step("captured frame", self._captured_frame),
        ]

    def close(self) -> None:
        """Free what the steps made, the last first."""
        self._stack.close()

    def _pycuda(self) -> str:
        from runtime.backends.tensorrt import cuda_driver, primary_context

        self._driver = cuda_driver()
        self._context = primary_context(self._driver)
        return "a context on the GPU"

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def _later(self, release: Callable[[], object]) -> None:
        def with_context() -> None:
            with self._current():
                release()

        self._stack.callback(with_context)

    def _allocate(self) -> str:
        from runtime.backends.tensorrt_buffers import Memory
        from runtime.kernels.graph import NON_BLOCKING

        with self._current():
            self._stream = self._driver.Stream(NON_BLOCKING)
            self._later(lambda: setattr(self, "_stream", None))
            self._memory = Memory(self._driver, self._stream)
            self._later(self._give_memory_back)
            self._memory.device(MIB)
            self._memory.pinned((MIB,))
        return "1 MiB on the GPU, 1 MiB page-locked"

    def _give_memory_back(self) -> None:
        with suppress(self._driver.Error):
            self._stream.synchronize()  # of a step that failed between what it enqueued and its wait
        self._memory.close()

    def _copy(self) -> str:
        import numpy as np

        with self._current():
            sent, back = self._memory.pinned((MIB,)), self._memory.pinned((MIB,))
            sent[...] = np.random.default_rng(0).integers(0, 256, MIB, np.uint8)
            there = self._memory.device(MIB)
            self._driver.memcpy_htod_async(there, sent, self._stream)
            self._driver.memcpy_dtoh_async(back, there, self._stream)
            self._stream.synchronize()
        if not np.array_equal(sent, back):
            raise EngineError("what comes back from the GPU is not what was sent: its memory or its slot is damaged")
        return "to the GPU and back, the same bytes"

    def _kernels(self) -> str:
        from runtime.health.kernel_case import KernelCase

        with self._current():
            self._case = KernelCase(self._driver, self._stream, self._memory, nvidia.gpu().capability)
            self._later(lambda: setattr(self, "_case", None))
            return str(self._case.agree(*SIZE))

    def _capture(self) -> str:
        from runtime.kernels.graph import Graph

        with self._current():
            graph = Graph(self._stream.handle, self._case.enqueue)
            self._later(graph.close)
            graph.launch()
            self._stream.synchronize()
            self._case.refuse_other_mask()
        return "the kernels as a CUDA graph, the same mask"

    def _deserialise(self) -> str:
        from runtime.lanes import open_lanes

        path = self._engine or _newest()
        lanes = open_lanes(path, 1)
        self._stack.callback(lanes.close)
        self._opened = self._stack.enter_context(lanes.lane())
        return path.name

    def _enqueue(self) -> str:
        from runtime.media.frames import read_frame
        from runtime.samples import STREET

        self._frame = read_frame(STREET)
        self._mask = self._opened.segment(self._frame)
        return f"the street frame, {len(set(self._mask.ravel().tolist()))} classes"

    def _captured_frame(self) -> str:
        masks = [self._opened.segment(self._frame) for _ in range(2)]  # the first of them captures
        if not all((mask == self._mask).all() for mask in masks):
            raise EngineError("a captured frame has another mask than an enqueued one: report it, with this line")
        if not self._opened.captured:
            raise Note("a frame is no CUDA graph here; its calls are made one by one, which costs time and no pixel")
        return "equal to the enqueued one"


def _gpu() -> str:
    gpu = nvidia.gpu()
    return f"{gpu.name}, compute capability {gpu.capability}, driver for CUDA {gpu.driver}"


def _library() -> str:
    from runtime.backends.tensorrt_library import library, supported_gpu

    problems, found = [], []
    for backend in BACKENDS:
        try:
            supported_gpu(backend)
            found.append(f"{backend} {library(backend).__version__}")
        except LibraryError as error:
            problems.append(f"{backend}: {error}")
    if not found:
        raise LibraryError("; ".join(problems))
    return ", ".join(found)


def _nvcc() -> str:
    from runtime.kernels.cuda import compiled
    from runtime.kernels.nvcc import nvcc

    path = nvcc()
    return f"{path} compiles the kernels, {len(compiled(nvidia.gpu().capability)) // 1024} KiB"


def _newest() -> Path:
    from runtime.commands import command
    from runtime.lookup import found_engines

    fitting = (each for each in found_engines() if not each.fault and each.manifest is not None)
    ours = [each.path for each in fitting if each.manifest and each.manifest.backend in BACKENDS]
    if not ours:
        build = partial(command, "engine", model="icnet", precision="fp16")
        raise EngineError(f"no engine for TensorRT is here yet: {build(backend='tensorrt')}, and ask the doctor again")
    return ours[0]
