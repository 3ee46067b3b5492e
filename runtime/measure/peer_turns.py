"""Ways from frame to mask that take turns, of which one may fail without ending the others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.accuracy.datasets import Pair, read_pair
from runtime.accuracy.metrics import confusion
from runtime.cli import log, progress
from runtime.errors import EngineError
from runtime.measure.peers import NOT_ON_LABELS
from runtime.measure.rounds import take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import ENGINE, Job, Worker, mask_of, warm_up

ROOF = "roof"  # takes its turns with the paths


class Labelled(NamedTuple):
    """The frames on which masks are held to labels."""

    pairs: Sequence[Pair]
    classes: int


class Turn:
    """A path that takes turns; once it fails it says why, and takes none any more."""

    def __init__(self, name: str, job: Job) -> None:
        self.name, self.job = name, job
        self.stages_ms: list[dict[str, float]] = []
        self.mask: np.ndarray | None = None
        self.matrix: np.ndarray | None = None  # int64 (C, C), where it was held to labels
        self.peak_mib = 0.0
        self.failed = ""
        self._worker: Worker | None = None

    @contextmanager
    def opened(self, frame: Path) -> Iterator[None]:
        """With its process, where that opens; it is ended at the end."""
        with ExitStack() as stack:
            log(f"opening {self.name}")
            with self.told():
                self._worker = stack.enter_context(Worker(self.job, frame))
            yield

    @contextmanager
    def told(self) -> Iterator[None]:
        """An error of a peer is kept; one of the engine or the roof is raised, for they are compared with."""
        try:
            yield
        except EngineError as error:
            if self.name in (ENGINE, ROOF):
                raise
            self.failed = str(error).removeprefix(f"{self.job.files[0].name}: ")  # of whom, its row says
            log(f"{self.name}: {error}; the others go on")

    @property
    def worker(self) -> Worker:
        """Its process.

        Raises:
            EngineError: it has failed.
        """
        if self.failed or self._worker is None:
            raise EngineError(self.failed)
        return self._worker

    def begin(self, folder: Path, warmup: int) -> None:
        """Its mask of the frame, then frames that are not timed."""
        if not self.failed:
            with self.told():
                if self.name != ROOF:
                    self.mask = mask_of(self.worker, folder)
                warm_up([self.worker], warmup)

    def ms(self) -> float:
        """Milliseconds of one frame; NaN once it has failed."""
        if not self.failed:
            with self.told():
                answer = self.worker.timed()
                self.stages_ms.append(answer.stages_ms)
                return answer.ms
        return math.nan

    def count(self, label: np.ndarray, classes: int, folder: Path, frame: Path) -> None:
        """Add its mask of a labelled frame to its confusion matrix."""
        if not self.failed and self.name not in (ROOF, *NOT_ON_LABELS):
            with self.told():
                found = confusion(mask_of(self.worker, folder, frame), label, classes)
                self.matrix = found if self.matrix is None else self.matrix + found


def measure(
    paths: Mapping[str, Job], frame: np.ndarray, rounds: int, warmup: int, labelled: Labelled | None
) -> tuple[dict[str, Turn], np.ndarray]:
    """Every path on one frame, taking turns, the roof too; then each on the labelled frames.

    Args:
        paths: by name, the engine among them; one is the roof.
        frame: uint8 (H, W, 3) RGB.
        rounds: timed frames of each.
        warmup: frames before them.
        labelled: frames with labels, if there are any.

    Returns:
        The paths, those that failed with the reason, and float64 (paths, rounds) ms, NaN where one had failed.

    Raises:
        EngineError: the engine or the roof fails.
    """
    found = {name: Turn(name, job) for name, job in paths.items()}
    with scratch() as folder, ExitStack() as stack:
        np.save(frame_path := folder / "frame.npy", frame)
        for turn in found.values():
            stack.enter_context(turn.opened(frame_path))
            turn.begin(folder, warmup)
        log(f"measuring {rounds} rounds of {', '.join(name for name, turn in found.items() if not turn.failed)}")
        order = turns(np.random.default_rng(0), rounds, 1, len(found))
        samples = take_turns([turn.ms for turn in found.values()], order)[:, :, 0]
        for turn in found.values():
            if not turn.failed:
                turn.peak_mib = turn.worker.ask(do="peak").mib
        for pair in progress(labelled.pairs if labelled else (), "label", unit="frame"):
            assert labelled
            _count(pair, labelled.classes, list(found.values()), folder)
    return found, samples


def _count(pair: Pair, classes: int, paths: Sequence[Turn], folder: Path) -> None:
    frame, label = read_pair(pair)
    np.save(path := folder / "labelled.npy", frame)
    for turn in paths:
        turn.count(label, classes, folder, path)
