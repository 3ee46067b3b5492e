"""Where a frame's time goes, although the host waits only once."""

import time

from runtime.kernels.graph import Event


class FrameClock:
    """Stages of one frame at a time: events on the stream between them, the host's clock around them all."""

    def __init__(self, stream: int) -> None:
        """Make the events, with the context current.

        Args:
            stream: its handle; all stages run on it.
        """
        self._stream = stream
        self._begin, self._preprocess, self._network = self._events = tuple(Event() for _ in range(3))
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
