"""Where a frame's time goes, although the host waits only once; and what a kernel takes by itself."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from runtime.backends.tensorrt_buffers import Memory
from runtime.kernels.cuda import Kernels, Launch
from runtime.kernels.graph import Event, Graph

REPEATS = 20  # calls in a graph: launched one by one they would take as long as the host takes to launch them


class KernelTimes(NamedTuple):
    """Milliseconds of a kernel and of a copy on the device that moves as many bytes, a sample a round.

    Both from a warm cache, as in a frame, where what a kernel reads was just written.
    """

    kernel: str
    nbytes: int  # read and written, by either
    ms: list[float]
    copy_ms: list[float]


def time_kernel(launch: Launch, rounds: int, driver: Any, kernels: Kernels, stream: Any) -> KernelTimes:
    """One kernel in turns with a copy, by the GPU's clock, with the context current.

    Args:
        launch: with what it reads in its place.
        rounds: samples of each.
        driver: `pycuda.driver`.
        kernels: that it is one of.
        stream: on which nothing else runs.

    Raises:
        EngineError: the driver cannot capture them.
        LibraryError: the GPU has too little memory for the copy.
    """
    half = launch.nbytes // 2
    with ExitStack() as stack:
        memory = Memory(driver, stream)
        stack.callback(memory.free)
        source, copied = memory.device(half), memory.device(half)
        calls: tuple[Callable[[], object], ...] = (
            lambda: kernels.launch(launch, stream),
            lambda: driver.memcpy_dtod_async(copied, source, half, stream),
        )
        for call in calls:
            call()  # what a first one loads would end the capture
        stream.synchronize()
        graphs = [Graph(stream.handle, partial(_repeated, call)) for call in calls]
        for graph in graphs:
            stack.callback(graph.close)
        samples = [[_launched_ms(graph, stream) for graph in graphs] for _ in range(rounds + 1)][1:]
    return KernelTimes(launch.kernel, launch.nbytes, *(list(ms) for ms in zip(*samples, strict=True)))


def _repeated(call: Callable[[], object]) -> None:
    for _ in range(REPEATS):
        call()


def _launched_ms(graph: Graph, stream: Any) -> float:
    # Milliseconds of one of the calls in it.
    with ExitStack() as stack:
        begin, end = events = Event(), Event()
        for event in events:
            stack.callback(event.close)
        stack.callback(stream.synchronize)  # where it is interrupted too: before the graph goes, and its memory
        begin.record(stream.handle, captured=False)
        graph.launch()
        end.record(stream.handle, captured=False)
        stream.synchronize()
        return end.ms_since(begin) / REPEATS


class FrameClock:
    """Stages of one frame at a time: events on the stream between them, the host's clock around them all."""

    def __init__(self, stream: int) -> None:
        """Make the events, with the context current.

        Args:
            stream: its handle; all stages run on it.
        """
        self._stream = stream
        self._events: list[Event] = []
        try:
            for _ in range(3):
                self._events.append(Event())
        except BaseException:
            self.close()
            raise
        self._begin, self._preprocess, self._network = self._events
        self._began = self._pinned = 0.0

    def start(self) -> None:
        """The frame begins."""
        self._began = time.perf_counter()

    def frame_pinned(self) -> None:
        """The host has copied the frame; what comes is on the stream."""
        self._pinned = time.perf_counter()

    def begin(self, *, captured: bool) -> None:
        """What is enqueued next, and the host's copy before it, is preprocessing."""
        self._begin.record(self._stream, captured=captured)

    def preprocess_enqueued(self, *, captured: bool) -> None:
        """What is enqueued next is the network."""
        self._preprocess.record(self._stream, captured=captured)

    def network_enqueued(self, *, captured: bool) -> None:
        """What is enqueued next, and the copy that the host makes in the end, is postprocessing."""
        self._network.record(self._stream, captured=captured)

    def stop(self) -> dict[str, float]:
        """Milliseconds of each stage, once the stream is synchronised; they sum to the host's time since `start`."""
        total = (time.perf_counter() - self._began) * 1e3
        preprocess = (self._pinned - self._began) * 1e3 + self._preprocess.ms_since(self._begin)
        network = self._network.ms_since(self._preprocess)
        return {"preprocess": preprocess, "network": network, "postprocess": total - preprocess - network}

    def close(self) -> None:
        """Give the events back, with the context current."""
        for event in self._events:
            event.close()
