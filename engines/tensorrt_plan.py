"""TensorRT-RTX's whole plan of a graph, without a GPU: its builder tells it in one message of its verbose log.

The message has a line a layer, as the engine inspector's LayerInformationFormat.ONELINE prints it. It repeats exactly
from build to build. It tells nothing of time, and RTX is not TensorRT: it is for comparing two forms of one graph.
"""

import math
import re
from typing import Any

from calib.graphs import graph_from_bytes
from engines.planned import Kernel, Map, Plan
from engines.tensorrt_layout import allow_batches, rewritten, write_channels_last
from runtime.backends.layer import Layer
from runtime.backends.tensorrt_library import library, log_of, target
from runtime.cli import log
from runtime.errors import EngineError
from runtime.libraries import refusing, signals_held
from runtime.spec import BackendName

BACKEND: BackendName = "tensorrt-rtx"
# How the library spells a type: our word, and bits.
TYPES = {
    "Half": ("fp16", 16), "Float": ("fp32", 32), "BF16": ("bf16", 16), "Int8": ("int8", 8), "UInt8": ("uint8", 8),
    "FP8": ("fp8", 8), "Bool": ("bool", 8), "Int32": ("int32", 32), "Int64": ("int64", 64), "Int4": ("int4", 4),
    "FP4": ("fp4", 4), "E8M0": ("e8m0", 8),
}  # fmt: skip
NO_KERNELS = ("signal", "wait", "shape_call")  # events between streams; lengths that the host computes
OPEN_BATCH = "Dimensions: [-1,"
LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<reads>.*?)\], "
    r"(?:Constants: \[(?P<weights>.*?)\], )?"
    r"Outputs: \[(?P<writes>.*?)\], TacticName: "
)
TENSOR = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[\d,]*)\].*?, Datatype: (?P<type>\w+)[^{}]*\}")
STARTS = "{ Name: "
# The steps of a generated kernel, `__myl_MoveConc_...`, that move values without changing one, and those of a cast.
STEPS = re.compile(r"__myl_((?:[A-Z][a-z0-9]*)+)_")
MOVES = {"Move", "Tran", "Resh", "Conc", "Slic", "Repl"}


def plan(onnx: bytes, name: str, *, channels_last: bool = False, frames: int = 1) -> Plan:
    """What TensorRT-RTX makes of a graph.

    Args:
        onnx: strongly typed; any network.
        name: of the graph, for messages.
        channels_last: frames and logits have their channels last in memory, as `engines.tensorrt_layout` says.
        frames: at once, of a graph whose batch is open: by an engine that takes so many at most.

    Raises:
        LibraryError: the library is not installed.
        EngineError: it refuses the graph, or tells its plan in another way than this one reads.
    """
    version = target(BACKEND).library_version
    trt = library(BACKEND)
    with refusing(EngineError, f"{trt.__name__} refuses the graph {name}"), signals_held():
        text = _told(trt, onnx, name, frames, channels_last=channels_last)
    return Plan(name, f"{BACKEND} {version}", tuple(kernels_from_text(text, frames)), frames)


def plan_of_ours(onnx: bytes, name: str, frames: int = 1) -> Plan:
    """The plan of a graph of ours in the layouts of `engines.tensorrt_layout`; raises as `plan` does.

    Raises:
        GraphError: it is no ONNX file, or does not take frames as ours do.
    """
    made = rewritten(graph_from_bytes(onnx)).SerializeToString()
    return plan(made, name, channels_last=True, frames=frames)


def kernels_from_text(text: str, frames: int = 1) -> list[Kernel]:
    """The kernels of a plan as the library tells it, for so many frames where it leaves them open.

    Raises:
        EngineError: a line is none that is known; a plan without kernels is no plan.
    """
    text = text.replace(OPEN_BATCH, f"{OPEN_BATCH[:-3]}{frames},")
    lines = [line for line in text.partition("I/O Tensors:")[0].splitlines() if line.startswith("Name: ")]
    if text.count(", LayerType: ") != len(lines):
        raise _unknown(text)
    kernels = [kernel for kernel in map(_kernel, lines) if kernel.kind not in NO_KERNELS]
    if not kernels:
        raise EngineError("the library tells no kernel of its plan: it is read from TensorRT-RTX 1.7's verbose log")
    return kernels


def layers_from_text(text: str) -> tuple[Layer, ...]:
    """The layers of a plan as the gate counts them; none where the library tells none, or in another way: logged."""
    try:
        return tuple(kernel.layer for kernel in kernels_from_text(text)) if text else ()
    except EngineError as error:
        log(f"the engine's kernels cannot be counted: {error}")
        return ()


def _told(trt: Any, onnx: bytes, name: str, frames: int, *, channels_last: bool) -> str:
    logger = log_of(trt)
    logger.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise EngineError(f"{BACKEND} cannot take {name}: {' '.join(parser.get_error(0).desc().split())}")
    if channels_last:
        write_channels_last(trt, network)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    allow_batches(trt, builder, config, network, frames)
    if builder.build_serialized_network(network, config) is None:
        raise EngineError(f"{BACKEND} cannot build {name}: {logger.first_error()}")
    return str(logger.layers)


def _kernel(line: str) -> Kernel:
    found = LAYER.match(line)
    if found is None:
        raise _unknown(line)
    weights = sum(each.nbytes for each in _maps(found["weights"] or ""))
    reads, writes = _maps(found["reads"]), _maps(found["writes"])
    return Kernel(found["name"], found["kind"], _role(line, found["kind"]), reads, writes, weights)


def _maps(text: str) -> tuple[Map, ...]:
    found = tuple(_map(match) for match in TENSOR.finditer(text))
    if len(found) != text.count(STARTS):
        raise _unknown(text)
    return found


def _map(match: re.Match[str]) -> Map:
    shape = tuple(int(side) for side in match["shape"].split(",") if side)
    if match["type"] not in TYPES:
        raise _unknown(match[0])
    kind, bits = TYPES[match["type"]]
    return Map(match["name"], shape, kind, -(-math.prod(shape) * bits // 8))


def _role(line: str, kind: str) -> str:
    # By what the generated kernel is named after. What quantizes and does more is work that a kernel before it left.
    steps = STEPS.search(line.rpartition("TacticName: ")[2]) or STEPS.search(line)
    if kind in ("correlation", "gemm", "deconv", "runtime_fusion") or not steps:
        return "work"
    words = set(re.findall("[A-Z][a-z0-9]*", steps[1]))
    if words <= MOVES:
        return "reorder"
    if words <= MOVES | {"Cast"}:
        return "cast"
    return "quantizer" if "Roun" in words else "work"


def _unknown(text: str) -> EngineError:
    return EngineError(f"the library tells its plan in another way than TensorRT-RTX 1.7 does: {text[:120]!r}")
