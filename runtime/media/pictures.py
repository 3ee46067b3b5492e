"""Pictures through an engine: read, segmented and written at the same time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from runtime.errors import FrameError
from runtime.labels import IGNORED, VOID
from runtime.lanes import Lanes
from runtime.media.frames import FrameFile, read_frame
from runtime.media.gathering import Gathering
from runtime.media.outputs import Look, Seen
from runtime.media.pipeline import Clock, Passage, Stage
from runtime.media.stats import Counting, Counts
from runtime.reference import voided
from runtime.spec import Fit, ModelSpec
from runtime.threads import count

MOST_WORKERS = 8

Run = Callable[[Iterable[object], Iterable[Stage], Clock], Iterator[Passage]]


class Task(NamedTuple):
    """A picture to be done, and where its masks go."""

    file: FrameFile
    outputs: dict[str, Path]
    mark: str = ""


class Result(NamedTuple):
    """One picture done: what was written, how long each stage took, and what the mask holds."""

    file: FrameFile
    outputs: dict[str, Path]
    height: int
    width: int
    milliseconds: dict[str, float]
    shares: dict[str, float]
    counts: Counts = MappingProxyType({})  # pixels by region and class, where they are asked for


class Segmented(NamedTuple):
    """A frame with what was seen in it, and the milliseconds of the parts of `segment` that the backend tells."""

    frame: np.ndarray
    seen: Seen
    parts_ms: dict[str, float]


def workers() -> int:
    """Threads that decode, and as many that write, of one core each: more of them keep a quick engine fed."""
    return max(1, min(MOST_WORKERS, count() // 2))


def ahead_of(lanes: int) -> int:
    """Frames, beside those in the lanes, that wait for a lane or, done, for one before them.

    With one a lane, a quick lane waits for a slow one, where other programs hold that one up.
    """
    return 1 if lanes == 1 else 1 + 2 * lanes


def segment_with(lanes: Lanes, frame: np.ndarray, void_below: int | None = None, fit: Fit | None = None) -> Segmented:
    """The mask of one frame from the next free lane; with its confidence where `Look.void_below` asks for it.

    Args:
        lanes: the engine.
        frame: uint8 (H, W, 3) RGB.
        void_below: pixels of less confidence are of no class.
        fit: how it lies in the network's input, and the next frames of that lane; None: as the last one did.
    """
    with lanes.lane() as backend:
        if fit is not None and fit != backend.spec.preprocess.fit:
            backend.refit(fit)
        seen = Seen(backend.segment(frame)) if void_below is None else Seen(*backend.confidence(frame))
        # A copy: the backend's own is overwritten by the next frame.
        parts_ms = dict(backend.stages_ms)
    if void_below and seen.confidence is not None:
        seen = Seen(voided(seen.mask, seen.confidence, void_below), seen.confidence)
    return Segmented(frame, seen, parts_ms)


def segment_pictures(
    lanes: Lanes, tasks: Iterable[Task], look: Look, run: Run, clock: Clock, counting: Counting | None = None
) -> Iterator[Result | FrameError]:
    """Do every task, in their order.

    Args:
        lanes: the engine.
        tasks: pictures.
        look: how the masks look.
        run: `overlapped` or `one_after_another`.
        clock: gets the times.
        counting: what counts the pixels of a mask.

    Yields:
        What was done, or why that picture cannot be read.

    Raises:
        OutputError: a mask cannot be written; nothing more is begun.
    """

    def decode(task: Task) -> tuple[Task, np.ndarray]:
        return task, read_frame(task.file.path)

    several = lanes.at_once if look.void_below is None else 1  # a confidence is of a frame by itself
    gathering = Gathering(lanes)

    def segment(item: tuple[Task, np.ndarray]) -> tuple[Task, Segmented]:
        if several == 1:
            return item[0], segment_with(lanes, item[1], look.void_below)
        mask, parts_ms = gathering.segment(item[1])
        return item[0], Segmented(item[1], Seen(mask), parts_ms)

    def encode(item: tuple[Task, Segmented]) -> Result:
        (file, outputs, told), (frame, seen, parts_ms) = item
        look.write_pictures(outputs, frame, seen, told)
        height, width = seen.mask.shape
        counts = counting.of(seen.mask) if counting else {}
        return Result(file, outputs, height, width, parts_ms, class_shares(seen.mask, lanes.spec), counts)

    each = workers()
    stages = (
        Stage("decode", decode, each, each + 1),
        Stage("segment", segment, lanes.count * several, lanes.count * several + ahead_of(lanes.count)),
        Stage("encode", encode, each, each + 2),
    )
    for value, milliseconds in run(tasks, stages, clock):
        yield value if isinstance(value, FrameError) else _timed(value, milliseconds)


def class_shares(mask: np.ndarray, spec: ModelSpec) -> dict[str, float]:
    """The part of the mask that each class takes, 0..1, in the order of the classes; then `VOID`, where there is some.

    Args:
        mask: uint8 (H, W) train ids.
    """
    import cv2

    counts = np.ravel(cv2.calcHist([mask], [0], None, [256], [0, 256]))  # np.bincount takes ten times as long
    shares = {label.name: float(counts[i]) / mask.size for i, label in enumerate(spec.classes)}
    return shares | {VOID: float(counts[IGNORED]) / mask.size} if counts[IGNORED] else shares


def _timed(result: Result, stages_ms: dict[str, float]) -> Result:
    milliseconds = {"decode": stages_ms["decode"], "segment": stages_ms["segment"]}
    return result._replace(milliseconds=milliseconds | result.milliseconds | {"encode": stages_ms["encode"]})
