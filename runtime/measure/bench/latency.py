"""Frame in memory to mask in memory, by stage and in total, beside what one would use instead; interleaved.

`python -m runtime.bench --engine ENGINE [--plain ENGINE] [--torch FILE]`; `make bench` builds all of them.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, add_threads, count_from_text, lanes_from_text, log, show, size_from_text
from runtime.fit import add_fit
from runtime.lookup import chosen_engine
from runtime.manifest import read_manifest
from runtime.measure import clocks
from runtime.measure.bench import kernels
from runtime.measure.bench.tables import VERSION, as_text
from runtime.measure.documents import Bench, Kernels, encoded
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.rivals import RIVALS
from runtime.measure.rounds import percentiles, take_turns, turns
from runtime.measure.scratch import scratch
from runtime.measure.worker import ENGINE, PATIENCE_S, Job, Worker, mask_of, warm_up
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.signature import add_require_signed, refuse_unsigned
from runtime.threads import for_command

FRAME_SIZE = (1024, 2048)  # the size that the project's figures are quoted at
OF_TORCH = ("torch", "torch-compile", "torch-cuda-graph")  # rivals that take a torch program, the others a plain graph
DEFAULT_RIVALS = ("onnxruntime", "openvino", "torch", "torch-compile")


def measure(
    jobs: dict[str, Job], frame: np.ndarray, rounds: int, warmup: int, in_flight: int, lead_ms: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Every path on one frame, taking turns.

    Args:
        jobs: by name; "engine" is the one that the others are compared with.
        frame: uint8 (H, W, 3) RGB.
        rounds: timed frames of each path.
        warmup: frames before them, not timed.
        in_flight: how many frames the throughput of the engine is measured with at once.
        lead_ms: for so long each path does frames before one that is timed.

    Returns:
        JSON values: for each path its samples and percentiles in total and by stage, memory, and agreement of masks;
        and with a lead the GPU's clocks under load of the engine.
    """
    with scratch() as folder, ExitStack() as stack:
        np.save(frame_path := folder / "frame.npy", frame)
        workers = {}
        for name, job in jobs.items():
            log(f"opening {name}; a process that is silent for {PATIENCE_S:.0f} s ends it")
            workers[name] = stack.enter_context(Worker(job, frame_path))
        masks = {name: mask_of(worker, folder) for name, worker in workers.items()}
        for worker in workers.values():
            worker.lead_ms = lead_ms
        warm_up(list(workers.values()), warmup)
        log(f"measuring {rounds} rounds of {', '.join(workers)}")
        stages: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        calls = [_frame_and_stages(worker, stages[name]) for name, worker in workers.items()]
        samples = take_turns(calls, turns(np.random.default_rng(0), rounds, 1, len(calls)))[:, :, 0]
        found = {name: _path(samples[i], stages[name]) for i, name in enumerate(workers)}
        for i, (name, worker) in enumerate(workers.items()):
            found[name]["peak_mib"] = worker.ask(do="peak").mib
            found[name]["mask_agreement"] = float((masks[name] == masks[ENGINE]).mean())
            found[name]["times_slower"] = float(np.median(samples[i] / samples[0]))
        busy = partial(workers[ENGINE].ask, do="busy", seconds=clocks.LOAD_S)
        read = clocks.under_load(busy) if lead_ms else None
        per_s = workers[ENGINE].ask(do="throughput", frames=rounds, in_flight=in_flight).frames_per_s
    found[ENGINE]["throughput"] = {"in_flight": in_flight, "frames_per_s": per_s, "frames": in_flight * rounds}
    return found, read


def main(argv: Sequence[str]) -> int:
    """Measure what `argv` names.

    Raises:
        PipelineError: an engine or a rival cannot be opened, or a file not be written.
    """
    options = _options(argv)
    with for_command(options.threads):
        return _measured(options, argv)


def _measured(options: argparse.Namespace, argv: Sequence[str]) -> int:
    engine = options.engine or chosen_engine()
    if options.require_signed:
        refuse_unsigned(engine, read_manifest(engine), options.require_signed)
    frame = resize_frame(read_frame(options.frame), *options.frame_size)
    if options.kernels:
        found = kernels.measure(engine, frame, options.rounds)
        show(kernels.as_text(found))
        if options.json:
            kept = {"version": VERSION, "fingerprint": _fingerprint(engine, frame, argv), "kernels": found}
            write_atomically(options.json, encoded(kept, Kernels))
        return DONE
    before, backend = load(), read_manifest(engine).backend
    counts = options.rounds, options.warmup, options.in_flight
    with clocks.locked(options.lock_clocks):
        paths, read = measure(_jobs(engine, options), frame, *counts, clocks.lead_ms(backend))
    document = {
        "version": VERSION,
        "fingerprint": _fingerprint(engine, frame, argv),
        "rounds": options.rounds,
        "warmup": options.warmup,
        "load": {"before": before, "after": load()},
        "clocks": clocks.document(backend, options.lock_clocks, read),
        "paths": paths,
    }
    if options.json:
        write_atomically(options.json, encoded(document, Bench))
    show(as_text(document))
    return DONE


def _fingerprint(engine: Path, frame: np.ndarray, argv: Sequence[str]) -> Any:
    return fingerprint(engine, read_manifest(engine), frame.shape[:2], command_line("runtime.bench", argv))


def _jobs(engine: Path, options: argparse.Namespace) -> dict[str, Job]:
    jobs = {ENGINE: Job(ENGINE, (engine,), fit=options.fit)}
    for kind in options.against:
        jobs[kind] = Job(kind, (options.torch if kind in OF_TORCH else options.plain,), fit=options.fit)
    return jobs


def _frame_and_stages(worker: Worker, stages: list[dict[str, float]]) -> Callable[[], float]:
    def call() -> float:
        answer = worker.timed()
        stages.append(answer.stages_ms)
        return answer.ms

    return call


def _path(samples_ms: np.ndarray, stages: list[dict[str, float]]) -> dict[str, Any]:
    by_stage = {name: np.array([frame[name] for frame in stages]) for name in stages[0]}
    return {
        "samples_ms": samples_ms.tolist(),
        "percentiles_ms": percentiles(samples_ms),
        "stages_samples_ms": {name: values.tolist() for name, values in by_stage.items()},
        "stages_ms": {name: percentiles(values) for name, values in by_stage.items()},
    }


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.against is None:
        given = [kind for kind in DEFAULT_RIVALS if (options.torch if kind in OF_TORCH else options.plain)]
        options.against = given
    for kind in options.against:
        if (options.torch if kind in OF_TORCH else options.plain) is None:
            parser.error(f"--against {kind} wants {'--torch FILE' if kind in OF_TORCH else '--plain ENGINE'}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.bench", description=__doc__)
    parser.add_argument("--engine", type=Path, help="the engine (by default the newest of this machine)")
    add_require_signed(parser)
    parser.add_argument("--plain", type=Path, metavar="ENGINE", help="a plain FP32 graph's engine on onnxruntime")
    parser.add_argument("--torch", type=Path, metavar="FILE", help="what python -m export.to_torch wrote")
    parser.add_argument(
        "--against", nargs="*", choices=RIVALS, metavar="RIVAL", help=f"of {', '.join(RIVALS)} (those of a CPU)"
    )
    parser.add_argument("--rounds", type=count_from_text, default=20, help="timed frames of each path (%(default)s)")
    parser.add_argument("--warmup", type=count_from_text, default=3, help="frames before them (%(default)s)")
    parser.add_argument(
        "--in-flight", type=lanes_from_text, default=2, help="frames at once, for throughput (%(default)s)"
    )
    parser.add_argument("--frame", type=Path, default=STREET, help="an image (the bundled street)")
    parser.add_argument("--frame-size", type=size_from_text, default=FRAME_SIZE, help="it is brought to (1024x2048)")
    add_fit(parser)
    clocks.add_lock(parser)
    add_threads(parser)
    parser.add_argument("--kernels", action="store_true", help="only the kernels before and after the network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, raw samples and fingerprint too")
    return parser
