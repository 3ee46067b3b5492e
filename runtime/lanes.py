"""Several ways through one engine, for programs with more than one thread or more than one frame in flight."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from runtime.arrays import check_early, confident_arrays, host_array, on_gpu, paired
from runtime.backend import Backend, BackendModule, ClosedOnExit, check_frame, checked_engine, prove_before_fit
from runtime.errors import EngineError
from runtime.first_use import prove_once
from runtime.fit import with_fit
from runtime.forks import Guard
from runtime.spec import EngineManifest, Fit
from runtime.threads import limited

MOST_LANES = 64


@runtime_checkable
class SharesEngine(Protocol):
    """A backend's module whose lanes share the engine's memory and the machine; others open the engine once a lane.

    `LANES` give the most frames a second.
    """

    LANES: int

    def open_lanes(self, engine: bytes, manifest: EngineManifest, lanes: int, *, lone: bool = False) -> list[Backend]:
        """As many backends over one engine, each for one thread at a time.

        Args:
            lone: a frame that is in flight by itself has the whole machine, which lanes share; see `AsksIfAlone`.
        """


@runtime_checkable
class AsksIfAlone(Protocol):
    """A backend that does a frame in another way while no other frame is in flight."""

    def ask(self, alone: Callable[[], bool]) -> None:
        """Ask so before each frame whether it is alone; until then it never is."""


class Lanes(ClosedOnExit):
    """Backends over one engine. Thread-safe: any number of threads may call, as many run at once as there are lanes.

    For the process that opened it: one that was forked from it is refused as an EngineError.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        """Take over the backends: `close` closes them.

        Raises:
            ValueError: there are none.
        """
        if not backends:
            raise ValueError("lanes are one or more backends, got none")
        self.spec = backends[0].spec
        self.count, self.at_once = len(backends), backends[0].at_once
        self._backends = list(backends)
        self._free = list(backends)
        self._holders: Counter[int] = Counter()  # lanes by the thread that has them
        self._waiting = self._warming = 0  # threads for a lane; `warm_up`s
        self._in_company = False  # whether another frame was in flight when the last one began
        self._changed = threading.Condition()
        self._closed = False
        self._guard = Guard("this engine")
        self._asking = [backend for backend in backends if isinstance(backend, AsksIfAlone)]
        for backend in self._asking:
            backend.ask(self._is_alone)

    @overload
    def segment(self, frame: np.ndarray, out: np.ndarray | None = None) -> np.ndarray: ...

    @overload
    def segment(self, frame: Any, out: Any = None) -> Any: ...

    def segment(self, frame: Any, out: Any = None) -> Any:
        """The mask of one frame, when a lane is free; see `runtime.backend.Backend.segment`.

        Each lane has its own `frame_buffer` and `mask_buffer`: take one by `lane` to use them.
        """
        check_early(frame, out)
        with self.lane() as backend:
            return backend.segment(frame, out)

    def segment_batch(self, frames: Sequence[Any], outs: Sequence[Any] | None = None) -> list[Any]:
        """The masks of several frames, on as many lanes at once as there are; see `Backend.segment_batch`.

        An engine that takes several frames gets as many in each lane.

        Raises:
            EngineError: as `lane`; all the frames that were begun are finished before.
        """
        pairs = paired(frames, outs)
        self._guard.refuse_foreign()
        with self._changed:
            self._refuse_waiting_for_itself(self.count)
        groups = [pairs[start : start + self.at_once] for start in range(0, len(pairs), self.at_once)]
        with ThreadPoolExecutor(min(self.count, len(groups)) or 1) as pool:
            return [mask for masks in pool.map(self._group, groups) for mask in masks]

    def _group(self, pairs: list[tuple[Any, Any]]) -> list[Any]:
        if len(pairs) == 1:
            return [self.segment(*pairs[0])]
        frames, outs = zip(*pairs, strict=True)
        with self.lane() as backend:
            return backend.segment_batch(frames, None if all(out is None for out in outs) else outs)

    def overlay(self, frame: np.ndarray, palette: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The mask and the overlay of one frame, when a lane is free; see `runtime.backend.Backend.overlay`."""
        check_frame(frame := host_array(frame))
        with self.lane() as backend:
            return backend.overlay(frame, palette, alpha)

    def confidence(self, frame: Any, out: Any = None, confidence_out: Any = None) -> tuple[Any, Any]:
        """The mask and the confidence of one frame, when a lane is free; see `Backend.confidence`."""
        if not any(map(on_gpu, (frame, out, confidence_out))):
            confident_arrays(frame, out, confidence_out)
        with self.lane() as backend:
            return backend.confidence(frame, out, confidence_out)

    @contextmanager
    def lane(self) -> Iterator[Backend]:
        """A backend for this thread alone, when one is free; for its `stages_ms`.

        Raises:
            EngineError: this thread has all lanes already and would wait for itself; or another process opened them.
            ValueError: the engine is closed, or was while this thread waited.
        """
        backend = self._taken(None)
        try:
            yield backend
        finally:
            self._give_back(backend)

    def warm_up(self, frame: np.ndarray, runs: int, stop: threading.Event | None = None) -> np.ndarray:
        """Segment the frame so many times on every lane, each when it is free, for what a first frame costs.

        Where a lone frame goes another way, that is done as often.

        Args:
            frame: as `segment` takes it.
            runs: on each lane.
            stop: when it is set, no further run is begun.

        Returns:
            uint8 (H, W) train ids: its mask, a new array.

        Raises:
            FrameError: it is no frame.
            EngineError: see `lane`.
            ValueError: no runs, or the engine is closed.
        """
        check_early(frame, None)
        if runs < 1:
            raise ValueError(f"a warm-up has one run or more, got {runs}")
        backends = list(self._backends)
        if not backends:
            raise ValueError("the engine is closed")
        with self._sharing():
            masks = [self._warmed(backend, frame, runs, stop) for backend in backends]
        if self._asking:
            self._in_company = False
            self._warmed(backends[-1], frame, runs, stop)
        return masks[-1]

    def _warmed(self, backend: Backend, frame: np.ndarray, runs: int, stop: threading.Event | None) -> np.ndarray:
        self._taken(backend)
        try:
            for run in range(runs):
                if run and stop is not None and stop.is_set():
                    break
                mask: np.ndarray = backend.segment(frame)
        finally:
            self._give_back(backend)
        return mask

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        with self._changed:
            self._warming += 1
        try:
            yield
        finally:
            with self._changed:
                self._warming -= 1

    def _is_alone(self) -> bool:
        # Asked by who has a lane, when its frame begins. Where frames come and go, one of them is by itself for a
        # moment: with all cores it would hold up the next one, and has cost more of them than with its share.
        with self._changed:
            others = len(self._free) < len(self._backends) - 1 or bool(self._waiting or self._warming)
            before, self._in_company = self._in_company, others
        return not (others or before)

    def close(self) -> None:
        """Free everything, once the lanes in use are back; who waits for one is refused.

        A second call does nothing, nor does one in a forked child: the engine is its parent's.

        Raises:
            EngineError: this thread has a lane and would wait for itself.
        """
        if self._guard.foreign:
            return
        with self._changed:
            self._refuse_waiting_for_itself(1)
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self._backends))
            backends, self._backends, self._free = self._backends, [], []
        with ExitStack() as stack:  # closes all of them, whatever one says
            for backend in backends:
                stack.callback(backend.close)

    def _taken(self, wanted: Backend | None) -> Backend:
        # The wanted lane or, with None, any, when it is free.
        self._guard.refuse_foreign()
        with self._changed:
            self._refuse_waiting_for_itself(self.count if wanted is None else 1)
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._closed or (self._free if wanted is None else wanted in self._free))
            finally:
                self._waiting -= 1
            if self._closed:
                raise ValueError("the engine is closed")
            backend = wanted or self._free[-1]
            self._free.remove(backend)
            self._holders[threading.get_ident()] += 1
        return backend

    def _give_back(self, backend: Backend) -> None:
        with self._changed:
            self._holders[threading.get_ident()] -= 1
            self._holders += Counter()  # drops those at zero
            self._free.append(backend)
            self._changed.notify_all()

    def _refuse_waiting_for_itself(self, lanes: int) -> None:
        held = self._holders[threading.get_ident()]
        if held >= lanes:
            raise EngineError(
                f"this thread has {held} of the {self.count} lanes of {self.spec.name}'s engine and would wait for "
                "itself: leave `with lanes.lane()` first"
            )


def open_lanes(
    path: str | Path,
    lanes: int | None = None,
    *,
    threads: int | None = None,
    require_signed: str | Path | None = None,
    fit: Fit | None = None,
    lone: bool = True,
) -> Lanes:
    """The engine at `path`, for so many frames at once; checked as `runtime.backend.open_backend` does.

    Args:
        path: of the engine.
        lanes: by default what its backend does best, `LANES` of its module, or one where it has none.
        threads: of the CPU that all of them use at most; None: as many as this process may, by affinity and cgroup.
        require_signed: a public key, whose owner must have signed it.
        fit: what becomes of frames of another shape, in place of what its manifest says; see `Preprocess`.
        lone: of several lanes on a CPU that share its cores, a frame that is in flight by itself has all of them; it
            costs a second compilation and its memory. False: for who keeps all lanes busy.

    Raises:
        EngineError: missing, damaged, without manifest, not signed as asked, or built for another machine.
        LibraryError: its inference library is not installed.
        ValueError: lanes or threads is no such number, or fit is none.
    """
    if lanes is not None and (isinstance(lanes, bool) or not isinstance(lanes, int) or not 1 <= lanes <= MOST_LANES):
        raise ValueError(f"lanes are a whole number from 1 to {MOST_LANES}, got {lanes!r:.40}")
    with limited(threads), Guard("an engine that is being opened"):
        module, engine, manifest = checked_engine(path, require_signed)
        fitted = with_fit(manifest, fit)
        prove_before_fit(path, module, engine, manifest, fitted)
        if isinstance(module, SharesEngine):
            opened = module.open_lanes(engine, fitted, lanes or module.LANES, lone=lone)
        else:
            opened = _opened_one_by_one(module, engine, fitted, lanes or int(getattr(module, "LANES", 1)))
        return Lanes(_proven(path, manifest, opened) if fitted == manifest else opened)


def _proven(path: str | Path, manifest: EngineManifest, opened: list[Backend]) -> list[Backend]:
    try:
        prove_once(path, manifest, opened[0])
    except BaseException:
        for backend in opened:
            backend.close()
        raise
    return opened


def _opened_one_by_one(module: BackendModule, engine: bytes, manifest: EngineManifest, count: int) -> list[Backend]:
    opened: list[Backend] = []
    try:
        for _ in range(count):
            opened.append(module.open_engine(engine, manifest))
    except BaseException:
        for backend in opened:
            backend.close()
        raise
    return opened
