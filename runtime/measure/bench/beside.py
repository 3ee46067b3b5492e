"""One engine beside everything that one would use instead, with accuracy beside time, and the floor of the same run.

`python -m runtime.bench_rivals --engine ENGINE --plain ENGINE --json FILE`; `make rivals` builds all that it takes.
With `--page docs/benchmarks.md FILE...` the tables of such files are written between its two marks instead.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.accuracy.datasets import DATASETS, Dataset, Pair, open_dataset
from runtime.accuracy.metrics import mean_iou
from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, add_threads, count_from_text, show, size_from_text
from runtime.errors import EngineError
from runtime.fit import add_fit
from runtime.manifest import read_manifest
from runtime.measure.bench.latency import FRAME_SIZE
from runtime.measure.bench.peer_tables import BEGIN, VERSION, read_document, table
from runtime.measure.bench.tables import rewrite
from runtime.measure.documents import encoded
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.peer_documents import Peers
from runtime.measure.peer_turns import ROOF, Labelled, Turn, measure
from runtime.measure.peers import FP32_MASK, NNCF, PEERS, Files, computed_in, jobs, libraries
from runtime.measure.rivals import plain_graph
from runtime.measure.roof import floor_ms, gmac_of, reached
from runtime.measure.rounds import percentiles
from runtime.measure.worker import ENGINE, Job
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.threads import for_command


def main(argv: Sequence[str]) -> int:
    """Measure, or write the page's tables of what was measured.

    Raises:
        PipelineError: an engine cannot be opened, the data set is not as it must be, or a file cannot be written.
    """
    options = _options(argv)
    if options.page:
        rewrite(options.page, BEGIN, "\n\n".join(table(read_document(path)) for path in options.documents))
        return DONE
    with for_command(options.threads):
        return _measured(options, argv)


def _measured(options: argparse.Namespace, argv: Sequence[str]) -> int:
    manifest = read_manifest(options.engine)
    labelled, accuracy = _labelled(options, [label.name for label in manifest.spec.classes])
    frame = resize_frame(read_frame(options.frame), *options.frame_size)
    gmac = gmac_of(options.graph.read_bytes() if options.graph else plain_graph(options.plain)[0])
    given = Files(options.engine, options.plain, options.torch, options.nncf, options.onnxruntime_int8, options.python)
    paths = {name: job for name, job in jobs(given, options.fit).items() if name in (ENGINE, *options.against)}
    before = load()
    found, samples = measure(
        {**paths, ROOF: Job(ROOF, (options.plain,))}, frame, options.rounds, options.warmup, labelled
    )
    document = {
        "version": VERSION,
        "fingerprint": fingerprint(
            options.engine, manifest, frame.shape[:2], command_line("runtime.bench_rivals", argv)
        ),
        "libraries": libraries(options.python),
        "rounds": options.rounds,
        "warmup": options.warmup,
        "load": {"before": before, "after": load()},
        "gmac": gmac,
        "accuracy": accuracy,
        **figures(found, samples, gmac, _executed(given)),
    }
    document["failed"] |= _not_there(options, paths)
    if options.json:
        write_atomically(options.json, encoded(document, Peers))
    show(table(document))
    return DONE


def figures(
    found: Mapping[str, Turn], samples: np.ndarray, gmac: float, executed: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """What a document says of the paths, and of what this CPU's convolutions reach.

    Args:
        found: what `measure` gave.
        samples: float64 (paths, rounds) ms.
        gmac: of a frame.
        executed: layers by type, of the paths that say so.
    """
    per_s = reached(found[ROOF].stages_ms)
    by_round = [reached([stages]) for stages in found[ROOF].stages_ms]
    rows = {name: samples[i] for i, name in enumerate(found)}
    paths = {}
    for name, turn in found.items():
        if name == ROOF or turn.failed:
            continue
        kind = computed_in(name, executed.get(name, {}), per_s)
        paths[name] = {
            **_times(rows[name], turn.stages_ms),
            "peak_mib": turn.peak_mib,
            "precision": kind,
            "times_slower": float(np.median(rows[name] / rows[ENGINE])),
            "times_floor": _over_floor(rows[name], [floor_ms(gmac, of[kind]) for of in by_round if kind in of]),
            "same_as_fp32": _same(turn, found.get(FP32_MASK)),
            "miou": None if turn.matrix is None else _share(mean_iou(turn.matrix)),
        }
    failed = {name: " ".join(turn.failed.split())[:300] for name, turn in found.items() if turn.failed}
    return {"reached": per_s, "reached_by_round": by_round, "paths": paths, "failed": failed}


def _over_floor(samples_ms: np.ndarray, floors_ms: Sequence[float]) -> float | None:
    # In the round that both were measured in: what slows a machine for a while slows both.
    return float(np.median(samples_ms / np.array(floors_ms))) if floors_ms else None


def _times(samples_ms: np.ndarray, stages: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "samples_ms": samples_ms.tolist(),
        "percentiles_ms": percentiles(samples_ms),
        "stages_ms": {name: percentiles(np.array([frame[name] for frame in stages])) for name in stages[0]},
    }


def _same(turn: Turn, fp32: Turn | None) -> float | None:
    if fp32 is None or fp32.mask is None or turn.mask is None:
        return None
    return float((turn.mask == fp32.mask).mean())


def _share(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _executed(files: Files) -> dict[str, dict[str, int]]:
    given = {ENGINE: files.engine, NNCF: files.nncf}
    return {name: dict(read_manifest(path).executed) for name, path in given.items() if path}


def _not_there(options: argparse.Namespace, paths: Mapping[str, Job]) -> dict[str, str]:
    # Why a peer that was asked for has nothing to open.
    said = dict(options.missing)
    return {name: said.get(name, "its file was not given") for name in options.against if name not in paths}


def _labelled(options: argparse.Namespace, classes: Sequence[str]) -> tuple[Labelled | None, dict[str, Any] | None]:
    if not options.data:
        return None, None
    dataset = open_dataset(options.dataset, options.data)
    _refuse_other_classes(dataset, classes)
    pairs = dataset.pairs(options.split)
    chosen = spread(pairs, options.frames)
    told = {
        "dataset": dataset.name, "split": options.split, "frames": len(chosen), "frames_in_split": len(pairs),
    }  # fmt: skip
    return Labelled(chosen, len(classes)), told


def spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """So many of them, or all, evenly over their order: frames beside each other show the same street."""
    count = min(count, len(pairs))
    return [pairs[i * len(pairs) // count] for i in range(count)]


def _refuse_other_classes(dataset: Dataset, classes: Sequence[str]) -> None:
    if [label.name for label in dataset.classes] != list(classes):
        raise EngineError(
            f"the engine has {len(classes)} classes, {dataset.name} has {len(dataset.classes)}, or of other names; "
            "leave DATA out, or build an engine of its classes"
        )


def _missing_from_text(text: str) -> tuple[str, str]:
    name, _, why = text.partition("=")
    why = why.removeprefix("error: ")
    if name not in PEERS or not why.strip():
        raise argparse.ArgumentTypeError(f"{text!r:.60} is no NAME=REASON of {', '.join(PEERS)}")
    return name, " ".join(why.split())[:300]


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m runtime.bench_rivals", description=__doc__)
    add = parser.add_argument
    add("documents", type=Path, nargs="*", metavar="FILE", help="with --page: what --json wrote")
    add("--page", type=Path, help="write the tables of the files into it, and measure nothing")
    add("--engine", type=Path, help="the engine")
    add("--plain", type=Path, metavar="ENGINE", help="a plain FP32 graph's engine on onnxruntime")
    add("--graph", type=Path, metavar="FILE", help="the FP32 graph whose multiplications are counted (the plain one)")
    add("--torch", type=Path, metavar="FILE", help="what python -m export.to_torch wrote")
    add("--nncf", type=Path, metavar="ENGINE", help="what python -m engines.nncf_engine wrote")
    add("--onnxruntime-int8", type=Path, metavar="ENGINE", help="what python -m engines.onnxruntime_int8 wrote")
    add("--python", type=Path, help="the Python whose environment has MNN and ncnn")
    add(
        "--missing",
        type=_missing_from_text,
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="why one is not there",
    )
    add("--against", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=f"of {', '.join(PEERS)} (all)")
    add("--dataset", default="camvid", help=f"one of {', '.join(DATASETS)} (default: %(default)s)")
    add("--data", type=Path, help="the data set's folder, for mIoU")
    add("--split", default="val", help="default: %(default)s")
    add("--frames", type=count_from_text, default=12, help="labelled frames, spread over the split (%(default)s)")
    add("--rounds", type=count_from_text, default=12, help="timed frames of each path (%(default)s)")
    add("--warmup", type=count_from_text, default=2, help="frames before them (%(default)s)")
    add("--frame", type=Path, default=STREET, help="an image (the bundled street)")
    add("--frame-size", type=size_from_text, default=FRAME_SIZE, help="it is brought to (1024x2048)")
    add_fit(parser)
    add_threads(parser)
    add("--json", type=Path, metavar="FILE", help="everything, raw samples and fingerprint too")
    options = parser.parse_args(argv)
    if bool(options.documents) != bool(options.page):
        parser.error("FILE... and --page go together")
    if not options.page and not (options.engine and options.plain):
        parser.error("--engine and --plain are needed")
    return options
