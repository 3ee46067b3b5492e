"""`python -m runtime.infer INPUT...`: pictures, videos, a camera in; class ids, colours and overlays out."""

import argparse
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from runtime import cli
from runtime.bars import tell
from runtime.errors import FrameError
from runtime.infer_options import options_of
from runtime.labels import cityscapes_colors, palette
from runtime.lanes import Lanes, open_lanes
from runtime.lookup import chosen_engine
from runtime.media import video
from runtime.media.camera import Camera, camera_name, film_name, is_camera, shown_address
from runtime.media.found import FrameFile
from runtime.media.frames import read_frame
from runtime.media.inputs import inputs_of, refuse_mistaken
from runtime.media.outputs import Look, camera_outputs, outputs_of, prepare_folder, refuse_clashes
from runtime.media.pictures import Result, Run, Task, segment_pictures
from runtime.media.pipeline import Clock, one_after_another, overlapped
from runtime.media.recording import Recording
from runtime.media.results import STAGES, WHOLE, Report, print_line, stage_table
from runtime.media.run_record import Record
from runtime.media.streams import Source, StreamResult, segment_stream, ticks
from runtime.media.tallies import Tally, tally_of
from runtime.media.video import VideoReader, first_frame, is_video
from runtime.texts import shown
from runtime.threads import for_command

__all__ = ["STAGES", "WHOLE", "main", "stage_table"]

SAID_OF_A_STREAM = 5  # lines about lost frames; the rest is counted


class Plan(NamedTuple):
    """What is to be done: pictures, then videos; or a camera alone."""

    pictures: list[FrameFile]
    videos: list[FrameFile]
    camera: Task | None = None
    live: bool = True  # else the camera is an address whose film is finished


def main(argv: Sequence[str]) -> int:
    """Segment what `argv` names.

    A picture or a frame that cannot be read is one line on stderr and the rest goes on; the exit code tells. After
    Ctrl-C what is on its way is finished, and every file is whole.

    Raises:
        PipelineError: nothing could be done, or an output cannot be written.
        KeyboardInterrupt: Ctrl-C, when all of that is on disk and reported.
    """
    options = options_of(argv)
    plan = _plan(options)
    engine = options.engine or chosen_engine()
    with ExitStack() as stack:
        stack.enter_context(for_command(options.threads))
        lanes = open_lanes(engine, options.lanes or _lanes_for(plan), require_signed=options.require_signed)
        stack.enter_context(lanes)
        stop = stack.enter_context(cli.interruptible())
        prepare_folder(options.output)
        record = Record(engine, lanes.spec, options)
        session = Session(lanes, options, stop, record, stack.enter_context(tally_of(options, lanes.spec)))
        try:
            session.do(plan)
        finally:
            session.print_report(engine)
        record.write(session.report, session.tally, interrupted=stop.is_set())
    if stop.is_set():
        raise KeyboardInterrupt
    return _exit_code(session.report, plan)


class Session:
    """One run of the command with its engine open."""

    def __init__(
        self, lanes: Lanes, options: argparse.Namespace, stop: threading.Event, record: Record, tally: Tally
    ) -> None:
        self.report, self.tally = Report(all_pictures=options.json), tally
        self._record = record
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
        for file in plan.videos:
            if not self._stop.is_set() and (task := self._task(file)):
                self._do_video(task)
        if plan.camera and not self._stop.is_set():
            self._do_address(plan.camera, live=plan.live)

    def print_report(self, engine: Path) -> None:
        """Print what was done."""
        if self._options.json:
            self.report.print_json(engine, self._lanes.spec)
        elif not self._options.jsonl:
            self.report.print_text(engine, stages=self._options.stages)
            for line in self.tally.lines():
                cli.show(line)
        if not self._stop.is_set() and (line := self.report.about_ids(self._lanes.spec)):
            cli.log(line)

    def _do_pictures(self, files: list[FrameFile]) -> None:
        clock = self.report.pictures_clock = Clock()
        going: deque[Task] = deque()

        def tasks() -> Iterator[Task]:
            for file in files:
                if self._stop.is_set():
                    return
                if task := self._task(file):
                    going.append(task)
                    yield task

        flow = segment_pictures(self._lanes, tasks(), self._look, self._run, clock, self.tally.counting)
        for result in cli.progress(flow, "segment", len(files), "frame"):
            task = going.popleft()
            if isinstance(result, FrameError):
                self._fail(task.file.path, result)
            else:
                self._done(result)
        clock.stop()

    def _done(self, result: Result) -> None:
        self.report.add(result)
        self.tally.add(shown(result.file.path), result.counts)
        self._tell(list(result.outputs.values()), result)

    def _task(self, file: FrameFile) -> Task | None:
        # None: all of it is there already.
        outputs = outputs_of(file, self._options.output, self._options.save)
        task = Task(file, outputs, self._record.mark_of(file.path))
        if not (self._options.resume and self._record.is_kept(task) and self.tally.add_kept(task)):
            return task
        self.report.kept += 1
        if self._options.jsonl:
            told = {kind: str(path) for kind, path in outputs.items()}
            print_line({"input": str(file.path), "outputs": told, "kept": True})
        return None

    def _tell(self, outputs: list[Path], what: Result | StreamResult) -> None:
        if self._options.jsonl:
            print_line(what)
        elif not self._options.json:
            for path in outputs:
                tell(shown(path))

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
        try:
            self._record_stream(task, source, stream, frames)
        finally:  # of a disk that is full what was written plays
            self._tell([path for _, path in stream.outputs], stream)
        cli.log(stream.summary())
        self.tally.add_stream(stream.input)
        if task.mark and not self._stop.is_set() and not stream.live:
            self._record.add_video((path for _, path in stream.outputs), task.mark, self.report, self.tally)

    def _record_stream(self, task: Task, source: Source, stream: StreamResult, frames: int | None) -> None:
        with Recording(task.outputs, self._look, source.rate, source.time_base) as recording:
            stream.outputs = recording.written
            counted = self.tally.counted(recording)
            self._note(stream, source)
            limit_s, live = self._options.seconds, stream.live
            until, film_s = ticks(self._stop, limit_s if live else None), None if live else limit_s
            flow = segment_stream(
                self._lanes, source, counted, until, self._run, stream.clock, live=live, seconds=film_s
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
        if self._options.jsonl:
            print_line({"input": str(path), "error": str(error)})
        cli.fail(str(error))

    def _warm_up(self, plan: Plan) -> None:
        for file in [*plan.pictures, *plan.videos] if self._options.warmup else []:
            path = file.path
            try:
                frame = first_frame(path) if is_video(path) else read_frame(path)
            except FrameError:
                continue  # it will be said in its turn
            mask = self._lanes.warm_up(frame, self._options.warmup, self._stop)
            if not self._stop.is_set():
                self._warm_up_writing(outputs_of(file, Path(), self._options.save), frame, mask)
            return

    def _warm_up_writing(self, outputs: dict[str, Path], frame: np.ndarray, mask: np.ndarray) -> None:
        # The overlay's loop is compiled or loaded with its first call: 150 to 250 ms that no later frame has.
        with TemporaryDirectory() as folder:
            self._look.write_pngs({kind: Path(folder) / f"{kind}.png" for kind in outputs}, frame, mask)


def _plan(options: argparse.Namespace) -> Plan:
    given = options.inputs[0] if options.inputs else ""
    refuse_mistaken(given)
    if is_camera(given):
        live = not video.is_finished(given)
        name = f"{camera_name(given)}-{time.strftime('%Y%m%d-%H%M%S')}" if live else film_name(given)
        file = FrameFile(Path(shown_address(given)), Path(name))
        return Plan([], [], Task(file, camera_outputs(name, options.output, options.save)), live)
    files = inputs_of(options.inputs, options.list, options.output, options.shard)
    refuse_clashes(files, options.output, options.save)
    videos = [file for file in files if is_video(file.path)]
    if videos:
        video.library()  # before an engine is opened for nothing
    return Plan([file for file in files if not is_video(file.path)], videos)


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


if __name__ == "__main__":
    cli.run(main)
