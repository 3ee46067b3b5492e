"""What this CPU's convolutions reach in OpenVINO, and what a network's therefore cost: the floor of its time.

`python -m runtime.measure.roof` prints it. In `runtime.bench_rivals` it takes turns with what is measured, so that both
are of the same minutes of the same machine.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.arguments import Parser
from runtime.backend import Stopwatch
from runtime.backends.openvino import BELOW_BF16, BELOW_FP16
from runtime.cli import DONE, add_threads, count_from_text, run, show
from runtime.cpu import max_isa
from runtime.errors import EngineError
from runtime.libraries import refusing
from runtime.threads import bound, for_command

LAYERS = 6  # of one shape, one behind the other
# Channels, height, width, kernel: shapes of ICNet's size, of which some reach more and some less.
SHAPES = ((128, 128, 256, 3), (256, 64, 128, 3), (512, 32, 64, 1), (64, 256, 512, 3))
# OpenVINO's hint, and what it must say that the CPU has; 8 bits come by FakeQuantize.
HINTS = {"fp32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "fp16": ("f16", "FP16"), "int8": ("f32", "FP32")}
CAPS = {"bf16": BELOW_BF16, "fp16": BELOW_FP16}
WARMUP, ROUNDS = 1, 8


class Probe(NamedTuple):
    """One stack of convolutions, compiled."""

    precision: str
    name: str
    gmac: float  # of one run
    request: Any
    values: np.ndarray  # float32 (1, C, H, W)


class Roof:
    """Takes its turns as a path does; a frame is each stack of convolutions once, its stages are their milliseconds."""

    def __init__(
        self, precisions: Collection[str] = tuple(HINTS), shapes: Sequence[tuple[int, int, int, int]] | None = None
    ) -> None:
        """Compile those of these precisions that the CPU has.

        Raises:
            EngineError: OpenVINO refuses one.
        """
        import openvino

        core = openvino.Core()
        here = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.stages_ms: dict[str, float] = {}
        # Of a capped library it tells what the CPU has, and ends the process where it is taken at its word.
        capped = {kind for kind, caps in CAPS.items() if max_isa() in caps}
        has = {kind for kind, (_, capability) in HINTS.items() if capability in here} - capped
        kinds = [kind for kind in precisions if kind in has]
        with refusing(EngineError, "OpenVINO refuses convolutions of no network", line=-1):
            self.probes = [_probe(core, kind, shape) for kind in kinds for shape in shapes or SHAPES]

    def segment(self, frame: object = None) -> None:
        """Run each stack once; the frame is not looked at."""
        watch = Stopwatch()
        for probe in self.probes:
            probe.request.infer([probe.values])
            watch.lap(f"{probe.precision} {probe.name}")
        self.stages_ms = watch.laps_ms


def reached(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """GMAC a second by precision: the best stack of each, in its best round.

    Args:
        rounds: `stages_ms` of a `Roof`, one a frame.
    """
    found: dict[str, float] = {}
    for name in rounds[0]:
        precision, _, shape = name.partition(" ")
        per_s = _gmac(_shape(shape)) / min(stages[name] for stages in rounds) * 1e3
        found[precision] = max(found.get(precision, 0.0), per_s)
    return found


def floor_ms(gmac: float, per_s: float) -> float:
    """Milliseconds that so many GMAC take where so many a second are reached."""
    return gmac / per_s * 1e3


def gmac_of(graph: bytes) -> float:
    """Multiplications with addition of a graph's convolutions and matrix products, in 1e9, at the size it is of.

    Args:
        graph: an ONNX file of static shapes.

    Raises:
        EngineError: OpenVINO cannot read it.
    """
    import openvino

    with refusing(EngineError, "OpenVINO refuses the plain graph", line=-1):
        model = openvino.Core().read_model(graph, b"")
    return sum(map(_products, model.get_ops())) / 1e9


def _products(node: Any) -> int:
    kind = node.get_type_name()
    if "Convolution" in kind:
        weights = list(node.get_input_shape(1))
        grouped = kind.startswith("Group")
        # Each weight of one output channel, or of one input channel where it is transposed, once a pixel of that side.
        backwards = kind.endswith("BackpropData")
        side = node.get_input_shape(0) if backwards else node.get_output_shape(0)
        return int(math.prod(side) * math.prod(weights[2 if grouped else 1 :]))
    if kind == "MatMul":
        inner = node.get_input_shape(0)[-2 if node.get_attributes()["transpose_a"] else -1]
        return int(math.prod(node.get_output_shape(0)) * inner)
    return 0


def _named(shape: tuple[int, int, int, int]) -> str:
    channels, height, width, kernel = shape
    return f"{channels}x{height}x{width} k{kernel}"


def _shape(name: str) -> tuple[int, int, int, int]:
    sides, _, kernel = name.partition(" k")
    channels, height, width = map(int, sides.split("x"))
    return channels, height, width, int(kernel)


def _gmac(shape: tuple[int, int, int, int]) -> float:
    channels, height, width, kernel = shape
    return LAYERS * channels**2 * kernel**2 * height * width / 1e9


def _probe(core: Any, precision: str, shape: tuple[int, int, int, int]) -> Probe:
    options = {"INFERENCE_PRECISION_HINT": HINTS[precision][0], "PERFORMANCE_HINT": "LATENCY"}
    if bound() is not None:
        options["INFERENCE_NUM_THREADS"] = str(bound())
    compiled = core.compile_model(_stack(shape, quantized=precision == "int8"), "CPU", options)
    values = 6 * np.random.default_rng(1).random((1, *shape[:3]), np.float32)
    return Probe(precision, _named(shape), _gmac(shape), compiled.create_infer_request(), values)


def _stack(shape: tuple[int, int, int, int], *, quantized: bool) -> Any:
    import openvino
    from openvino import opset13

    channels, height, width, kernel = shape
    first = opset13.parameter([1, channels, height, width], np.float32)
    last, random = first, np.random.default_rng(0)
    for _ in range(LAYERS):
        weights = opset13.constant(random.normal(0, 0.05, (channels, channels, kernel, kernel)).astype(np.float32))
        if quantized:
            last, weights = _in_steps(last, 0, 6, 256), _in_steps(weights, -0.2, 0.2, 255)
        padding = [kernel // 2] * 2
        last = opset13.relu(opset13.convolution(last, weights, [1, 1], padding, padding, [1, 1]))
    return openvino.Model([last], [first])


def _in_steps(node: Any, low: float, high: float, levels: int) -> Any:
    from openvino import opset13

    ends = np.float32(low), np.float32(high)
    return opset13.fake_quantize(node, *ends, *ends, levels)


def main(argv: Sequence[str]) -> int:
    """Print GMAC a second by precision."""
    parser = Parser(prog="python -m runtime.measure.roof", description=__doc__)
    parser.add_argument("--rounds", type=count_from_text, default=ROUNDS, help="runs of each stack (%(default)s)")
    add_threads(parser)
    options = parser.parse_args(argv)
    with for_command(options.threads):
        roof, rounds = Roof(), []
        for _ in range(WARMUP + options.rounds):
            roof.segment()
            rounds.append(roof.stages_ms)
    for precision, per_s in reached(rounds[WARMUP:]).items():
        show(f"{precision:<5} {per_s:>6.0f} GMAC/s")
    return DONE


if __name__ == "__main__":
    run(main)
