"""What adopted files are worth: `python -m tests.adopted_table FOLDER... --frames DIR --json figures/adopted.json`.

Each ONNX file of the folders, with a JSON beside it that says how it is taken: adopted, quantized, built for OpenVINO
and onnxruntime, by TensorRT-RTX where it is installed, and timed in turns beside OpenVINO as it comes. A file that is
measured already is left alone, so that a run that was stopped goes on.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calib import qdq, ranges, sample
from calib.graphs import load_graph
from calib.likeness import correlation
from engines import tensorrt_build
from engines.build import build_engine
from engines.proof import referee_of
from export import adopt
from export.adopting.options import Asked, Given
from export.adopting.source import read_source
from runtime.artifacts import ARTIFACTS, write_atomically
from runtime.backend import open_backend
from runtime.cli import DONE, count_from_text, log, run, show, size_from_text
from runtime.errors import EngineError, PipelineError
from runtime.measure.bench.latency import measure
from runtime.measure.bench.tables import rewrite
from runtime.measure.fingerprint import machine, software, today
from runtime.measure.worker import ENGINE, Job
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.spec import Precision
from runtime.threads import count

MARK = "<!-- adopted: made by `python -m tests.adopted_table` -->"
FRAMES = 32  # of the calibration
SIZE = (256, 512)
HEADS = ("file", "MB", "CPU s", "FP32 masks", "FP16", "INT8", "left", "OpenVINO FP16", "OpenVINO INT8",
         "as it comes, ms", "FP16 takes", "INT8 takes", "TensorRT-RTX")  # fmt: skip


def asked_beside(path: Path) -> Asked:
    """How a file is taken: by the JSON of options beside it, or by one that tells its formula."""
    told = json.loads(path.with_suffix(".json").read_text())
    if isinstance(own := told["preprocess"], str):
        return Asked(size=size_from_text(told["size"]), given=Given(own), output=told.get("output"))
    size = (int(own["resize_to"][0]), int(own["resize_to"][1]))
    if own["inside_graph"]:
        return Asked(size=size, given=Given(order=own["channel_order"]))
    numbers = own["scale"], tuple(own["mean"]), tuple(own["std"])
    return Asked(size=size, given=Given(None, *numbers, own["channel_order"]))


def measured(path: Path, frames: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """The figures of one file; correlations are of the bundled street frame's logits."""
    asked = asked_beside(path)
    start = time.process_time()
    made = adopt.adopted(read_source(path), asked)
    found = {
        "file": path.stem,
        "mb": sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")) / 1e6,
        "cpu_s": time.process_time() - start,
    }
    found["masks"] = dict(made.found)["checked"].split()[0]
    graphs = {kind: adopt.adopt(path, asked._replace(precision=kind), folder / "onnx") for kind in ("fp32", "fp16")}
    taken = sample.sample_frames(frames, FRAMES, 0, few=True)
    table = ranges.calibrate(graphs["fp32"], taken, 0, "mse", folder / "calib")
    graphs["int8"] = qdq.quantized_graph(graphs["fp16"], table)
    entries = {entry.key: entry.value for entry in onnx.load(graphs["int8"]).metadata_props}
    found["left"] = len(json.loads(entries[qdq.PROPERTY])["float_layers"])
    frame = read_frame(STREET)
    logits = {kind: logits_of(graph, kind, frame) for kind, graph in graphs.items()}
    engines = {kind: built(graphs[kind], kind, folder / "engines", found) for kind in ("fp16", "int8")}
    for kind, engine in engines.items():
        found[kind] = correlation([logits["fp32"]], [logits[kind]])
        with open_backend(engine) as ours:
            found[f"openvino_{kind}"] = correlation([logits[kind]], [ours.logits(frame)])
    found["tensorrt_rtx"] = {kind: built_by_rtx(graph, kind) for kind, graph in graphs.items()}
    plain = build_engine(graphs["fp32"], "fp32", "onnxruntime", folder / "plain")
    return found | timed(engines, plain, resize_frame(frame, *SIZE), rounds)


def built(graph: Path, precision: Precision, folder: Path, found: dict[str, Any]) -> Path:
    """OpenVINO's engine; where its proof refuses it that is noted in `found`, and it is measured all the same."""
    try:
        return build_engine(graph, precision, "openvino", folder)
    except EngineError as error:
        found[f"refused_{precision}"] = str(error)
        return build_engine(graph, precision, "openvino", folder, prove=False)


def logits_of(graph: Path, precision: Precision, frame: np.ndarray) -> np.ndarray:
    """Of a graph on the referee."""
    model, spec = load_graph(graph, precision)
    with referee_of(model.SerializeToString(), spec, precision) as referee:
        return referee.logits(frame)


def built_by_rtx(graph: Path, precision: Precision) -> dict[str, int] | str:
    """The types of the layers of TensorRT-RTX's engine, which is built without a GPU, or why there is none."""
    model, spec = load_graph(graph, precision)
    try:
        return tensorrt_build.build(model.SerializeToString(), spec, precision, "tensorrt-rtx").executed
    except PipelineError as error:
        return str(error)


def timed(engines: dict[str, Path], plain: Path, frame: np.ndarray, rounds: int) -> dict[str, Any]:
    """Milliseconds in turns, and what share of OpenVINO's as it comes ours take: the median of the rounds' ratios."""
    jobs = {name: Job(ENGINE, (engine,)) for name, engine in engines.items()}
    first = next(iter(jobs))
    paths, _ = measure({ENGINE: jobs.pop(first), **jobs, "openvino": Job("openvino", (plain,))}, frame, rounds, 3, 1)
    samples = {first if name == ENGINE else name: np.array(of["samples_ms"]) for name, of in paths.items()}
    shares = {f"share_{name}": float(np.median(of / samples["openvino"])) for name, of in samples.items()}
    return {"ms": {name: float(np.median(of)) for name, of in samples.items()}, **shares}


def as_markdown(document: dict[str, Any]) -> str:
    """A row a file."""
    rows = []
    for of in document["files"]:
        built = [kind for kind, executed in of["tensorrt_rtx"].items() if isinstance(executed, dict)]
        numbers = [f"{of[name]:.4f}" for name in ("fp16", "int8")]
        theirs = [f"{of[f'openvino_{name}']:.4f}{', refused' * (f'refused_{name}' in of)}" for name in ("fp16", "int8")]
        shares = [f"{of[f'share_{name}']:.0%}" for name in ("fp16", "int8")]
        cells = [
            of["file"],
            f"{of['mb']:.1f}",
            f"{of['cpu_s']:.1f}",
            of["masks"],
            *numbers,
            str(of["left"] or ""),
            *theirs,
        ]
        rows.append([*cells, f"{of['ms']['openvino']:.0f}", *shares, ", ".join(built) or "no"])
    lines = [HEADS, ["---"] * len(HEADS), *rows]
    cpu = f"{document['machine']['cpu']} with {', '.join(document['machine']['features'])}"
    told = f"CPU: {cpu}; {document['rounds']} rounds in turns, {document['threads']} threads; {document['date']}."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{told}"


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m tests.adopted_table", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--frames", type=Path, required=True, help="the calibration's")
    parser.add_argument(
        "--json", type=Path, required=True, help="what is measured; what it holds is not measured again"
    )
    parser.add_argument("--rounds", type=count_from_text, default=20, help="(%(default)s)")
    parser.add_argument("--page", type=Path, help="whose table is made anew")
    asked = parser.parse_args(argv)
    kept = json.loads(asked.json.read_text())["files"] if asked.json.is_file() else []
    for path in sorted(path for folder in asked.folders for path in folder.glob("*.onnx")):
        if path.stem in [of["file"] for of in kept]:
            continue
        log(f"== {path.name}")
        kept.append(measured(path, asked.frames, ARTIFACTS / "adopted", asked.rounds))
        document = {
            "date": today(),
            "machine": machine(),
            "software": software(),
            "rounds": asked.rounds,
            "threads": count(),
        }
        write_atomically(asked.json, (json.dumps({**document, "files": kept}, indent=1) + "\n").encode())
    table = as_markdown(json.loads(asked.json.read_text()))
    if asked.page:
        rewrite(asked.page, MARK, table)
    show(table)
    return DONE


if __name__ == "__main__":
    run(main)
