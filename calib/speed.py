"""Which stages of a network INT8 slows on this machine, to leave them in FP16.

`python -m calib.speed GRAPH.onnx` builds the engine of the whole INT8 graph and one with each stage in FP16, and times
them in turns; the stages that are surely faster in FP16 are written into a new calibration table, whose path is the
last line and which `make engine PRECISION=int8` takes from then on.
"""

import dataclasses
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from calib.graphs import load_graph
from calib.placement import layers
from calib.qdq import quantize
from calib.table import TABLES, CalibrationTable, save_table, table_for
from engines.build import auto_backend, build_engine, graph_precision
from runtime.arguments import Parser
from runtime.artifacts import key_of
from runtime.cli import DONE, count_from_text, log, one_of, progress, run, show
from runtime.measure.gate.measuring import measure
from runtime.measure.gate.verdict import Rule, signed_rank_p
from runtime.measure.worker import ENGINE, Job
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from runtime.spec import BACKENDS, BackendName, ModelSpec

ROUNDS = 40
ALPHA = Rule().alpha  # of believing that a stage is faster in FP16
LEAST_GAIN = 0.005  # of the frame's time: less is not worth another type


class Timing(NamedTuple):
    """Two engines in turns: the candidate's time as a share of the base's, and the p of it being no faster."""

    share: float
    p: float

    @property
    def faster(self) -> bool:
        """Whether the candidate surely is, and by enough."""
        return self.share < 1 - LEAST_GAIN and self.p < ALPHA


class Variants:
    """Builds and times variants of one network's graph on one backend."""

    def __init__(
        self, model: onnx.ModelProto, spec: ModelSpec, table: CalibrationTable, backend: BackendName, folder: Path
    ) -> None:
        """Keep what variants are made of; engines go to `folder`, which the caller removes."""
        self.model, self.table, self.backend, self.folder = model, table, backend, folder
        self.frame = resize_frame(read_frame(STREET), spec.preprocess.height, spec.preprocess.width)

    def engine(self, float_layers: Sequence[str]) -> Path:
        """The engine with these layers in FP16 and the others in INT8."""
        table = dataclasses.replace(self.table, float_layers=tuple(float_layers))
        content = quantize(self.model, table).SerializeToString()
        graph = self.folder / f"{key_of({'layers': list(float_layers)})}.onnx"
        graph.write_bytes(content)
        # Timed and thrown away: what is built of the table in the end is proven.
        return build_engine(graph, graph_precision(content), self.backend, self.folder, prove=False)

    def compare(self, base: Path, candidate: Path, rounds: int) -> Timing:
        """Frame in memory to mask in memory, in turns."""
        jobs = [Job(ENGINE, (engine,)) for engine in (base, candidate)]
        rule = Rule(rounds=rounds, frames=1, batches=1)
        samples = measure(jobs, self.frame, rule, seed=0, settle=False).samples_ms[:, :, 0]
        ratios = np.log(samples[1] / samples[0])
        return Timing(float(np.exp(np.median(ratios))), signed_rank_p(-ratios))


def stages(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Layers by the stage they belong to: `bottleneck2_3.expand` to `bottleneck2`, `conv3_1.reduce` to `conv3`."""
    found: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        found.setdefault(re.split(r"[._]", name)[0], []).append(name)
    return {stage: tuple(members) for stage, members in found.items()}


def slowed(variants: Variants, rounds: int) -> tuple[str, ...]:
    """The layers to leave in FP16: of each stage that is faster so alone, if they are faster so together too."""
    names = sorted(set(layers(variants.model.graph).values()) - set(variants.table.float_layers))
    everything = variants.engine(variants.table.float_layers)
    against_fp16 = variants.compare(variants.engine(sorted({*names, *variants.table.float_layers})), everything, rounds)
    log(f"all in INT8: {against_fp16.share:.3f} of FP16's time (p {against_fp16.p:.2g})")
    left: list[str] = []
    for stage, members in progress(stages(names).items(), "stages in FP16", unit="stage"):
        timing = variants.compare(everything, variants.engine((*variants.table.float_layers, *members)), rounds)
        log(f"  {stage} in FP16: {timing.share:.3f} of the time (p {timing.p:.2g}){', left' if timing.faster else ''}")
        left += members if timing.faster else ()
    if not left:
        return ()
    together = variants.compare(everything, variants.engine((*variants.table.float_layers, *left)), rounds)
    log(f"together: {together.share:.3f} of the time (p {together.p:.2g})")
    return tuple(left) if together.faster else ()


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m calib.speed", description=__doc__)
    parser.add_argument("graph", type=Path, help="the FP16 graph that export.to_onnx wrote")
    parser.add_argument("--table", type=Path, help="by default the newest of the same weights, or the one shipped")
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (auto: TensorRT or OpenVINO)")
    parser.add_argument("--rounds", type=count_from_text, default=ROUNDS, help="frames of each engine (%(default)s)")
    arguments = parser.parse_args(argv)
    if 2.0**-arguments.rounds >= ALPHA:
        parser.error(f"--rounds {arguments.rounds} can prove nothing: the least p of so few is above {ALPHA}")
    if arguments.backend == "onnxruntime":
        parser.error("--backend onnxruntime computes INT8 graphs in float: it is the referee, its time tells nothing")
    backend = auto_backend() if arguments.backend == "auto" else one_of(arguments.backend, BACKENDS, "backend")
    model, spec = load_graph(arguments.graph, "fp16")
    path, table = table_for(spec, arguments.table)
    with tempfile.TemporaryDirectory() as folder:
        left = slowed(Variants(model, spec, table, backend, Path(folder)), arguments.rounds)
    log(f"{spec.name}: left in FP16: {', '.join(stages(left)) or 'nothing more'}")
    if left:
        chosen = dataclasses.replace(table, float_layers=(*table.float_layers, *left))
        path = TABLES / f"{spec.name}-{chosen.method}-{key_of(dataclasses.asdict(chosen))}.json"
        save_table(path, chosen)
    show(path)
    return DONE


if __name__ == "__main__":
    run(main)
