"""The latency gate tried for real: `python -m tests.gate_trial --json figures/gate-trial.json`.

An ICNet of this machine is slowed by layers that change nothing, as many as make it 10 % slower or a little more; how
many is settled before the trial, in a run of its own. Then the gate judges base against itself while other processes
load the machine, and the slowed engine, time after time. Exit code 1 where one verdict is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from engines.build import build_engine
from export.to_onnx import Request, export
from runtime.artifacts import write_atomically
from runtime.cli import DONE, FAILED, count_from_text, log, run, size_from_text
from runtime.errors import GraphError
from runtime.manifest import read_manifest
from runtime.measure.fingerprint import command_line, fingerprint, load
from runtime.measure.gate.measuring import measure
from runtime.measure.gate.verdict import Rule
from runtime.measure.worker import ENGINE, Job
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET

SLOWED = 1.10
MOST_LAYERS = 12
SETTLING = Rule(rounds=60, frames=3, batches=1)
TENSOR = "relu_4"  # a map that identity convolutions are put behind: 32 channels at 1/8, a small step each


def with_idle_layers(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """The graph with `count` 3x3 convolutions that return what they read, one behind the other."""
    slowed = onnx.ModelProto()
    slowed.CopyFrom(model)
    graph = slowed.graph
    producer = next(i for i, node in enumerate(graph.node) if TENSOR in node.output)
    channels = next(value.type.tensor_type.shape.dim[1].dim_value for value in graph.value_info if value.name == TENSOR)
    weight = np.zeros((channels, channels, 3, 3), np.float16)
    weight[range(channels), range(channels), 1, 1] = 1
    graph.initializer.append(onnx.numpy_helper.from_array(weight, "idle.weight"))
    for node in graph.node:
        node.input[:] = [f"idle_{count}" if name == TENSOR else name for name in node.input]
    for i in range(count):
        source = f"idle_{i}" if i else TENSOR
        idle = onnx.helper.make_node("Conv", [source, "idle.weight"], [f"idle_{i + 1}"], f"idle_{i}", pads=[1] * 4)
        graph.node.insert(producer + 1 + i, idle)
    return slowed


def engine_of(model: onnx.ModelProto, name: str, folder: Path) -> Path:
    """Its engine on OpenVINO."""
    graph = folder / f"{name}.onnx"
    graph.write_bytes(model.SerializeToString())
    return build_engine(graph, "fp16", "openvino", folder)


@contextmanager
def loaded(processes: int) -> Iterator[None]:
    """Processes that compute without end."""
    # Each ends by itself where this process is killed: its parent is then another one.
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100000))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def judged(
    base: Path, candidate: Path, frame: np.ndarray, rule: Rule, seed: int, *, settle: bool = True
) -> dict[str, object]:
    """One run of the gate."""
    verdict = measure([Job(ENGINE, (base,)), Job(ENGINE, (candidate,))], frame, rule, seed, settle=settle).verdict
    assert verdict is not None
    return verdict._asdict() | {"seed": seed}


def settled(model: onnx.ModelProto, base: Path, frame: np.ndarray, folder: Path) -> tuple[Path, int, float]:
    """The engine with the fewest idle layers that is slow enough, how many, and its slowdown."""
    for count in range(1, MOST_LAYERS + 1):
        engine = engine_of(with_idle_layers(model, count), f"slowed-{count}", folder)
        slowdown = float(str(judged(base, engine, frame, SETTLING, 0, settle=False)["slowdown"]))
        log(f"{count} idle layers: {slowdown:+.1%}")
        if 1 + slowdown >= SLOWED:
            return engine, count, slowdown
    raise GraphError(f"{MOST_LAYERS} idle layers do not make it {SLOWED - 1:.0%} slower")


def main(argv: Sequence[str]) -> int:
    """The trial."""
    parser = argparse.ArgumentParser(prog="python -m tests.gate_trial", description=__doc__)
    parser.add_argument("--runs", type=count_from_text, default=10, help="of each kind (%(default)s)")
    parser.add_argument("--size", type=size_from_text, default=(512, 1024), help="of the network (512x1024)")
    parser.add_argument("--load", type=int, default=1, help="processes beside base against itself (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every verdict; written after each run")
    options = parser.parse_args(argv)
    rule = Rule()
    model = onnx.load(export(Request("icnet", "fp16", *options.size)))
    frame = resize_frame(read_frame(STREET), *options.size)
    itself: list[dict[str, object]] = []
    slower: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        base = engine_of(model, "base", Path(folder))
        command = command_line("tests.gate_trial", argv)
        found = fingerprint(base, read_manifest(base), options.size, command)
        slowed, layers, slowdown = settled(model, base, frame, Path(folder))
        before = load()
        for seed in range(1, options.runs + 1):
            with loaded(options.load):
                itself.append(judged(base, base, frame, rule, seed))
            slower.append(judged(base, slowed, frame, rule, seed))
            log(f"run {seed}: itself {itself[-1]['outcome']}, slowed {slower[-1]['outcome']}")
            document = {
                "rule": rule._asdict(),
                "fingerprint": found,
                "load": {"before": before, "after": load(), "processes_beside_itself": options.load},
                "idle_layers": layers,
                "slowdown_settled": slowdown,
                "itself": itself,
                "slowed": slower,
            }
            if options.json:
                write_atomically(options.json, (json.dumps(document, indent=1) + "\n").encode())
    print(f"itself: {dict(Counter(str(one['outcome']) for one in itself))}, all were to pass")
    print(f"slowed by {slowdown:.1%}: {dict(Counter(str(one['outcome']) for one in slower))}, all were to be slower")
    right = all(one["outcome"] == "pass" for one in itself) and all(one["outcome"] == "slower" for one in slower)
    return DONE if right else FAILED


if __name__ == "__main__":
    run(main)
