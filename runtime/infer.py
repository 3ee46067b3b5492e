"""`python -m runtime.infer INPUT...`: pictures, videos, a camera in; class ids, colours and overlays out."""

import argparse
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from runtime import cli
from runtime.backend import refuse_ids
from runtime.bars import tell
from runtime.errors import FrameError
from runtime.fit import Shapes
from runtime.infer_options import options_of
from runtime.labels import cityscapes_colors, palette
from runtime.lanes import Lanes, open_lanes
from runtime.lookup import chosen_engine
from runtime.media.camera import Camera, shown_address
from runtime.media.claims import pictures_claimed
from runtime.media.found import FrameFile
from runtime.media.frames import read_frame
from runtime.media.jpeg import QUALITY
from runtime.media.local_camera import Asked, is_local
from runtime.media.outputs import Look, Seen, outputs_of, prepare_folder
from runtime.media.pictures import Result, Run, Task, segment_pictures, segment_with
from runtime.media.pipeline import Clock, one_after_another, overlapped
from runtime.media.plan import Address, Plan, asked_of, plan_of
from runtime.media.recording import Recording
from runtime.media.results import STAGES, WHOLE, Report, print_line, stage_table
from runtime.media.run_record import Record
from runtime.media.streams import Source, StreamResult, segment_stream, ticks
from runtime.media.tallies import Tally, tally_of
from runtime.media.together import together
from runtime.media.video import VideoReader, first_frame, is_video
from runtime.media.view import Shown, View
from runtime.media.window import Windows
from runtime.texts import shown
from runtime.threads import for_command

if TYPE_CHECKING:
    from runtime.media.preview import Preview

__all__ = ["STAGES", "WHOLE", "main", "stage_table"]

SAID_OF_A_STREAM = 5  # lines about lost frames; the rest is counted


def main(argv: Sequence[str]) -> int:
    """Segment what `argv` names.

    A picture or a frame that cannot be read is one line on stderr and the rest goes on; the exit code tells. After
    Ctrl-C what is on its way is finished, and every file is whole.

    Raises:
        PipelineError: nothing could be done, or an output cannot be written.
        KeyboardInterrupt: Ctrl-C, when all of that is on disk and reported.
    """
    options = options_of(argv)
    plan = plan_of(options)
    engine = options.engine or chosen_engine()
    with ExitStack() as stack:
        stack.enter_context(for_command(options.threads))
        signed, fit = options.require_signed, options.fit
        wanted, lone = options.lanes or plan.lanes, bool(plan.addresses)  # of files there is always a next one
        lanes = open_lanes(engine, wanted, require_signed=signed, fit=fit, lone=lone)
        stack.enter_context(lanes)
        stop = stack.enter_context(cli.interruptible())
        prepare_folder(options.output)
        kinds = list(outputs_of(plan.pictures[0], options.output, options.save)) if plan.pictures else []
        pictures = (file.relative for file in plan.pictures)
        stack.enter_context(pictures_claimed(options.output, pictures, kinds))
        record = Record(engine, lanes.spec, options)
        tally = stack.enter_context(tally_of(options, lanes.spec))
        session = Session(lanes, options, stop, record, tally, _places(options, stack))
        try:
            session.do(plan)
        finally:
            session.print_report(engine)
        record.write(session.report, session.tally, interrupted=stop.is_set())
    if stop.is_set():
        raise KeyboardInterrupt
    return _exit_code(session.report, plan)


class Flow(NamedTuple):
    """A video or a camera on its way: what to make of it, how many frames it announces, who looks on.

    `at_once` of its frames are in the engine; None: as many as it takes.
    """

    task: Task
    source: Source
    stream: StreamResult
    frames: int | None
    views: list[View]
    at_once: int | None = None


class Session:
    """One run of the command with its engine open."""

    def __init__(
        self,
        lanes: Lanes,
        options: argparse.Namespace,
        stop: threading.Event,
        record: Record,
        tally: Tally,
        places: "Sequence[Preview | Windows]" = (),
    ) -> None:
        self.report, self.tally = Report(all_pictures=options.json), tally
        self._record = record
        self._lanes, self._options, self._stop, self._places = lanes, options, stop, places
        self._telling = threading.Lock()
        self._shapes = Shapes(lanes.spec.preprocess)
        classes = lanes.spec.classes
        shown_classes = cityscapes_colors(classes) if options.colors == "cityscapes" else classes
        void_below = options.void_below or (0 if options.confidence else None)
        if void_below is not None:
            refuse_ids(lanes.spec)
        self._look = Look(palette(shown_classes), options.alpha, void_below, options.quality or QUALITY)
        self._run: Run = one_after_another if options.sequential else overlapped

    def do(self, plan: Plan) -> None:
        """Do all of it, until it is done or stopped.

        Raises:
            OutputError: an output cannot be written.
        """
        self._warm_up(plan)
        if plan.pictures and not self._stop.is_set():
            self._do_pictures(plan.pictures)
        views = self._views("videos") if plan.videos else []
        for file in plan.videos:
            if not self._stop.is_set() and (task := self._task(file)):
                self._do_video(task, views)
        several = len(plan.addresses) > 1
        if plan.addresses and not self._stop.is_set():
            do = self._do_one_of_several if several else self._do_address
            together([partial(do, address) for address in plan.addresses], self._stop)

    def print_report(self, engine: Path) -> None:
        """Print what was done."""
        if self._options.json:
            self.report.print_json(engine, self._lanes.spec)
        elif not self._options.jsonl:
            self.report.print_text(engine, stages=self._options.stages)
            for line in self.tally.lines():
                cli.show(line)
        if line := self._shapes.line():
            cli.log(line)
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
        self._shapes.add(result.height, result.width)
        self.tally.add(shown(result.file.path), result.counts)
        self._tell(list(result.outputs.values()), result)

    def _task(self, file: FrameFile) -> Task | None:
        # None: all of it is there already.
        outputs = self._outputs(file, self._options.output)
        task = Task(file, outputs, self._record.mark_of(file.path))
        if not (self._options.resume and self._record.is_kept(task) and self.tally.add_kept(task)):
            return task
        self.report.kept += 1
        if self._options.jsonl:
            told = {kind: str(path) for kind, path in outputs.items()}
            print_line({"input": str(file.path), "outputs": told, "kept": True})
        return None

    def _outputs(self, file: FrameFile, folder: Path) -> dict[str, Path]:
        return outputs_of(file, folder, self._options.save, self._options.overlay_format)

    def _tell(self, outputs: list[Path], what: Result | StreamResult) -> None:
        with self._telling:
            if self._options.jsonl:
                print_line(what)
            elif not self._options.json:
                for path in outputs:
                    tell(shown(path))

    def _views(self, name: str) -> list[View]:
        return [place.view(name, partial(self._look.pixels, "overlay")) for place in self._places]

    def _do_video(self, task: Task, views: list[View]) -> None:
        try:
            with VideoReader(task.file.path) as source:
                self._do_stream(Flow(task, source, StreamResult(shown(task.file.path)), source.frames, views))
        except FrameError as error:
            self._fail(task.file.path, error)

    def _do_one_of_several(self, address: Address) -> None:
        try:
            self._do_address(address, at_once=1)
        except FrameError as error:  # the others go on
            self._fail(address.task.file.path, error)

    def _do_address(self, address: Address, at_once: int | None = None) -> None:
        with self._opened(address) as source:
            if isinstance(source, Camera) and self._options.seconds:
                source.end_after(self._options.seconds)
            stream = StreamResult(shown_address(address.given), live=address.live)
            self._do_stream(Flow(address.task, source, stream, source.frames, self._views(stream.input), at_once))

    def _opened(self, address: Address) -> Camera | VideoReader:
        if not address.live:
            return VideoReader(address.given)
        asked = asked_of(self._options) if is_local(address.given) else Asked()
        patience_s = self._options.reconnect
        return Camera(address.given, stop=self._stop, asked=asked, patience_s=patience_s, told=cli.log)

    def _do_stream(self, flow: Flow) -> None:
        task, stream = flow.task, flow.stream
        self.report.streams.append(stream)
        try:
            self._record_stream(flow)
        finally:  # of a disk that is full what was written plays
            self._shapes.add(stream.height, stream.width, stream.frames)
            self._tell([path for _, path in stream.outputs], stream)
        cli.log(stream.summary())
        if task.mark and not self._stop.is_set() and not stream.live:
            self._record.add_video((path for _, path in stream.outputs), task.mark, self.report, self.tally)

    def _record_stream(self, flow: Flow) -> None:
        task, source, stream, frames, views, at_once = flow
        with Recording(task.outputs, self._look, source.rate, source.time_base) as recording:
            stream.outputs = recording.written
            counted = self.tally.counted(Shown(recording, views))
            self._note(stream, source)
            limit_s, live = self._options.seconds, stream.live
            until, film_s = ticks(self._stop, limit_s if live else None), None if live else limit_s
            passages = segment_stream(
                self._lanes, source, counted, until, self._run, stream.clock, live=live, seconds=film_s,
                at_once=at_once, void_below=self._look.void_below,
            )  # fmt: skip
            for done, stages_ms in cli.progress(passages, stream.input if at_once else "segment", frames, "frame"):
                stream.dropped, stream.reconnects = source.dropped, source.reconnects
                if isinstance(done, FrameError):
                    self._lose(stream, done)
                else:
                    stream.add(done, stages_ms)
            stream.clock.stop()
            self._note(stream, source)
            stream.missing = max(0, source.missing - stream.damaged)
        self.tally.add_stream(stream.input, counted)

    def _note(self, stream: StreamResult, source: Source) -> None:
        for note in source.notes:
            if note not in stream.notes:
                stream.notes.append(note)
                cli.log(note)

    def _lose(self, stream: StreamResult, error: FrameError) -> None:
        stream.damaged += not stream.live  # of a camera it is the line that is lost, no frame
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
                self._warm_up_writing(self._outputs(file, Path()), frame, mask)
            return

    def _warm_up_writing(self, outputs: dict[str, Path], frame: np.ndarray, mask: np.ndarray) -> None:
        # Loops of overlays and confidences are compiled or loaded with their first call: 150 to 250 ms that no later
        # frame has.
        below = self._look.void_below
        seen = Seen(mask) if below is None else segment_with(self._lanes, frame, below).seen
        with TemporaryDirectory() as folder:
            places = {kind: Path(folder, path.name) for kind, path in outputs.items()}
            self._look.write_pictures(places, frame, seen)


def _places(options: argparse.Namespace, stack: ExitStack) -> "list[Preview | Windows]":
    # An HTTP server takes 12 ms to import, which are the first mask's.
    places: list[Any] = []
    if options.window:
        places.append(stack.enter_context(Windows()))
    if options.show or options.show_port:
        from runtime.media.preview import Preview

        preview = stack.enter_context(Preview(options.show_port or 0))
        cli.log(f"look on at {preview.address}")
        places.append(preview)
    return places


def _exit_code(report: Report, plan: Plan) -> int:
    inputs = plan.inputs
    if report.failed_inputs and inputs > 1:
        cli.fail(f"{report.failed_inputs} of {inputs} inputs failed, {inputs - report.failed_inputs} done")
    return cli.FAILED if report.problems else cli.DONE


if __name__ == "__main__":
    cli.run(main)
