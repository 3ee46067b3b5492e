"""The engines that are served: opened, proven, used by requests, replaced while they are used."""

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np

from runtime.errors import EngineError
from runtime.fit import box_of
from runtime.lanes import Lanes, open_lanes
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from runtime.media.pictures import Segmented, segment_with, workers
from runtime.prove import prove
from runtime.samples import STREET
from runtime.serve.answers import answer_of
from runtime.serve.asked import Asked
from runtime.serve.recent import Recent
from runtime.serve.replies import Refusal
from runtime.spec import EngineManifest, Fit, ModelSpec

NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,99})=(.+)", re.DOTALL)


class Opening(NamedTuple):
    """How engines are opened: see `runtime.lanes.open_lanes`."""

    lanes: int | None = None
    fit: Fit | None = None
    require_signed: Path | None = None
    threads: int | None = None


class Named(NamedTuple):
    """An engine's file, and the name that requests have for it."""

    name: str
    path: Path


class Served:
    """An engine that is open. `users`, `retired` and `recent` are the event loop's; the rest is for any thread."""

    def __init__(self, named: Named, manifest: EngineManifest, lanes: Lanes) -> None:
        """Take over the lanes: `close` closes them."""
        self.name, self.path = named
        self.manifest, self.spec, self.lanes = manifest, lanes.spec, lanes
        # Beside the requests that have a lane others are decoded and encoded; whoever has no thread waits undecoded.
        self.pool = ThreadPoolExecutor(lanes.count + 2 * workers(), f"work-{self.name}")
        self.turn = threading.Semaphore(lanes.count)
        self.users, self.retired, self.recent = 0, False, Recent()
        self._counting = threading.Lock()
        self._since: dict[int, float] = {}  # when the frames in a lane went in, by thread

    def segment(self, frame: np.ndarray, fit: Fit | None, void_below: int | None) -> Segmented:
        """The mask of one frame; for who holds `turn`."""
        own = threading.get_ident()
        with self._counting:
            self._since[own] = monotonic()
        try:
            return segment_with(self.lanes, frame, void_below, self._fit_for(fit, frame))
        finally:
            with self._counting:
                del self._since[own]

    def busy(self) -> int:
        """How many frames are in a lane."""
        return len(self._since)

    def oldest_s(self) -> float:
        """How long the frame that went in first has been in its lane; 0 where none is."""
        with self._counting:
            return monotonic() - min(self._since.values(), default=monotonic())

    def close(self) -> None:
        """Finish what is in the lanes, then free everything."""
        self.pool.shutdown()
        self.lanes.close()

    def _fit_for(self, fit: Fit | None, frame: np.ndarray) -> Fit:
        # A lane that changes its fit makes its tables anew: not where the frame lies as by the engine's own.
        own = self.spec.preprocess
        size = frame.shape[0], frame.shape[1]
        if fit is None or box_of(replace(own, fit=fit), *size) == box_of(own, *size):
            return own.fit
        return fit


class Engines:
    """Those that are served, by name, the first the default. For the thread of the event loop alone."""

    def __init__(self, served: Sequence[Served]) -> None:
        """Take them over.

        Raises:
            EngineError: two have one name.
        """
        self._served = {each.name: each for each in served}
        if len(self._served) < len(served):
            names = ", ".join(each.name for each in served)
            raise EngineError(f"engines of one name ({names}): give them names, --engine NAME=FILE")

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def find(self, name: str) -> Served:
        """The engine of that name; "": the first.

        Raises:
            Refusal: 404, there is none.
        """
        if not name:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise Refusal(404, "engine", f"no engine {name[:100]!r} is served, there are {', '.join(self._served)}")
        return self._served[name]

    @contextmanager
    def used(self, served: Served) -> Iterator[Served]:
        """Keep an engine open for a request, though another may take its place meanwhile."""
        served.users += 1
        try:
            yield served
        finally:
            served.users -= 1
            _close_unused(served)

    def put(self, new: Served) -> None:
        """Serve this one in place of the one of its name, which is closed when its last request is done."""
        old, self._served[new.name] = self._served[new.name], new
        old.retired = True
        _close_unused(old)

    def lanes(self) -> int:
        """Frames that are computed at once."""
        return sum(each.lanes.count for each in self)


def named_from_text(text: str) -> Named:
    """'street=icnet.engine' or 'icnet.engine', whose name is that of the file, without its ending."""
    found = NAMED.fullmatch(text)
    if found and not Path(text).exists():
        return Named(found[1], Path(found[2]))
    return Named(Path(text).stem, Path(text))


def opened(named: Named, opening: Opening) -> Served:
    """An engine, ready to serve: its lanes have segmented a street frame, and its mask was drawn.

    Raises:
        EngineError, LibraryError: see `runtime.lanes.open_lanes`.
    """
    manifest = read_manifest(named.path)
    served = Served(named, manifest, opened_lanes(named.path, opening, manifest))
    # Loops of overlays and confidences are compiled or loaded with their first call, which costs up to a second.
    has_confidence = served.spec.upsample != "nearest"
    segmented = segment_with(served.lanes, read_frame(STREET), 0 if has_confidence else None)
    answer_of(segmented, Asked(form="overlay"), served.spec)
    return served


def proven(named: Named, opening: Opening) -> Served:
    """An engine as `opened`, held to the referee's logits of the street frame first.

    Raises:
        EngineError: damaged, not signed as asked, without the referee's logits, wrong, or another one than was proven.
    """
    manifest = read_manifest(named.path)
    prove(named.path, opening.require_signed)
    served = opened(named, opening)
    if served.manifest != manifest:
        served.close()
        raise EngineError(f"{named.path} was replaced while it was proven: try again")
    return served


def opened_lanes(path: Path, opening: Opening, manifest: EngineManifest) -> Lanes:
    """The lanes of an engine whose manifest was read, warm.

    Raises:
        EngineError: see `runtime.lanes.open_lanes`; or another engine lies there by now.
    """
    signed, fit = opening.require_signed, opening.fit
    lanes = open_lanes(path, opening.lanes, threads=opening.threads, require_signed=signed, fit=fit)
    try:
        if read_manifest(path) != manifest:
            raise EngineError(f"{path} is another engine than the one that is served")
        lanes.warm_up(read_frame(STREET), 1)
    except BaseException:
        lanes.close()
        raise
    return lanes


def refuse_other_classes(old: ModelSpec, new: ModelSpec, instead: str = "start a server of its own for it") -> None:
    """Hold a new engine to the classes of the one that it replaces: clients read ids by what they were told.

    Args:
        old: of the engine that is served.
        new: of the one that takes its place.
        instead: what to do with it.

    Raises:
        EngineError: they differ.
    """
    names = [[label.name for label in spec.classes] for spec in (old, new)]
    if names[0] != names[1]:
        raise EngineError(
            f"{new.name} has {len(names[1])} classes, other ones than the {len(names[0])} of {old.name} that clients "
            f"were told: {instead}"
        )


def _close_unused(served: Served) -> None:
    if served.retired and not served.users:
        # Not in the event loop: freeing an engine takes a while.
        threading.Thread(target=served.close, name=f"close-{served.name}").start()
