"""`python -m runtime.infer INPUT...`: pictures, videos, a camera in; class ids, colours and overlays out."""

import argparse
import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from runtime import cli
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS
from runtime.errors import FrameError
from runtime.labels import cityscapes_colors, palette
from runtime.lanes import Lanes, open_lanes
from runtime.lookup import chosen_engine
from runtime.media import video
from runtime.media.camera import Camera, camera_name, film_name, is_camera, shown_address
from runtime.media.frames import EXTENSIONS, FrameFile, add_max_pixels, locate_frames, read_frame
from runtime.media.outputs import SAVES, Look, camera_outputs, plan_outputs, prepare_folder, refuse_overwrites
from runtime.media.pictures import Run, Task, segment_pictures
from runtime.media.pipeline import Clock, one_after_another, overlapped
from runtime.media.recording import Recording
from runtime.media.results import STAGES, WHOLE, Report, stage_table
from runtime.media.streams import Source, StreamResult, segment_stream, ticks
from runtime.media.video import VideoReader, first_frame, is_video
from runtime.signature import add_require_signed
from runtime.texts import shown
from runtime.threads import for_command

__all__ = ["STAGES", "WHOLE", "main", "stage_table"]

SAID_OF_A_STREAM = 5  # lines about lost frames; the rest is counted


class Plan(NamedTuple):
    """What is to be done: pictures, then videos; or a camera alone."""

    pictures: list[Task]
    videos: list[Task]
    camera: Task | None
    live: bool = True  # else the camera is an address whose film is finished


def main(argv: Sequence[str]) -> int:
    """Segment what `argv` names.

    A picture or a frame that cannot be read is one line on stderr and the rest goes on; the exit code tells. After
    Ctrl-C what is on its way is finished, and every file is whole.

    Raises:
        PipelineError: nothing could be done, or an output cannot be written.
        KeyboardInterrupt: Ctrl-C, when all of that is on disk and reported.
    """
    options = _options(argv)
    plan = _plan(options)
    engine = options.engine or chosen_engine()
    with ExitStack() as stack:
        stack.enter_context(for_command(options.threads))
        lanes = open_lanes(engine, options.lanes or _lanes_for(plan), require_signed=options.require_signed)
        stack.enter_context(lanes)
        stop = stack.enter_context(cli.interruptible())
        prepare_folder(options.output)
        session = Session(lanes, options, stop)
        try:
            session.do(plan)
        finally:
            session.print_report(engine)
    if stop.is_set():
        raise KeyboardInterrupt
    return _exit_code(session.report, plan)


class Session:
    """One run of the command with its engine open."""

    def __init__(self, lanes: Lanes, options: argparse.Namespace, stop: threading.Event) -> None:
        self.report = Report()
        self._lanes, self._options, self._stop = lanes, options, stop
        classes = lanes.spec.classes
        shown_classes = cityscapes_colors(classes) if options.colors == "cityscapes" else classes
        self._look = Look(palette(shown_classes), options.alpha)
        self._run: Run = one_after_another if options.sequential else overlapped

    def do(self, plan: Plan) -> None:
        """Do all of it, until it is done or stopped.

        Raises:
            OutputError: an output cannot be written.
        """
        self._warm_up(plan)
        if plan.pictures and not self._stop.is_set():
            self._do_pictures(plan.pictures)
        for task in plan.videos:
            if not self._stop.is_set():
                self._do_video(task)
        if plan.camera and not self._stop.is_set():
            self._do_address(plan.camera, live=plan.live)

    def print_report(self, engine: Path) -> None:
        """Print what was done."""
        if self._options.json:
            self.report.print_json(engine, self._lanes.spec)
        else:
            self.report.print_text(engine, stages=self._options.stages)
        if not self._stop.is_set() and (line := self.report.about_ids(self._lanes.spec)):
            cli.log(line)

    def _do_pictures(self, tasks: list[Task]) -> None:
        clock = self.report.pictures_clock = Clock()
        going = takewhile(lambda _: not self._stop.is_set(), tasks)
        flow = segment_pictures(self._lanes, going, self._look, self._run, clock)
        for task, result in zip(tasks, cli.progress(flow, "segment", len(tasks), "frame"), strict=False):
            if isinstance(result, FrameError):
                self._fail(task.file.path, result)
            else:
                self.report.pictures.append(result)
        clock.stop()

    def _do_video(self, task: Task) -> None:
        try:
            with VideoReader(task.file.path) as source:
                self._do_stream(task, source, StreamResult(shown(task.file.path)), source.frames)
        except FrameError as error:
            self._fail(task.file.path, error)

    def _do_address(self, task: Task, *, live: bool) -> None:
        given = self._options.inputs[0]
        with Camera(given, stop=self._stop) if live else VideoReader(given) as source:
            stream = StreamResult(shown_address(given), live=live)
            self._do_stream(task, source, stream, source.frames)

    def _do_stream(self, task: Task, source: Source, stream: StreamResult, frames: int | None) -> None:
        self.report.streams.append(stream)
        with Recording(task.outputs, self._look, source.rate, source.time_base) as recording:
            stream.outputs = recording.written
            self._note(stream, source)
            limit_s, live = self._options.seconds, stream.live
            until, film_s = ticks(self._stop, limit_s if live else None), None if live else limit_s
            flow = segment_stream(
                self._lanes, source, recording, until, self._run, stream.clock, live=live, seconds=film_s
            )
            for done, stages_ms in cli.progress(flow, "segment", frames, "frame"):
                stream.dropped = source.dropped
                if isinstance(done, FrameError):
                    self._lose(stream, done)
                else:
                    stream.add(done, stages_ms)
            stream.clock.stop()
            self._note(stream, source)
            stream.missing = max(0, source.missing - stream.damaged)
        cli.log(stream.summary())

    def _note(self, stream: StreamResult, source: Source) -> None:
        for note in source.notes:
            if note not in stream.notes:
                stream.notes.append(note)
                cli.log(note)

    def _lose(self, stream: StreamResult, error: FrameError) -> None:
        stream.damaged += 1
        if stream.damaged <= SAID_OF_A_STREAM:
            self.report.problems.append((stream.input, str(error)))
            cli.fail(str(error))

    def _fail(self, path: Path, error: FrameError) -> None:
        self.report.failed_inputs += 1
        self.report.problems.append((shown(path), str(error)))
        cli.fail(str(error))

    def _warm_up(self, plan: Plan) -> None:
        for task in [*plan.pictures, *plan.videos] if self._options.warmup else []:
            path = task.file.path
            try:
                frame = first_frame(path) if is_video(path) else read_frame(path)
            except FrameError:
                continue  # it will be said in its turn
            mask = self._lanes.warm_up(frame, self._options.warmup, self._stop)
            if not self._stop.is_set():
                self._warm_up_writing(task, frame, mask)
            return

    def _warm_up_writing(self, task: Task, frame: np.ndarray, mask: np.ndarray) -> None:
        # The overlay's loop is compiled or loaded with its first call: 150 to 250 ms that no later frame has.
        with TemporaryDirectory() as folder:
            self._look.write_pngs({kind: Path(folder) / f"{kind}.png" for kind in task.outputs}, frame, mask)


def _plan(options: argparse.Namespace) -> Plan:
    given = options.inputs[0]
    if is_camera(given):
        live = not video.is_finished(given)
        name = f"{camera_name(given)}-{time.strftime('%Y%m%d-%H%M%S')}" if live else film_name(given)
        file = FrameFile(Path(shown_address(given)), Path(name))
        return Plan([], [], Task(file, camera_outputs(name, options.output, options.save)), live)
    files = locate_frames(options.inputs, skip=options.output, extensions=EXTENSIONS | video.EXTENSIONS)
    outputs = plan_outputs(files, options.output, options.save)
    refuse_overwrites(files, outputs)
    tasks = [Task(file, paths) for file, paths in zip(files, outputs, strict=True)]
    videos = [task for task in tasks if is_video(task.file.path)]
    if videos:
        video.library()  # before an engine is opened for nothing
    return Plan([task for task in tasks if not is_video(task.file.path)], videos, None)


def _lanes_for(plan: Plan) -> int | None:
    # One frame is there soonest when it has the whole machine; of many, the engine knows how many at once are best.
    if plan.camera and not plan.live:
        return None
    return 1 if plan.camera or (len(plan.pictures) <= 1 and not plan.videos) else None


def _exit_code(report: Report, plan: Plan) -> int:
    inputs = len(plan.pictures) + len(plan.videos)
    if report.failed_inputs and inputs > 1:
        cli.fail(f"{report.failed_inputs} of {inputs} inputs failed, {inputs - report.failed_inputs} done")
    return cli.FAILED if report.problems else cli.DONE


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if len(options.inputs) > 1 and any(map(is_camera, options.inputs)):
        parser.error("a camera is segmented alone: one camera and no other input")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.infer", description=__doc__)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image, video, glob, folder (searched to the bottom), or one "
        "camera: camera:0, /dev/video0, rtsp://HOST/PATH")  # fmt: skip
    add("-o", "--output", type=Path, default=ARTIFACTS / "masks", help="folder (default: %(default)s)")
    add("--engine", type=Path, help="default: this machine's newest under artifacts/engines")
    add("--save", type=_saves_from_text, help="which of ids,color,overlay (default: all; of videos the overlay)")
    add("--alpha", type=_alpha_from_text, default=0.5, help="colours in the overlay, 0..1 (default: 0.5)")
    add("--colors", choices=("own", "cityscapes"), default="own", help="of the classes: their data set's own, or "
        "Cityscapes', which show more over a street (default: own)")  # fmt: skip
    add("--warmup", type=cli.amount_from_text, default=0, metavar="N", help="untimed runs on the first frame, and its "
        "masks written once (default: 0)")  # fmt: skip
    add(
        "--seconds",
        type=_seconds_from_text,
        metavar="S",
        help="stop after so much of a video, of its own time, or so long of a camera",
    )
    add_max_pixels(parser)
    add_require_signed(parser)
    add("--lanes", type=cli.lanes_from_text, metavar="N", help="frames in the engine at once (default: 1 for one "
        "picture or a camera, else what the engine does best)")  # fmt: skip
    cli.add_threads(parser)
    add("--sequential", action="store_true", help="one frame at a time the whole way, to compare with")
    add("--stages", action="store_true", help="mean ms per stage, the busy share of each and frames a second; for one "
        "image the ms are always printed")  # fmt: skip
    add("--json", action="store_true", help="one JSON document on stdout; times in ms, shares 0..1")
    return parser


def _saves_from_text(text: str) -> tuple[str, ...]:
    asked = text.split(",")
    if not set(asked) <= set(SAVES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {','.join(SAVES)}")
    return tuple(kind for kind in SAVES if kind in asked)


def _alpha_from_text(text: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise argparse.ArgumentTypeError(f"alpha {text!r} is not a number from 0 to 1")
    return alpha


def _seconds_from_text(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, more than 0")
    return seconds


if __name__ == "__main__":
    cli.run(main)
