"""What an hour of film costs: `python -m tests.fleet_cost --engine FILE --json figures/fleet-cost.json`, ten minutes.

One film goes through `runtime.infer`, which is `open_lanes` between a reader and a writer, through `runtime.fleet`
without Ray, and through Ray with one worker: each of them once a round, the order turned round with every second one.
A fleet's machine seconds are those of its summary: from when a worker takes an item until its row is written. What a
command takes beside them, from start to end, it takes once, however long the film is.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from math import cos, sin
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from runtime.artifacts import write_atomically
from runtime.cli import DONE, count_from_text, log, run
from runtime.fleet.summary import DOCUMENT
from runtime.manifest import read_manifest
from runtime.measure.bench.tables import rewrite
from runtime.measure.fingerprint import command_line, engine_facts, machine, software, today
from runtime.media.frames import read_frame
from runtime.samples import STREET
from tests.helpers.fleet_runs import running
from tests.helpers.videos import write_video

MARK = "<!-- fleet: made by `python -m tests.fleet_cost` -->"
SIZE, RATE, SECONDS, ROUNDS = (720, 960), 25, 60, 5
WAYS = ("runtime.infer", "without Ray", "Ray, one worker")
ROOM = 1.25  # of the street frame, in which the film's moves
LIMIT_S = 3600.0  # of a command


class Moving(Sequence[np.ndarray]):
    """The street frame through a window that moves, made frame by frame."""

    def __init__(self, count: int) -> None:
        """So many frames."""
        self._count = count
        self._room = [round(side * (ROOM - 1) / 2) for side in SIZE]
        size = [side + 2 * room for side, room in zip(SIZE, self._room, strict=True)]
        self._whole = cv2.resize(read_frame(STREET), size[::-1], interpolation=cv2.INTER_CUBIC)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if index >= self._count:
            raise IndexError(index)
        high, wide = self._room
        top, left = round(high * (1 + sin(index / 40))), round(wide * (1 + cos(index / 55)))
        return np.ascontiguousarray(self._whole[top : top + SIZE[0], left : left + SIZE[1]])


def measured(engine: Path, seconds: int, rounds: int) -> dict[str, Any]:
    """Each way in every round, as JSON values."""
    ways: list[dict[str, Any]] = [{"name": name} for name in WAYS]
    with tempfile.TemporaryDirectory(prefix="fleet-cost-") as place:
        folder = Path(place)
        write_video(folder / "film.mp4", Moving(RATE * seconds), rate=RATE, key_every=50, extra={"preset": "veryfast"})
        log(f"a film of {seconds} s")
        for number in range(rounds):
            for way in ways if number % 2 else reversed(ways):
                for name, value in _round(way["name"], folder, f"{number}", engine, seconds).items():
                    way.setdefault(name, []).append(value)
    return {
        "what": "an hour of film: machine seconds of items, and all of the commands",
        "film": {"seconds": seconds, "rate": RATE, "size": list(SIZE), "frames": RATE * seconds},
        "rounds": rounds, "ways": ways,
    }  # fmt: skip


def _round(name: str, folder: Path, out: str, engine: Path, seconds: int) -> dict[str, float]:
    given, film = ("--engine", str(engine.resolve())), "film.mp4"
    infer, share, ray = (("-o", f"{out}-{way}") for way in ("infer", "share", "ray"))
    commands = {
        "runtime.infer": [(film, *infer, "--save", "ids", *given)],
        "without Ray": [("plan", film, *share), (*share, "--item", "1/1", *given), ("merge", *share)],
        "Ray, one worker": [(film, *ray, *given)],
    }[name]
    started, spent = time.perf_counter(), _processor_s()
    for words in commands:
        with running(folder, *words, module=f"runtime.{'infer' if name == WAYS[0] else 'fleet'}") as each:
            each.ended(limit_s=LIMIT_S)
    found = {"whole_s": round(time.perf_counter() - started, 1)}
    if not name.startswith("Ray"):  # whose workers are not our children
        found["processor_s"] = round(_processor_s() - spent, 1)
    if name != WAYS[0]:
        told = json.loads((folder / commands[-1][commands[-1].index("-o") + 1] / DOCUMENT).read_text())
        assert told["frames"] == RATE * seconds and not told["failed"], told
        found |= {name: told[name] for name in ("machine_seconds", "machine_seconds_per_video_hour")}
    log(f"{name}: {found}")
    return found


def _processor_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def over(found: dict[str, Any], way: dict[str, Any], first: str) -> float:
    """How many times as long a way takes as `runtime.infer`, start to end: the median of the rounds' own ratios.

    Args:
        found: the figures.
        way: one of its ways.
        first: what is taken of the way: "whole_s", or "machine_seconds", which leaves out what is done once.
    """
    return median(own / alone for own, alone in zip(way[first], found["ways"][0]["whole_s"], strict=True))


def as_markdown(found: dict[str, Any]) -> str:
    """The page's table."""
    film, engine = found["film"], found["engine"]
    threads = found["machine"]["threads"]
    size, network = ("x".join(map(str, each)) for each in (film["size"], engine["network_size"]))
    rows = []
    for way in found["ways"]:
        hour, own, whole, processor = (
            f"{median(way[name]):,.1f}" if name in way else ""
            for name in ("machine_seconds_per_video_hour", "machine_seconds", "whole_s", "processor_s")
        )
        rows.append(f"| {way['name']} | {hour} | {own} | {whole} | {over(found, way, 'whole_s'):.2f} | {processor} |")
    return "\n".join([
        f"{engine['model']} {engine['precision']} at {network}, on {found['machine']['cpu']}, "
        f"{threads} thread{'s' * (threads > 1)}; a film of {film['seconds']} s, {film['frames']} frames of {size}; "
        f"medians of {found['rounds']} rounds in turns, {found['measured']}.",
        "", "| | machine seconds an hour of film | of this film | from start to end, s | of `runtime.infer` "
        "| of a processor, s |",
        "|---|--:|--:|--:|--:|--:|", *rows, "",
        "`runtime.infer` is `open_lanes` between a reader and a writer. Of its time from start to end the items take "
        f"{over(found, found['ways'][1], 'machine_seconds'):.2f} without Ray, "
        f"{over(found, found['ways'][2], 'machine_seconds'):.2f} with it.",
    ])  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet_cost", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--seconds", type=count_from_text, default=SECONDS, help="of film (%(default)s)")
    parser.add_argument("--rounds", type=count_from_text, default=ROUNDS, help="(%(default)s)")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="whose table is written anew")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"command": command_line("tests.fleet_cost", argv), "measured": today()}
    found |= {"machine": machine(), "software": software()}
    found |= {"engine": engine_facts(options.engine, read_manifest(options.engine))}
    found |= measured(options.engine, options.seconds, options.rounds)
    write_atomically(options.json, f"{json.dumps(found, indent=1)}\n".encode())
    if options.page:
        rewrite(options.page, MARK, as_markdown(found))
    return DONE


if __name__ == "__main__":
    run(main)
