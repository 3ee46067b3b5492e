"""Counting for `--stats` while `runtime.infer` works: of pictures, of videos, and of outputs that are kept."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from runtime.media.pictures import Task
from runtime.media.recording import Recording
from runtime.media.stats import Counting, Counts, Table, regions_from_file
from runtime.media.video import TimedFrame, is_video
from runtime.spec import ModelSpec
from runtime.texts import shown


class Writes(Protocol):
    """What takes the frames and masks of a video."""

    def write(self, frame: TimedFrame, mask: np.ndarray) -> None:
        """Take one."""


class Tally:
    """The counts of a run; of one without `--stats` it does nothing."""

    def __init__(self, table: Table | None = None, counting: Counting | None = None) -> None:
        """Counts go to `table`."""
        self.counting, self._table = counting, table
        self._stream: dict[str, np.ndarray] = {}

    def add(self, name: str, counts: Counts) -> None:
        """Count a picture."""
        if self._table and counts:
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

    def counted(self, recording: Recording) -> Any:
        """The recording, whose masks are counted on their way."""
        self._stream = {}
        return _Counted(recording, self) if self.counting else recording

    def see(self, mask: np.ndarray) -> None:
        """Count a frame of a video."""
        if self.counting:
            for region, pixels in self.counting.of(mask).items():
                self._stream[region] = self._stream.get(region, np.zeros_like(pixels)) + pixels

    def add_stream(self, name: str) -> None:
        """The video is over."""
        self.add(name, self._stream)

    def overall(self) -> dict[str, Any]:
        """Pixels and shares by region and class, over all inputs."""
        return self._table.overall() if self._table else {}

    def lines(self) -> Iterator[str]:
        """The same as text, the largest share first."""
        for region, classes in self.overall().items():
            yield f"\n{'pixels of ' + region:<24}{'pixels':>16}{'share':>8}"
            for name, of in sorted(classes.items(), key=lambda item: -item[1]["pixels"]):
                yield f"{name:<24}{of['pixels']:>16}{of['share']:>8.1%}"


class _Counted:
    def __init__(self, recording: Writes, tally: Tally) -> None:
        self._recording, self._tally = recording, tally

    def write(self, frame: TimedFrame, mask: np.ndarray) -> None:
        self._recording.write(frame, mask)
        self._tally.see(mask)


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
    table = Table(options.stats, spec)
    try:
        yield Tally(table, Counting(spec, regions))
    finally:
        table.close()
