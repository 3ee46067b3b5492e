"""TensorRT and TensorRT-RTX: a frame is one CUDA graph on one stream, a copy in, a copy out a result, one wait."""

import atexit
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import numpy as np

from runtime.arrays import host_array, host_arrays, on_gpu
from runtime.backend import Backend, ClosedOnExit, check_frame
from runtime.backends import tensorrt_library
from runtime.backends.tensorrt_buffers import FrameBuffers, Memory, NetworkBuffers, Pinned, Shades
from runtime.backends.tensorrt_clock import FrameClock, KernelTimes, time_kernel
from runtime.backends.tensorrt_confidence import Confident
from runtime.backends.tensorrt_engine import Engine, jit_cache_path
from runtime.cli import log
from runtime.errors import EngineError, LibraryError
from runtime.fit import spec_with_fit
from runtime.forks import Guard
from runtime.kernels import nvidia
from runtime.kernels.copies import copy_frame, same_place
from runtime.kernels.cuda import Kernels, compiled
from runtime.kernels.graph import NON_BLOCKING, Event, Graph
from runtime.libraries import refusing
from runtime.reference import check_size, overlay_shades
from runtime.spec import BackendName, EngineManifest, Fit, ModelSpec, Target

LANES = 2  # while the copies of one frame run, the network computes another


def this_target(backend: BackendName) -> Target:
    """See `tensorrt_library.target`: for TensorRT-RTX it needs no GPU, `open_engine` does."""
    return tensorrt_library.target(backend)


def check_opens(backend: BackendName) -> None:
    """Refuse a backend whose engines would be built here and not opened; compiles the kernels into their cache.

    Raises:
        LibraryError: its library, a GPU that it lists, pycuda or nvcc is missing or does not work.
    """
    gpu = tensorrt_library.supported_gpu(backend)
    cuda_driver()
    compiled(gpu.capability)


def open_engine(engine: bytes, manifest: EngineManifest) -> Backend:
    """The engine on this machine's first GPU.

    Raises:
        EngineError: the library refuses it, or it is not of the manifest's model.
        LibraryError: there is no GPU, no pycuda, no nvcc for the kernels, or too little memory; the library does not
            list the GPU.
    """
    (backend,) = open_lanes(engine, manifest, 1)
    return backend


def open_lanes(engine: bytes, manifest: EngineManifest, lanes: int, *, lone: bool = False) -> list[Backend]:
    """As many backends over one deserialised engine: each has a context, a stream and buffers of its own.

    Args:
        engine, manifest: checked.
        lanes: how many.
        lone: nothing: in any lane a frame that is alone has the whole GPU.

    Raises:
        EngineError, LibraryError: see `open_engine`.
    """
    gpu = nvidia.gpu()
    tensorrt_library.refuse_unlisted(manifest.backend, gpu)
    driver = cuda_driver()
    opened: list[TensorRT] = []
    try:
        with (
            _pushed(primary_context(driver), driver),
            refusing(EngineError, f"{manifest.backend} cannot open the engine of {manifest.spec.name}"),
        ):
            first = Engine(engine, manifest, jit_cache_path(manifest, gpu.name))
            opened.append(TensorRT(first, manifest.spec, gpu, driver, primary_context(driver)))
            for _ in range(lanes - 1):
                opened.append(TensorRT(first.beside(), manifest.spec, gpu, driver, primary_context(driver)))
    except BaseException:
        for backend in opened:
            backend.close()
        raise
    return list(opened)


@contextmanager
def _pushed(context: Any, driver: Any) -> Iterator[None]:
    # CUDA's current context belongs to a thread; pushed for each call, so that any thread may make it.
    context.push()
    try:
        yield
    finally:
        driver.Context.pop()


class TensorRT(Confident, ClosedOnExit):
    """An open engine, as `runtime.backend.Backend` says. Any thread may use it, one at a time."""

    def __init__(self, engine: Engine, spec: ModelSpec, gpu: nvidia.Gpu, driver: Any, context: Any) -> None:
        """Take over the engine and load the kernels, with `context` current; `open_engine` says what can fail."""
        self.spec, self.at_once = spec, spec.batch
        self._driver, self._context = driver, context
        self.stages_ms: dict[str, float] = {}
        self._engine: Any = engine
        self._kernels: Any = None
        self._stream: Any = None
        self._memory: Any = None
        self._frame_memory: Any = None
        self._clock: Any = None
        self._event: Any = None  # orders the streams of other libraries before this one's
        self._frame: FrameBuffers | None = None
        self._pinned: Pinned | None = None
        self._graph: Graph | None = None  # all that a frame of the size of `_frame` is, from its second one on
        self._ran, self._capturable = False, True  # a frame of the size of `_frame`; until the driver refused once
        try:
            self._load(gpu)
        except BaseException:
            self._drop()  # now, with the context current: later the traceback's last name would go without one
            raise
        self._guard = Guard(f"the engine of {spec.name}", self)

    def _load(self, gpu: nvidia.Gpu) -> None:
        self._kernels = Kernels(self._driver, gpu.capability)
        self._stream = self._driver.Stream(NON_BLOCKING)
        self._memory = Memory(self._driver, self._stream)
        self._frame_memory = Memory(self._driver, self._stream)
        self._network = NetworkBuffers(self._memory, self.spec, self._engine.input, self._engine.logits)
        self._engine.bind(self._network.input, self._network.logits)
        self._clock = FrameClock(self._stream.handle)
        self._event = Event()

    def segment(self, frame: Any, out: Any = None) -> Any:
        """uint8 (H, W, 3) RGB -> uint8 (H, W) train ids; see `Backend.segment`."""
        if on_gpu(frame) or on_gpu(out):
            return self._segment_on_gpu(frame, out)
        host, place = host_arrays(frame, out)
        (mask,) = self._results(host, out=place)
        return mask if out is None else out

    def frame_buffer(self, height: int, width: int) -> np.ndarray:
        """The page-locked frame of that size; see `Backend.frame_buffer`."""
        return self._held(*check_size(height, width)).frame

    def mask_buffer(self, height: int, width: int) -> np.ndarray:
        """The page-locked mask of that size; see `Backend.mask_buffer`."""
        return self._held(*check_size(height, width)).mask

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask, and the overlay from the same pass; see `Backend.overlay`."""
        frame = host_array(frame)
        keep, shades = overlay_shades(palette, alpha)
        mask, overlay = self._results(frame, Shades(int(keep), shades.tobytes()))
        return mask, overlay

    def _results(
        self, frame: np.ndarray, shades: Shades | None = None, out: np.ndarray | None = None
    ) -> list[np.ndarray]:
        with self._buffers_for(frame, shades) as buffers:
            self._take(1)
            self._capture_once(buffers)
            self._clock.start()
            _pin(frame, buffers)
            self._clock.frame_pinned()
            if self._graph:
                self._graph.launch()
            else:
                self._enqueue(buffers)
            self._stream.synchronize()
            self._engine.keep_compiled()
            results = [_unpinned(pinned, out) for pinned, _ in buffers.results]
            self.stages_ms = self._clock.stop()
            self._ran = True
            return results

    def _enqueue(
        self,
        buffers: FrameBuffers,
        frame_dev: int | None = None,
        mask_dev: int | None = None,
        *,
        captured: bool = False,
    ) -> None:
        before, after = buffers.launches(frame_dev, mask_dev)
        self._clock.begin(captured=captured)
        if frame_dev is None:
            self._driver.memcpy_htod_async(buffers.frame_dev, buffers.frame_pinned, self._stream)
        self._kernels.launch(before, self._stream)
        self._clock.preprocess_enqueued(captured=captured)
        self._engine.enqueue(self._stream.handle)
        self._clock.network_enqueued(captured=captured)
        for launch in after:
            self._kernels.launch(launch, self._stream)
        if mask_dev is None:
            for pinned, device in buffers.results:
                self._driver.memcpy_dtoh_async(pinned, device, self._stream)

    def _capture_once(self, buffers: FrameBuffers) -> None:
        # Before the second frame of a size: TensorRT wants to have run before a capture, kernels to be loaded, and a
        # single picture would pay for a graph that it never launches.
        if self._graph or not (self._ran and self._capturable):
            return
        try:
            if not self._engine.capturable(self._stream.handle):
                raise EngineError(f"{type(self).__name__} says that it cannot be captured")
            self._graph = Graph(self._stream.handle, functools.partial(self._enqueue, buffers, captured=True))
        except (EngineError, self._driver.Error) as error:
            self._capturable = False
            self._engine.forget_errors()
            log(f"{self.spec.name}: a frame is no CUDA graph here, its calls are made one by one ({error})")

    @property
    def captured(self) -> bool:
        """Whether the next frame of the last one's size is one CUDA graph."""
        return self._graph is not None

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """float32 (1, classes * block**2, h, w), for comparison only; see `Backend.logits`."""
        frame = host_array(frame)
        with self._buffers_for(frame) as buffers:
            _pin(frame, buffers)
            self._driver.memcpy_htod_async(buffers.frame_dev, buffers.frame_pinned, self._stream)
            self._kernels.launch(buffers.resize_normalize, self._stream)
            self._take(1)
            self._engine.enqueue(self._stream.handle)
            self._stream.synchronize()
            copied = self._network.empty_logits()
            self._driver.memcpy_dtoh(copied, self._network.logits.address)
            return self._network.float_planes(copied)

    def kernels_alone(self, frame: np.ndarray, rounds: int) -> list[KernelTimes]:
        """Each kernel by itself on what this frame gives it, and in turns with it a copy of as many bytes.

        Args:
            frame: uint8 (H, W, 3) RGB.
            rounds: samples of each.

        Raises:
            EngineError: the driver cannot capture them as graphs.
            LibraryError: the GPU has too little memory for the copies.
        """
        self.logits(frame)  # after which all that they read is there, but the winners, which the second writes
        with self._buffers_for(frame) as buffers:
            launches = (buffers.resize_normalize, *buffers.postprocess)
            return [time_kernel(launch, rounds, self._driver, self._kernels, self._stream) for launch in launches]

    def refit(self, fit: Fit) -> None:
        """The tables of the last frame's size go; see `Backend.refit`."""
        with self._guard, self._current_of_open():
            self._forget_frame()
            self.spec = self._network.spec = spec_with_fit(self.spec, fit)

    def close(self) -> None:
        """Free the engine, its stream and all its memory; see `Backend.close`."""
        if self._guard.foreign:
            return
        with self._guard:
            if self._engine is not None:
                self._free()

    def _free(self) -> None:
        with self._current():
            self._drop()

    def _drop(self) -> None:
        # With the context current. What an interrupted upload left on the stream is waited for before its memory goes.
        if self._stream is not None:
            self._forget_frame()
        for timer in (self._clock, self._event):
            if timer is not None:
                timer.close()
        self._engine.close()
        for memory in (self._memory, self._frame_memory):
            if memory is not None:
                memory.close()
        # pycuda frees a stream, an event and a module where its last name goes: here.
        self._pinned = None
        self._clock = self._event = self._memory = self._frame_memory = self._stream = self._kernels = self._engine = (
            None
        )

    def _pin(self, frame: np.ndarray, buffers: FrameBuffers) -> None:
        _pin(frame, buffers)

    def _pushing(self) -> Callable[[], AbstractContextManager[None]]:
        return functools.partial(_pushed, self._context, self._driver)

    def _current(self) -> AbstractContextManager[None]:
        return _pushed(self._context, self._driver)

    def _current_of_open(self) -> AbstractContextManager[None]:
        if self._engine is None:
            raise ValueError("the engine is closed")
        return self._current()

    @contextmanager
    def _buffers_for(self, frame: np.ndarray, shades: Shades | None = None) -> Iterator[FrameBuffers]:
        check_frame(frame)
        with self._guard, self._current_of_open():
            buffers = self._buffers_of(frame.shape[0], frame.shape[1], shades)
            with self._refusing():
                yield buffers

    def _buffers_of(self, height: int, width: int, shades: Shades | None = None) -> FrameBuffers:
        if self._frame is None or self._frame.key != (height, width, shades):
            self._forget_frame()
            pinned = self._pinned_for(height, width)
            self._frame = FrameBuffers(self._frame_memory, self._network, pinned, shades)
        return self._frame

    def _refusing(self) -> AbstractContextManager[None]:
        return refusing(EngineError, f"the GPU cannot run the engine of {self.spec.name}")

    def _held(self, height: int, width: int) -> Pinned:
        with self._guard, self._current_of_open():
            if self._pinned is None or self._pinned.size != (height, width):
                self._forget_frame()
            return self._pinned_for(height, width)

    def _pinned_for(self, height: int, width: int) -> Pinned:
        # Of another size than the last only where `_forget_frame` has been called: nothing on the stream uses that.
        if self._pinned is None or self._pinned.size != (height, width):
            self._pinned = None  # before another is made: two might be too much
            self._pinned = Pinned(self._frame_memory, height, width)
        return self._pinned

    def _forget_frame(self) -> None:
        # What an interrupted frame left on the stream, then the graph, then the memory that both name.
        with suppress(self._driver.Error):
            self._stream.synchronize()
        self._forget_graph()
        self._frame = None
        if self._frame_memory is not None:
            self._frame_memory.free()

    def _forget_graph(self) -> None:
        graph, self._graph, self._ran = self._graph, None, False
        if graph:
            graph.close()


def _pin(frame: np.ndarray, buffers: FrameBuffers) -> None:
    if same_place(frame, buffers.frame_pinned):
        return
    if np.may_share_memory(frame, buffers.frame_pinned):  # another view of it
        frame = frame.copy()
    copy_frame(frame, buffers.frame_pinned)


def _unpinned(pinned: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    # What the GPU wrote, as the caller's: in `out`, which may be that very memory.
    if out is None:
        out = np.empty_like(pinned)
    if not same_place(out, pinned):
        np.copyto(out, pinned)
    return out


def cuda_driver() -> Any:
    """`pycuda.driver`, begun.

    Raises:
        LibraryError: it is not installed, or cannot use the NVIDIA driver.
    """
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise LibraryError(f"pycuda cannot be loaded ({error}): pip install pycuda==2026.1") from None
    try:
        driver.init()
    except driver.Error as error:
        raise LibraryError(f"pycuda cannot use the NVIDIA driver ({error}); see nvidia-smi") from None
    return driver


@functools.cache
def primary_context(driver: Any) -> Any:
    """The context of the first GPU that all of a process shares; push and pop it around every call."""
    # The one that TensorRT's own CUDA calls use. Kept until the process ends: it is shared, and pycuda's detach leaves
    # the released context current. Detached then, because pycuda's destructor takes it for an ordinary one and warns.
    context = driver.Device(0).retain_primary_context()
    atexit.register(_detach, context, os.getpid())
    return context


def _detach(context: Any, made_by: int) -> None:
    if os.getpid() == made_by:  # a forked child has no CUDA to give it back to
        context.detach()
