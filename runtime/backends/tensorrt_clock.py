"""Where a frame's time goes, although the host waits only once."""

import time
from typing import Any


class FrameClock:
    """Stages of one frame at a time: events on the stream between them, the host's clock around them all."""

    def __init__(self, driver: Any, stream: Any) -> None:
        """Make the events.

        Args:
            driver: `pycuda.driver`, with a context current.
            stream: all stages run on it.
        """
        self._stream = stream
        self._start, self._preprocess, self._network = (driver.Event() for _ in range(3))
        self._began = 0.0

    def start(self) -> None:
        """The frame begins; the stream is idle, so that its clock starts now as well."""
        self._began = time.perf_counter()
        self._start.record(self._stream)

    def preprocess_enqueued(self) -> None:
        """What is enqueued next is the network."""
        self._preprocess.record(self._stream)

    def network_enqueued(self) -> None:
        """What is enqueued next, and the copy that the host makes in the end, is postprocessing."""
        self._network.record(self._stream)

    def stop(self) -> dict[str, float]:
        """Milliseconds of each stage, once the stream is synchronised; they sum to the host's time since `start`."""
        total = (time.perf_counter() - self._began) * 1e3
        preprocess = self._preprocess.time_since(self._start)
        network = self._network.time_since(self._preprocess)
        return {"preprocess": preprocess, "network": network, "postprocess": total - preprocess - network}
