"""File to file: how many frames a second `runtime.infer` does of pictures and of a video, and what each stage costs.

What it is held to is the bound: the processor's time of all stages on one core, shared out among all cores.

`python -m runtime.bench_files --engine ENGINE --json FILE`; `make bench-files`. With `--page docs/benchmarks.md
FILE...` the table of such files is written between its two marks instead; `make figures`.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, add_threads, count_from_text, log, progress, show, size_from_text
from runtime.errors import FrameError
from runtime.labels import palette
from runtime.lanes import Lanes, open_lanes
from runtime.lookup import chosen_engine
from runtime.manifest import read_manifest
from runtime.measure.bench.latency import FRAME_SIZE
from runtime.measure.bench.tables import rewrite, title
from runtime.measure.documents import ONE_CORE, SEQUENTIAL, Files, encoded, read
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.rounds import take_turns, turns
from runtime.measure.scratch import scratch
from runtime.media.frames import FrameFile, read_frame, write_png
from runtime.media.outputs import OF_A_VIDEO, SAVES, Look, plan_outputs
from runtime.media.pictures import Run, Task, segment_pictures, segment_with
from runtime.media.pipeline import Clock, Passage, Stage, one_after_another, overlapped
from runtime.media.recording import Recording, VideoWriter
from runtime.media.results import WHOLE
from runtime.media.streams import segment_stream
from runtime.media.video import VideoReader
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.signature import add_require_signed, refuse_unsigned
from runtime.texts import markdown
from runtime.threads import for_command, limited

VERSION = 2  # of the JSON document
BEGIN = "<!-- files: made by `make figures` -->"
RATE, JPEG_QUALITY = 25, 95
STEP_PX = 4  # that the picture moves from frame to frame


class Way(NamedTuple):
    """How frames go through an engine: by which pipeline, how many of them at once, on how many threads (None: all)."""

    pipeline: Run
    lanes: Lanes
    threads: int | None = None


def in_processor_time(items: Iterable[object], stages: Iterable[Stage], clock: Clock) -> Iterator[Passage]:
    """`one_after_another`, whose `clock` gets the process's time on processors: what others take does not count."""
    return one_after_another(items, [stage._replace(work=_counted(stage, clock)) for stage in stages], Clock())


def _counted(stage: Stage, clock: Clock) -> Callable[[Any], Any]:
    def work(item: Any) -> Any:
        start = time.process_time()
        try:
            return stage.work(item)
        finally:
            clock.add(stage, (time.process_time() - start) * 1e3)

    return work


def write_inputs(folder: Path, frame: np.ndarray, count: int) -> dict[str, list[Path]]:
    """The frame, moved a little each time, as so many PNG and JPEG pictures and as one H.264 video."""
    import cv2

    found: dict[str, list[Path]] = {"PNG": [], "JPEG": [], "H.264": [folder / "street.mp4"]}
    unit = Fraction(1, RATE)
    with VideoWriter(found["H.264"][0], frame, Fraction(RATE), unit) as video:
        for i in progress(range(count), "write", unit="frame"):
            moved = np.roll(frame, STEP_PX * i, 1)
            write_png(folder / f"{i}.png", moved)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(moved, cv2.COLOR_RGB2BGR), quality)[1]
            write_atomically(folder / f"{i}.jpg", jpeg.tobytes())
            video.write(moved, i)
            found["PNG"].append(folder / f"{i}.png")
            found["JPEG"].append(folder / f"{i}.jpg")
    return found


def pass_through(files: Sequence[Path], out: Path, way: Way) -> tuple[float, Clock]:
    """Segment the files as `runtime.infer` does, and write what it writes.

    Returns:
        seconds, and where they went.

    Raises:
        FrameError: a frame cannot be read.
    """
    with for_command(way.threads):
        return _passed(files, out, way)


def _passed(files: Sequence[Path], out: Path, way: Way) -> tuple[float, Clock]:
    look, clock = Look(palette(way.lanes.spec.classes), 0.5), Clock()
    given = [FrameFile(path, Path(path.name)) for path in files]
    start = time.perf_counter()
    if files[0].suffix == ".mp4":
        (outputs,) = plan_outputs(given, out, OF_A_VIDEO)
        with VideoReader(files[0]) as source, Recording(outputs, look, source.rate, source.time_base) as recording:
            flow = segment_stream(way.lanes, source, recording, repeat(None), way.pipeline, clock, live=False)
            done: list[Any] = [passage.value for passage in flow]
    else:
        tasks = [Task(file, outputs) for file, outputs in zip(given, plan_outputs(given, out, SAVES), strict=True)]
        done = list(segment_pictures(way.lanes, tasks, look, way.pipeline, clock))
    clock.stop()
    for one in done:
        if isinstance(one, FrameError):
            raise one
    return time.perf_counter() - start, clock


def measure(engine: Path, frame: np.ndarray, count: int, rounds: int) -> dict[str, Any]:
    """Every input in every way, taking turns.

    Args:
        engine: opened once for one frame at a time, and once for as many as it does best.
        frame: uint8 (H, W, 3) RGB.
        count: frames of each input.
        rounds: runs of each input in each way, after one that is not counted.

    Returns:
        JSON values: input -> way -> frames a second, milliseconds a frame by stage and of processors, a value a round.
    """
    with scratch() as folder, ExitStack() as stack:
        log(f"writing {count} frames as PNG, JPEG and H.264")
        inputs = write_inputs(folder, frame, count)
        ways = _ways(engine, stack)
        found: dict[str, Any] = {kind: {} for kind in inputs}
        calls = []
        for kind, files in inputs.items():
            for name, way in ways.items():
                kept = {"frames_per_s": [], "cpu_ms": [], "stages_ms": {stage: [] for stage in WHOLE}}
                found[kind][name] = kept
                pass_through(files, folder / "out", way)
                calls.append(_pass(files, folder / "out", way, count, kept))
        log(f"measuring {rounds} rounds of {len(calls)} runs")
        take_turns(calls, turns(np.random.default_rng(0), rounds, 1, len(calls)))
    return found


def measure_written(engine: Path, frame: np.ndarray, rounds: int) -> dict[str, Any]:
    """What each kind of file of a picture costs to make and write, on one thread: after its mask, one after another.

    Args:
        engine: makes the mask.
        frame: uint8 (H, W, 3) RGB.
        rounds: files of each kind, after one that is not counted.

    Returns:
        JSON values: kind, as its file ends -> milliseconds of a processor, a value a round, and the file's KiB.
    """
    found: dict[str, Any] = {}
    with scratch() as folder, for_command(1), open_lanes(engine, 1) as lanes:
        look, seen = Look(palette(lanes.spec.classes), 0.5), segment_with(lanes, frame).seen
        files = [(kind, folder / f"{kind}.png") for kind in SAVES] + [("overlay", folder / "overlay.jpg")]
        for _ in range(1 + rounds):
            for kind, path in files:
                start = time.process_time()
                look.write_pictures({kind: path}, frame, seen)
                spent = (time.process_time() - start) * 1e3
                found.setdefault(path.name, {"cpu_ms": [], "kib": path.stat().st_size / 1024})["cpu_ms"].append(spent)
    return {name: {**told, "cpu_ms": told["cpu_ms"][1:]} for name, told in found.items()}


def _ways(engine: Path, stack: ExitStack) -> dict[str, Way]:
    one = stack.enter_context(open_lanes(engine, 1))
    with limited(1):
        alone = stack.enter_context(open_lanes(engine, 1))
    ways = {
        ONE_CORE: Way(in_processor_time, alone, 1),
        SEQUENTIAL: Way(one_after_another, one),
        "overlapped, 1 lane": Way(overlapped, one),
    }
    several = open_lanes(engine, lone=False)  # as `runtime.infer` opens it for files
    if several.count > 1:
        ways[f"overlapped, {several.count} lanes"] = Way(overlapped, stack.enter_context(several))
    else:
        several.close()
    return ways


def _pass(files: Sequence[Path], out: Path, way: Way, count: int, kept: dict[str, Any]) -> Callable[[], float]:
    def call() -> float:
        before = time.process_time()
        seconds, clock = pass_through(files, out, way)
        kept["cpu_ms"].append((time.process_time() - before) * 1e3 / count)
        kept["frames_per_s"].append(count / seconds)
        for stage, samples in kept["stages_ms"].items():
            samples.append(clock.busy_ms[stage] / count)
        return seconds * 1e3

    return call


def table(document: dict[str, Any]) -> str:
    """The medians of processor time, each way's best round, and under what they were measured, in Markdown."""
    names = [name for name in next(iter(document["inputs"].values())) if name != ONE_CORE]
    threads = document["fingerprint"]["machine"]["threads"]
    lines = [
        "| input | " + " | ".join((*WHOLE, "all", "bound", *map(markdown, names))) + " |",
        "|---" * (3 + len(WHOLE) + len(names)) + "|",
    ]
    for kind, ways in document["inputs"].items():
        core = ways[ONE_CORE]
        cells = [f"{np.median(ms):.1f}" for ms in (*(core["stages_ms"][stage] for stage in WHOLE), core["cpu_ms"])]
        cells.append(f"{np.median(core['cpu_ms']) / threads:.0f} ms")
        cells += [_cell(ways[name], np.array(core["cpu_ms"]) / threads) for name in names]
        lines.append(f"| {document['frames']} frames, {markdown(kind)} | " + " | ".join(cells) + " |")
    found = document["fingerprint"]
    if written := document.get("written"):
        lines += ["", "| file of a picture | ms of a processor | KiB |", "|---|---|---|"]
        lines += [f"| {name} | {np.median(of['cpu_ms']):.1f} | {of['kib']:.0f} |" for name, of in written.items()]
    height, width = found["frame_size"]
    machine = f"{found['machine']['cpu']}, {threads} threads"
    told = f"{title(found)}, frames of {height}x{width}; of {document['rounds']} rounds; {machine}."
    return "\n".join([*lines, "", markdown(told)])


def _cell(way: dict[str, Any], bounds_ms: np.ndarray) -> str:
    # The round in which other programs left it most of the machine's cores: without them it is their time, not its own.
    each_ms, cores = 1e3 / np.array(way["frames_per_s"]), np.array(way["cpu_ms"]) * way["frames_per_s"] / 1e3
    most = int(np.argmax(cores))
    return f"{each_ms[most]:.0f} ms, {each_ms[most] / np.median(bounds_ms):.2f} of the bound on {cores[most]:.2f} cores"


def read_document(path: Path) -> dict[str, Any]:
    """A document that `--json` wrote; see `runtime.measure.documents.read`."""
    return read(path, Files, "runtime.bench_files", VERSION)


def main(argv: Sequence[str]) -> int:
    """Measure, or write the page's table of what was measured.

    Raises:
        PipelineError: the engine cannot be opened, a file not be written, or the page has no place for the table.
    """
    options = _options(argv)
    if options.page:
        rewrite(options.page, BEGIN, "\n\n".join(table(read_document(path)) for path in options.documents))
        return DONE
    with for_command(options.threads):
        return _measured(options, argv)


def _measured(options: argparse.Namespace, argv: Sequence[str]) -> int:
    engine = options.engine or chosen_engine()
    if options.require_signed:
        refuse_unsigned(engine, read_manifest(engine), options.require_signed)
    frame = resize_frame(read_frame(options.frame), *options.frame_size)
    before = load()
    document = {
        "version": VERSION,
        "fingerprint": fingerprint(
            engine, read_manifest(engine), frame.shape[:2], command_line("runtime.bench_files", argv)
        ),
        "frames": options.frames,
        "rounds": options.rounds,
        "inputs": measure(engine, frame, options.frames, options.rounds),
        "written": measure_written(engine, frame, options.frames),
        "load": {"before": before, "after": load()},
    }
    if options.json:
        write_atomically(options.json, encoded(document, Files))
    show(table(document))
    return DONE


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m runtime.bench_files", description=__doc__)
    add = parser.add_argument
    add("documents", type=Path, nargs="*", metavar="FILE", help="with --page: what --json wrote")
    add("--page", type=Path, help="write the table of the files into it, and measure nothing")
    add("--engine", type=Path, help="the engine (by default the newest of this machine)")
    add_require_signed(parser)
    add("--frames", type=count_from_text, default=20, help="of each input (%(default)s)")
    add("--rounds", type=count_from_text, default=6, help="runs of each input in each way (%(default)s)")
    add_threads(parser)
    add("--frame", type=Path, default=STREET, help="an image (the bundled street)")
    add("--frame-size", type=size_from_text, default=FRAME_SIZE, help="it is brought to (1024x2048)")
    add("--json", type=Path, metavar="FILE", help="everything, raw samples and fingerprint too")
    options = parser.parse_args(argv)
    if bool(options.documents) != bool(options.page):
        parser.error("FILE... and --page go together")
    if options.page and (options.engine or options.json):
        parser.error("--page measures nothing: it takes neither --engine nor --json")
    return options
