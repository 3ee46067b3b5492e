"""What `runtime.infer` does in one run: pictures, then videos; or cameras and addresses, all at the same time."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from runtime.errors import FrameError
from runtime.media import video
from runtime.media.camera import camera_name, film_name, is_camera, shown_address
from runtime.media.found import FrameFile
from runtime.media.inputs import inputs_of, refuse_mistaken
from runtime.media.local_camera import PIPELINE, Asked, is_local, refuse_asked, refuse_without_gstreamer
from runtime.media.outputs import camera_outputs, refuse_clashes
from runtime.media.pictures import Task
from runtime.media.video import is_video


class Address(NamedTuple):
    """A camera, a stream or a film at an address: as it was given, where its masks go, and whether it has no end."""

    given: str
    task: Task
    live: bool


class Plan(NamedTuple):
    """What is to be done: files, or else addresses."""

    pictures: list[FrameFile]
    videos: list[FrameFile]
    addresses: list[Address]

    @property
    def inputs(self) -> int:
        """How many there are."""
        return len(self.pictures) + len(self.videos) + len(self.addresses)

    @property
    def lanes(self) -> int | None:
        """Frames in the engine at once; None: as many as it does best.

        One frame is there soonest when it has the whole machine; each camera has one of its own.
        """
        if self.addresses:
            return len(self.addresses) if any(address.live for address in self.addresses) else None
        return 1 if len(self.pictures) <= 1 and not self.videos else None


def plan_of(options: argparse.Namespace) -> Plan:
    """What the options of `runtime.infer` ask for.

    Raises:
        FrameError: an input is missing, or something is asked of what cannot be asked.
        OutputError: two inputs would write the same, or one an input.
        LibraryError: there are videos, and no PyAV.
    """
    for each in options.inputs:
        refuse_mistaken(each)
    if any(map(is_camera, options.inputs)):
        return Plan([], [], _addresses(options))
    files = inputs_of(options.inputs, options.list, options.output, options.shard)
    refuse_clashes(files, options.output, options.save, options.overlay_format)
    videos = [file for file in files if is_video(file.path)]
    if videos:
        video.library()  # before an engine is opened for nothing
    return Plan([file for file in files if not is_video(file.path)], videos, [])


def asked_of(options: argparse.Namespace) -> Asked:
    """What is asked of cameras."""
    return Asked(options.camera_size, options.camera_fps, options.camera_format)


def _addresses(options: argparse.Namespace) -> list[Address]:
    _refuse_twice(options.inputs)
    if any(each.startswith(PIPELINE) for each in options.inputs):
        refuse_without_gstreamer()
    video.library()
    if not any(map(is_local, options.inputs)):
        refuse_asked(options.inputs[0], asked_of(options))
    started, names = time.strftime("%Y%m%d-%H%M%S"), set[str]()
    found = []
    for given in options.inputs:
        live = is_local(given) or given.startswith(PIPELINE) or not video.is_finished(given)
        name = _free(f"{camera_name(given)}-{started}" if live else film_name(given), names)
        file = FrameFile(Path(shown_address(given)), Path(name))
        found.append(Address(given, Task(file, camera_outputs(name, options.output, options.save)), live))
    return found


def _refuse_twice(inputs: Sequence[str]) -> None:
    for given in inputs:
        if inputs.count(given) > 1:
            raise FrameError(f"{shown_address(given)}: is given twice; a camera is opened once")


def _free(name: str, taken: set[str]) -> str:
    # Two cameras may differ in their password alone.
    free, number = name, 2
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free)
    return free
