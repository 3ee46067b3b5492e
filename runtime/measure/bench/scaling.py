"""How time, throughput and memory of one network grow: with threads, and with the pixels of its input.

`python -m runtime.bench_scaling --engine ENGINE --sizes ENGINE... --json FILE`; `make scaling` builds all of them, and
`make report` draws what it wrote. Each engine is in a process of its own, and all take turns.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, count_from_text, log, show, threads_from_text
from runtime.errors import EngineError
from runtime.lookup import chosen_engine
from runtime.manifest import read_manifest
from runtime.measure.documents import encoded, read
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.peer_documents import Scaling
from runtime.measure.rounds import percentiles, take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import ENGINE, Job, Worker, warm_up
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.threads import count, limited, usable

VERSION = 1  # of the JSON document
MOST_IN_FLIGHT = 16  # of throughput; each frame has buffers of its own
COLUMNS = "threads", "size", "p50 ms", "p90", "frames a second", "in flight", "peak MiB"


class Case(NamedTuple):
    """An engine with so many threads."""

    engine: Path
    threads: int
    size: tuple[int, int]  # of the network's input, and of the frame


def powers(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    return sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most})


def measure(cases: Sequence[Case], frame: np.ndarray, rounds: int, warmup: int) -> list[dict[str, Any]]:
    """Every case on the frame brought to its size, taking turns; then the throughput of each.

    Args:
        cases: each in a process of its own.
        frame: uint8 (H, W, 3) RGB.
        rounds: timed frames of each.
        warmup: frames before them.

    Returns:
        JSON values, `runtime.measure.peer_documents.Scaled`, in the cases' order.

    Raises:
        EngineError: one of them cannot be opened.
    """
    with scratch() as folder, ExitStack() as stack:
        workers = [stack.enter_context(_opened(case, frame, folder)) for case in cases]
        warm_up(workers, warmup)
        log(f"measuring {rounds} rounds of {len(cases)} cases")
        order = turns(np.random.default_rng(0), rounds, 1, len(cases))
        samples = take_turns([worker.frame_ms for worker in workers], order)[:, :, 0]
        peaks = [worker.ask(do="peak").mib for worker in workers]  # before several frames are in flight
        flights = [min(case.threads, MOST_IN_FLIGHT) for case in cases]
        rates = [
            worker.ask(do="throughput", frames=rounds, in_flight=flight).frames_per_s
            for worker, flight in zip(workers, flights, strict=True)
        ]
    return [
        {
            "threads": case.threads, "size": list(case.size), "samples_ms": samples[i].tolist(),
            "percentiles_ms": percentiles(samples[i]), "peak_mib": peaks[i], "frames_per_s": rates[i],
            "in_flight": flights[i],
        }
        for i, case in enumerate(cases)
    ]  # fmt: skip


def _opened(case: Case, frame: np.ndarray, folder: Path) -> Worker:
    path = folder / f"{case.size[0]}x{case.size[1]}.npy"
    np.save(path, resize_frame(frame, *case.size))
    log(f"opening {case.engine.name} with {case.threads} threads")
    with limited(case.threads):
        return Worker(Job(ENGINE, (case.engine,)), path)


def table(document: dict[str, Any]) -> str:
    """A row a case, as text for people."""
    lines = ["".join(f"{name:>17}" for name in COLUMNS)]
    for found in (*document["threads"], *document["sizes"]):
        times = found["percentiles_ms"]
        cells = [
            str(found["threads"]), "x".join(map(str, found["size"])), f"{times['p50']:.1f}", f"{times['p90']:.1f}",
            f"{found['frames_per_s']:.1f}", str(found["in_flight"]), f"{found['peak_mib']:.0f}",
        ]  # fmt: skip
        lines.append("".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def read_document(path: Path) -> dict[str, Any]:
    """A document that `--json` wrote; see `runtime.measure.documents.read`."""
    return read(path, Scaling, "runtime.bench_scaling", VERSION)


def main(argv: Sequence[str]) -> int:
    """Measure what `argv` names.

    Raises:
        PipelineError: an engine cannot be opened, they are of several networks, or a file cannot be written.
    """
    options = _parser().parse_args(argv)
    engine = options.engine or chosen_engine()
    by_threads, by_size = cases_of(engine, options.sizes, options.threads or powers(usable()))
    cases = list(dict.fromkeys([*by_threads, *by_size]))
    before = load()
    found = dict(zip(cases, measure(cases, read_frame(options.frame), options.rounds, options.warmup), strict=True))
    document = {
        "version": VERSION,
        "fingerprint": fingerprint(
            engine, read_manifest(engine), by_threads[0].size, command_line("runtime.bench_scaling", argv)
        ),
        "rounds": options.rounds,
        "warmup": options.warmup,
        "load": {"before": before, "after": load()},
        "threads": [found[case] for case in by_threads],
        "sizes": [found[case] for case in by_size],
    }
    if options.json:
        write_atomically(options.json, encoded(document, Scaling))
    show(table(document))
    return DONE


def cases_of(engine: Path, sizes: Sequence[Path], threads: Sequence[int]) -> tuple[list[Case], list[Case]]:
    """The engine with each number of threads; and it and the engines of other sizes with all, the smallest first.

    Raises:
        EngineError: they are not of one network and precision.
    """
    manifests = {path: read_manifest(path) for path in dict.fromkeys([engine, *sizes])}
    kinds = sorted({(m.spec.name, m.precision, m.backend) for m in manifests.values()})
    if len(kinds) > 1:
        told = ", ".join(" ".join(kind) for kind in kinds)
        raise EngineError(f"the engines are of {told}; give engines of one network, precision and library")
    places = {path: (m.spec.preprocess.height, m.spec.preprocess.width) for path, m in manifests.items()}
    by_threads = [Case(engine, number, places[engine]) for number in dict.fromkeys(threads)]
    by_size = [Case(path, count(), size) for path, size in places.items()]
    return by_threads, sorted(by_size, key=lambda case: case.size[0] * case.size[1])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.bench_scaling", description=__doc__)
    add = parser.add_argument
    add("--engine", type=Path, help="the engine (by default the newest of this machine)")
    add("--sizes", type=Path, nargs="*", default=[], metavar="ENGINE", help="the same network at other sizes")
    add("--threads", type=threads_from_text, nargs="+", metavar="N", help="how many (1, 2, 4 ... all of this process)")
    add("--rounds", type=count_from_text, default=15, help="timed frames of each (%(default)s)")
    add("--warmup", type=count_from_text, default=2, help="frames before them (%(default)s)")
    add("--frame", type=Path, default=STREET, help="an image (the bundled street)")
    add("--json", type=Path, metavar="FILE", help="everything, raw samples and fingerprint too")
    return parser
