"""What Triton costs beside `open_lanes`: `python -m tests.triton_figures --engine FILE --json figures/triton.json`.

For the environment of `make test-triton`. Frames as pixels go through Triton, over gRPC and HTTP, and through the lanes
of a program by itself, in turns; all of it on loopback, where the clients take the same cores.
"""

import argparse
import json
import os
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from runtime.artifacts import write_atomically
from runtime.cli import DONE, count_from_text, lanes_from_text, log, run
from runtime.lanes import open_lanes
from runtime.manifest import read_manifest
from runtime.measure.bench.tables import rewrite
from runtime.measure.fingerprint import engine_facts, machine, software, today
from runtime.media.frames import png_from_pixels, read_frame
from runtime.samples import STREET
from runtime.triton.repository import add
from tests.helpers.serve_direct import cpu_s, direct, memory_mib, together_mib
from tests.helpers.tritonserver import Triton, triton

MARK = "<!-- triton: made by `python -m tests.triton_figures` -->"
CLIENTS, LONE = 4, 8  # at once; frames of a round, one after the other
WAYS = ("open_lanes", "grpc", "http")
EXPLICIT = ("--model-control-mode", "explicit", "--load-model", "street")
Segment = Callable[[np.ndarray], np.ndarray]


def measured(engine: Path, lanes: int, rounds: int, frames: int) -> dict[str, Any]:
    """All of it, as JSON values."""
    frame = read_frame(STREET)
    found: dict[str, Any] = {"machine": machine(), "software": software()}
    found |= {"engine": engine_facts(engine, read_manifest(engine)), "measured": today(), "lanes": lanes}
    found |= {"frame": list(frame.shape[:2]), "clients": CLIENTS, "rounds": rounds, "frames": frames}
    with TemporaryDirectory() as place, open_lanes(engine, lanes) as alone:
        add(Path(place) / "models", "street", engine, lanes)
        start = time.perf_counter()
        with triton(Path(place) / "models", Path(place), *EXPLICIT) as running:
            found["start_s"] = time.perf_counter() - start
            found |= {"triton": running.ask("GET", "/v2").values["version"]}
            ways: dict[str, Callable[[], Segment]] = {"open_lanes": lambda: alone.segment}
            ways |= {way: partial(client, running, way) for way in WAYS[1:]}
            want = alone.segment(frame)
            found["masks"] = {way: bool(np.array_equal(make()(frame), want)) for way, make in ways.items()}
            found["per_s"] = _rates(ways, frame, rounds, frames)
            found["cpu_ms"] = {way: _cpu_ms(running, make, frame, frames) for way, make in ways.items()}
            processes = running.processes()
            found["peak_mib"] = [memory_mib(pid, "VmHWM") for pid in processes]
            found["server_peak_mib"] = memory_mib(running.process.pid, "VmHWM")
            found["together_mib"] = together_mib([running.process.pid, *processes])
        found["direct_peak_mib"] = _direct_peak_mib(engine, lanes, Path(place), frames)
    return found


def _direct_peak_mib(engine: Path, lanes: int, folder: Path, frames: int) -> float:
    # Of a program with nothing but the lanes in it, given as many pictures by as many at once.
    picture = folder / "street.png"
    picture.write_bytes(png_from_pixels(read_frame(STREET)))
    with direct(engine, lanes, picture) as alone:
        alone.frames(frames, CLIENTS)
        return memory_mib(alone.pid, "VmHWM")


def client(running: Triton, way: str) -> Segment:
    """A client of its own over gRPC or HTTP."""
    own = import_module(f"tritonclient.{way}")
    opened = own.InferenceServerClient(f"127.0.0.1:{running.port if way == 'http' else running.grpc}")
    outputs = [own.InferRequestedOutput("mask")]

    def segment(frame: np.ndarray) -> np.ndarray:
        tensor = own.InferInput("frame", list(frame.shape), "UINT8")
        tensor.set_data_from_numpy(frame)
        mask: np.ndarray = opened.infer("street", [tensor], outputs=outputs).as_numpy("mask")
        return mask

    return segment


def _rates(ways: dict[str, Callable[[], Segment]], frame: np.ndarray, rounds: int, frames: int) -> dict[str, Any]:
    # Of every round each way, the order turned round with every second one; the first one is not counted.
    kinds = {"several": (CLIENTS, frames), "lone": (1, LONE)}
    found: dict[str, Any] = {kind: {way: [] for way in ways} for kind in kinds}
    for number in range(rounds + 1):
        for kind, (at_once, count) in kinds.items():
            for way in ways if number % 2 else reversed(ways):
                per_s = count / _seconds(ways[way], frame, at_once, count // at_once)
                if number:
                    found[kind][way].append(per_s)
    return found


def _seconds(make: Callable[[], Segment], frame: np.ndarray, at_once: int, each: int) -> float:
    # A client belongs to the thread that made it; each is connected, and has had an answer, when the clock starts.
    begun = threading.Barrier(at_once + 1)

    def ask(_: int) -> None:
        own = make()
        own(frame)
        begun.wait()
        for _ in range(each):
            own(frame)

    with ThreadPoolExecutor(at_once) as pool:
        asking = pool.map(ask, range(at_once))
        begun.wait()
        start = time.perf_counter()
        list(asking)
        return time.perf_counter() - start


def _cpu_ms(running: Triton, make: Callable[[], Segment], frame: np.ndarray, frames: int) -> dict[str, float]:
    # Processor time of a frame: of the measuring program, of the server, and of the model's processes.
    parts = {"program": [os.getpid()], "server": [running.process.pid], "model": running.processes()}
    before = {name: sum(map(cpu_s, pids)) for name, pids in parts.items()}
    _seconds(make, frame, CLIENTS, frames // CLIENTS)
    return {name: 1e3 * (sum(map(cpu_s, pids)) - before[name]) / (frames + CLIENTS) for name, pids in parts.items()}


def shares(found: dict[str, Any], kind: str, way: str) -> float:
    """How many frames a second a way does of what `open_lanes` does: the median of the rounds' own ratios."""
    per_s = found["per_s"][kind]
    return median(own / alone for own, alone in zip(per_s[way], per_s["open_lanes"], strict=True))


def as_markdown(found: dict[str, Any]) -> str:
    """The page's table."""
    rows = []
    for way, name in zip(WAYS, ("`open_lanes`", "Triton, gRPC", "Triton, HTTP"), strict=True):
        several, lone = (median(found["per_s"][kind][way]) for kind in ("several", "lone"))
        told = f"{several:.1f} | {shares(found, 'several', way):.1%} | {1e3 / lone:.1f}"
        rows.append(f"| {name} | {told} | {sum(found['cpu_ms'][way].values()):.1f} |")
    cpu = found["cpu_ms"]["grpc"]
    engine, size = found["engine"], "x".join(map(str, found["engine"]["network_size"]))
    return "\n".join([
        f"{engine['model']} {engine['precision']} at {size}, {found['lanes']} lanes, on {found['machine']['cpu']}, "
        f"{found['machine']['threads']} threads; frames of {'x'.join(map(str, found['frame']))} as pixels; Triton "
        f"{found['triton']}; medians of {found['rounds']} rounds in turns, {found['measured']}.",
        "", f"| | frames a second, {found['clients']} clients | of `open_lanes` | ms a frame, one client "
        "| processor ms a frame |",
        "|---|---|---|---|---|", *rows, "",
        f"Over gRPC {cpu['model']:.1f} ms of these are the model's processes', {cpu['server']:.1f} Triton's, "
        f"{cpu['program']:.1f} the clients'. The {len(found['peak_mib'])} processes of the model took at most "
        f"{' and '.join(f'{each:.0f}' for each in found['peak_mib'])} MiB, Triton itself "
        f"{found['server_peak_mib']:.0f}; together they hold {found['together_mib']:.0f}, pages that they share "
        f"counted once. A program of `open_lanes` took at most {found['direct_peak_mib']:.0f}.",
    ])  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.triton_figures", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--lanes", type=lanes_from_text, default=2)
    parser.add_argument("--rounds", type=count_from_text, default=8)
    parser.add_argument("--frames", type=count_from_text, default=40, help="of a round")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="whose table is written anew")
    options = parser.parse_args(argv)
    found = measured(options.engine, options.lanes, options.rounds, options.frames)
    found["command"] = shlex.join(["python", "-m", "tests.triton_figures", *argv])
    write_atomically(options.json, json.dumps(found, indent=1).encode())
    if options.page:
        rewrite(options.page, MARK, as_markdown(found))
    log(f"{options.json}: written")
    return DONE


if __name__ == "__main__":
    run(main)
