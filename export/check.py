"""Proof that a graph is its network: the same frames through PyTorch and onnxruntime."""

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import onnx
import torch
from torch import nn

from export.adopting.untouched import upsampled
from export.models.layers import Positions, replaying
from export.registry import Normalization
from runtime import reference
from runtime.errors import GraphError
from runtime.samples import STREET
from runtime.spec import ModelSpec, Preprocess

# Float32 sums in another order: onnxruntime and PyTorch block their convolutions differently.
FP32_LOGITS = 1e-4
FP32_MASK, FP16_MASK = 0.9999, 0.995
# Two of half precision's own roundings. Logits so near change a pixel's class only where the network's two best are
# within twice this, which no half decides: one pixel in 2000 of the shipped networks, but more than half of a random
# PIDNet-S's, whose logits differ from class to class and hardly from pixel to pixel. They come to 3e-4 to 9e-4, those
# of ENet, which has positions to lose, to 2e-2.
FP16_LOGITS = 2.0**-10
SMALLEST_RANGE = 1e-30  # of logits that are all the same
TIE_STEP = 64  # grey levels between the tie-heavy frame's values: most 2x2 windows hold equal maxima


class Agreement(NamedTuple):
    """How far a graph is from its network on one frame."""

    logits_error: float  # largest difference, as a share of the network's range
    mask_agreement: float  # share of pixels of the same class
    slack: float = 0.0  # how far a position the graph chose falls short of its maximum (`layers.Replay`)

    def __str__(self) -> str:
        return f"logits within {self.logits_error:.1e} of their range, {self.mask_agreement:.4%} of pixels agree"


def check_graph(graph: onnx.ModelProto, network: nn.Module, norm: Normalization, spec: ModelSpec) -> Agreement:
    """Compare on a street frame, and on the same frame in few grey levels, where pooling meets ties everywhere.

    The network replays a float32 graph's unpooling positions; each of them must be a maximum but for rounding.

    Returns:
        The worse of both.

    Raises:
        GraphError: further apart than FP32_LOGITS and FP32_MASK allow, or in FP16 both FP16_LOGITS and FP16_MASK.
    """
    half = graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    street = reference.resize_frame(street_frame(), spec.preprocess.height, spec.preprocess.width)
    flat = (street // TIE_STEP * TIE_STEP).astype(np.uint8)
    frames = (street,) if half else (street, flat)
    worst = _worst([compare(graph, network, norm, spec, frame, replay=not half) for frame in frames])
    if half and worst.mask_agreement < FP16_MASK and worst.logits_error > FP16_LOGITS:
        raise GraphError(
            f"the FP16 graph of {spec.name} is not its network: {worst}; expected {FP16_LOGITS:.0e} or {FP16_MASK:.2%}"
        )
    if not half and (max(worst.logits_error, worst.slack) > FP32_LOGITS or worst.mask_agreement < FP32_MASK):
        raise GraphError(
            f"the graph of {spec.name} is not its network: {worst}, unpooling positions within {worst.slack:.1e}; "
            f"expected {FP32_LOGITS:.0e} and {FP32_MASK:.2%}"
        )
    return worst


def compare(
    graph: onnx.ModelProto,
    network: nn.Module,
    norm: Normalization,
    spec: ModelSpec,
    frame: np.ndarray,
    *,
    replay: bool = False,
) -> Agreement:
    """One frame, uint8 (H, W, 3), through the network in PyTorch and the graph in onnxruntime.

    Args:
        graph, network, norm, spec: what is compared.
        frame: of the spec's size.
        replay: the network takes the graph's choices between maxima (`layers.Replay`).

    Raises:
        GraphError: either gives values that are not finite; no comparison of those means anything.
    """
    output, choices = run_graph(graph, reference.preprocess(frame, spec.preprocess))
    height, width = frame.shape[:2]
    values = torch.from_numpy(reference.preprocess(frame, Preprocess(height, width, *norm)))
    with torch.inference_mode(), replaying(choices) if replay and choices else nullcontext() as replayed:
        expected = network(values).numpy()
    got = reference.unblock(output, spec.block)
    if got.shape != expected.shape:  # the graph leaves the last upsampling to the runtime
        got = upsampled(got, spec.upsample, (height, width))[None]
    for what, logits in (("network", expected), ("graph", got)):
        if not np.isfinite(logits).all():
            raise GraphError(f"the {what} of {spec.name} gives logits that are not finite: look at the weights")
    masks = [reference.postprocess(logits, height, width, upsample=spec.upsample) for logits in (expected, got)]
    error = float(np.abs(expected - got).max() / max(np.ptp(expected), SMALLEST_RANGE))
    return Agreement(error, float((masks[0] == masks[1]).mean()), replayed.slack if replayed else 0.0)


def run_graph(graph: onnx.ModelProto, values: np.ndarray) -> tuple[np.ndarray, list[Positions]]:
    """A graph's output in onnxruntime, and which maxima its unpooling took.

    Args:
        graph: as exported, of any batch size; the frame fills the batch and its first result is returned.
        values: float32 (1, 3, H, W).

    Returns:
        Float32 (1, C, h, w); per pooling with positions, in their order, the ranks of `layers.max_pool_2x2`.

    Raises:
        GraphError: not every pooling with positions is followed by its unpooling.
    """
    import onnxruntime

    probed = onnx.ModelProto()
    probed.CopyFrom(graph)
    nodes = graph.graph.node
    constants = {tensor.name for tensor in graph.graph.initializer if tuple(tensor.dims) == (1, 1, 1, 2, 1, 2)}
    chosen = {node.input[0] for node in nodes if node.op_type == "Where" and node.input[1] in constants}
    poolings = sum(node.op_type == "GreaterOrEqual" and node.output[0] in chosen for node in nodes)
    # Unpooling compares them with the windows' ranks; what was pooled last is unpooled first.
    ranks = [node.input[0] for node in nodes if node.op_type == "Equal" and node.input[1] in constants][::-1]
    if len(ranks) != poolings:
        raise GraphError(f"the graph compares {poolings} maps with their maxima, and unpools {len(ranks)}")
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ranks)
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    dtype = np.float16 if "float16" in wanted.type else np.float32
    output, *found = session.run(None, {wanted.name: np.repeat(values, wanted.shape[0], axis=0).astype(dtype)})
    # (N, C, h, 1, w, 1), a value for each window.
    return output[:1].astype(np.float32), [torch.from_numpy(f[:1, :, :, 0, :, 0].astype(np.float32)) for f in found]


def _worst(results: list[Agreement]) -> Agreement:
    return Agreement(
        max(r.logits_error for r in results), min(r.mask_agreement for r in results), max(r.slack for r in results)
    )


def street_frame() -> np.ndarray:
    """The bundled street frame, uint8 (H, W, 3) RGB."""
    from runtime.media.frames import read_frame

    return read_frame(STREET)
