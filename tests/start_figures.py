"""The first mask of a process: `python -m tests.start_figures --engine FILE --json figures/start-NAME.json`, a minute.

Each way starts a process that writes one frame's masks, in turns with the others, on a disk that has read everything
once, bytecode of this project too, whatever PYTHONDONTWRITEBYTECODE says. A file's time is when it was written, from
the moment before the process was started.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from runtime.artifacts import write_atomically
from runtime.cli import DONE, count_from_text, run, show
from runtime.manifest import read_manifest
from runtime.measure.bench.tables import rewrite
from runtime.measure.fingerprint import engine_facts, machine, software, today
from runtime.measure.rounds import take_turns, turns
from runtime.media.frames import read_frame
from runtime.media.recording import VideoWriter
from runtime.reference import resize_frame
from runtime.samples import STREET

MARK = "<!-- start: made by `python -m tests.start_figures` -->"
SIZE = (1024, 2048)
API = """
import sys, runtime
engine, picture, mask = sys.argv[1:]
with runtime.open_backend(engine) as segmenter:
    segmenter.segment(runtime.read_frame(picture)).tofile(mask)
"""


def commands(engine: Path, folder: Path) -> dict[str, list[str]]:
    """Each way as a command that writes into `folder / "out"`."""
    python, rest = sys.executable, ["-o", str(folder / "out"), "--engine", str(engine)]
    infer, picture = [python, "-m", "runtime.infer"], str(folder / "street.jpg")
    saves = {"ids": "ids", "colours": "color", "overlay": "overlay", "all three": "ids,color,overlay"}
    ways = {f"`runtime.infer`, {name}": [*infer, picture, *rest, "--save", kinds] for name, kinds in saves.items()}
    jpeg = ["--save", "overlay", "--overlay-format", "jpeg"]
    return {
        **ways,
        "`runtime.infer`, overlay as JPEG": [*infer, picture, *rest, *jpeg],
        "`runtime.infer`, a film of one frame": [*infer, str(folder / "street.mp4"), *rest],
        "`streetseg infer`, ids": [python, "-m", "streetseg", "infer", picture, *rest, "--save", "ids"],
        "`open_backend`, `segment`": [python, "-c", API, str(engine), picture, str(folder / "out" / "mask")],
    }


def first_files(command: Sequence[str], out: Path, kept: dict[str, list[float]]) -> float:
    """Run it; milliseconds to the last of its files, and to its end."""
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    before_s, start_ns = _children_s(), time.time_ns()
    subprocess.run(command, check=True, capture_output=True, env=environment(out.parent))
    end_ns = time.time_ns()
    kept["cpu_ms"].append((_children_s() - before_s) * 1e3)
    written = [path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith("run")]
    kept["file_ms"].append((max(written) - start_ns) / 1e6)
    kept["end_ms"].append((end_ns - start_ns) / 1e6)
    return kept["end_ms"][-1]


def environment(folder: Path) -> dict[str, str]:
    """That of this process, but that Python keeps its bytecode, as it does for a user: in a folder that goes again."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_inputs(folder: Path, frame: np.ndarray) -> None:
    """The frame as a JPEG, and as a film of itself."""
    cv2.imwrite(str(folder / "street.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    with VideoWriter(folder / "street.mp4", frame, Fraction(25), Fraction(1, 25)) as video:
        video.write(frame, 0)


def measured(engine: Path, rounds: int, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """All of it, as JSON values."""
    found: dict[str, Any] = {"machine": machine(), "software": software(), "measured": today(), "rounds": rounds}
    found |= {"engine": engine_facts(engine, read_manifest(engine)), "frame_size": list(size), "ways": {}}
    calls: list[Callable[[], float]] = []
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_inputs(folder, resize_frame(read_frame(STREET), *size))
        for name, command in commands(engine.resolve(), folder).items():
            kept: dict[str, list[float]] = {"file_ms": [], "end_ms": [], "cpu_ms": []}
            first_files(command, folder / "out", {"file_ms": [], "end_ms": [], "cpu_ms": []})
            found["ways"][name] = kept
            calls.append(partial(first_files, command, folder / "out", kept))
        take_turns(calls, turns(np.random.default_rng(0), rounds, 1, len(calls)))
    return found


def as_markdown(found: dict[str, Any]) -> str:
    """Each way's least times as a table: what a machine that others use adds is theirs."""
    lines = ["| first frame of a process | to its files, s | to its end, s | of processors, s |", "|---|---|---|---|"]
    for name, way in found["ways"].items():
        times = " | ".join(f"{min(way[each]) / 1e3:.2f}" for each in ("file_ms", "end_ms", "cpu_ms"))
        lines.append(f"| {name} | {times} |")
    engine, (height, width) = found["engine"], found["frame_size"]
    told = f"{engine['model']} {engine['precision']} on {engine['backend']}, a JPEG of {height}x{width}; the least of "
    told += f"{found['rounds']} rounds in turns; {found['machine']['cpu']}, {found['machine']['threads']} threads, "
    return "\n".join([*lines, "", f"{told}{found['measured']}."])


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.start_figures", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--rounds", type=count_from_text, default=6)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="whose table is written anew")
    options = parser.parse_args(argv)
    found = measured(options.engine, options.rounds)
    found["command"] = shlex.join(["python", "-m", "tests.start_figures", *argv])
    write_atomically(options.json, json.dumps(found, indent=1).encode())
    if options.page:
        rewrite(options.page, MARK, as_markdown(found))
    show(as_markdown(found))
    return DONE


if __name__ == "__main__":
    run(main)
