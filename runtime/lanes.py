"""Several ways through one engine, for programs with more than one thread or more than one frame in flight."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from runtime.backend import Backend, ClosedOnExit, checked_engine
from runtime.spec import EngineManifest


@runtime_checkable
class SharesEngine(Protocol):
    """A backend's module whose lanes share the engine's memory and the machine; others open the engine once a lane.

    `LANES` give the most frames a second.
    """

    LANES: int

    def open_lanes(self, engine: bytes, manifest: EngineManifest, lanes: int) -> list[Backend]:
        """As many backends over one engine, each for one thread at a time."""


class Lanes(ClosedOnExit):
    """Backends over one engine. Thread-safe: any number of threads may call, as many run at once as there are lanes."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        """Take over the backends: `close` closes them."""
        self.spec = backends[0].spec
        self.count = len(backends)
        self._backends = list(backends)
        self._free = list(backends)
        self._changed = threading.Condition()
        self._closed = False

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """The mask of one frame, when a lane is free; see `runtime.backend.Backend.segment`."""
        with self.lane() as backend:
            return backend.segment(frame)

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask and the overlay of one frame, when a lane is free; see `runtime.backend.Backend.overlay`."""
        with self.lane() as backend:
            return backend.overlay(frame, palette, alpha)

    @contextmanager
    def lane(self) -> Iterator[Backend]:
        """A backend for this thread alone, when one is free; for its `stages_ms`.

        Raises:
            ValueError: the engine is closed, or was while this thread waited.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise ValueError("the engine is closed")
            backend = self._free.pop()
        try:
            yield backend
        finally:
            with self._changed:
                self._free.append(backend)
                self._changed.notify_all()

    def warm_up(self, frame: np.ndarray, runs: int, stop: threading.Event | None = None) -> np.ndarray:
        """Segment the frame so many times, once or more, on every lane, for what a first frame costs.

        Args:
            frame: as `segment` takes it.
            runs: on each lane.
            stop: when it is set, no further run is begun.

        Returns:
            uint8 (H, W) train ids: its mask, which the next frame overwrites.
        """
        for backend in self._backends:
            for run in range(runs):
                if run and stop is not None and stop.is_set():
                    break
                mask = backend.segment(frame)
        return mask

    def close(self) -> None:
        """Free everything, once the lanes in use are back; who waits for one is refused. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self._backends))
            backends, self._backends, self._free = self._backends, [], []
        with ExitStack() as stack:  # closes all of them, whatever one says
            for backend in backends:
                stack.callback(backend.close)


def open_lanes(path: str | Path, lanes: int | None = None, *, require_signed: str | Path | None = None) -> Lanes:
    """The engine at `path`, for so many frames at once; checked as `runtime.backend.open_backend` does.

    Args:
        path: of the engine.
        lanes: by default what its backend does best, `LANES` of its module, or one where it has none.
        require_signed: a public key, whose owner must have signed it.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library is not installed.
    """
    module, engine, manifest = checked_engine(path, require_signed)
    if isinstance(module, SharesEngine):
        return Lanes(module.open_lanes(engine, manifest, lanes or module.LANES))
    opened: list[Backend] = []
    count = lanes or int(getattr(module, "LANES", 1))
    try:
        for _ in range(count):
            opened.append(module.open_engine(engine, manifest))
    except BaseException:
        for backend in opened:
            backend.close()
        raise
    return Lanes(opened)
