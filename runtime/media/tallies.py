"""Counting for `--stats` while `runtime.infer` works: of pictures, of videos, and of outputs that are kept."""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from runtime.labels import VOID
from runtime.media.outputs import Seen
from runtime.media.pictures import Task
from runtime.media.stats import Counting, Counts, Table, regions_from_file
from runtime.media.video import TimedFrame, is_video
from runtime.spec import ModelSpec
from runtime.texts import shown


class Writes(Protocol):
    """What takes the frames and masks of a video."""

    def write(self, frame: TimedFrame, seen: Seen) -> None:
        """Take one."""


class Tally:
    """The counts of a run; of one without `--stats` it does nothing."""

    def __init__(self, table: Table | None = None, counting: Counting | None = None) -> None:
        """Counts go to `table`."""
        self.counting, self._table = counting, table
        self._adding = threading.Lock()

    def add(self, name: str, counts: Counts) -> None:
        """Count a picture. Thread-safe."""
        if self._table and counts:
            with self._adding:
                self._table.add(name, counts)

    def add_kept(self, task: Task) -> bool:
        """Count what an earlier run made of a picture; False: it cannot be counted, and is to be done again."""
        if not (self._table and self.counting):
            return True
        if is_video(task.file.path) or "ids" not in task.outputs:
            return False
        import cv2

        ids = cv2.imread(str(task.outputs["ids"]), cv2.IMREAD_UNCHANGED)
        if ids is None or ids.ndim != 2:
            return False
        self._table.add(shown(task.file.path), self.counting.of(ids))
        return True

    def counted(self, recording: Writes) -> "Counted":
        """The recording, whose masks are counted on their way."""
        return Counted(recording, self.counting)

    def add_stream(self, name: str, counted: "Counted") -> None:
        """The video is over."""
        self.add(name, counted.counts)

    def overall(self) -> dict[str, Any]:
        """Pixels and shares by region and class, over all inputs."""
        return self._table.overall() if self._table else {}

    def lines(self) -> Iterator[str]:
        """The same as text, the largest share first."""
        for region, classes in self.overall().items():
            yield f"\n{'pixels of ' + region:<24}{'pixels':>16}{'share':>8}"
            for name, of in sorted(classes.items(), key=lambda item: -item[1]["pixels"]):
                yield f"{name:<24}{of['pixels']:>16}{of['share']:>8.1%}"


class Counted:
    """What takes the frames and masks of one video, and counts them where that is asked for."""

    def __init__(self, recording: Writes, counting: Counting | None) -> None:
        """Nothing is counted yet."""
        self.counts: dict[str, np.ndarray] = {}
        self._recording, self._counting = recording, counting

    def write(self, frame: TimedFrame, seen: Seen) -> None:
        """Take one."""
        self._recording.write(frame, seen)
        for region, pixels in self._counting.of(seen.mask).items() if self._counting else ():
            self.counts[region] = self.counts.get(region, np.zeros_like(pixels)) + pixels


@contextmanager
def tally_of(options: argparse.Namespace, spec: ModelSpec) -> Iterator[Tally]:
    """The tally that the options ask for; its file is complete afterwards, also of a run that ends early.

    Raises:
        FrameError: the regions' file cannot be read.
        OutputError: the file of counts cannot be written.
    """
    if options.stats is None:
        yield Tally()
        return
    regions = regions_from_file(options.regions) if options.regions else None
    names = [*(label.name for label in spec.classes), *[VOID] * bool(options.void_below)]
    table = Table(options.stats, names)
    try:
        yield Tally(table, Counting(spec, regions, void=bool(options.void_below)))
    finally:
        table.close()
