"""Where Q/DQ pairs go in a network's graph.

The rules, and why:

- A convolution takes INT8 on both inputs, or it gains nothing: pairs stand on the inputs of weighted layers, none on
  their outputs, so that an engine fuses what follows (bias, activation, sum) in higher precision.
- A residual sum gets a pair on its skip input alone: between a convolution and its sum one would stop their fusion.
- Max-pool, average-pool and padding keep a tensor's scale, and have a pair of it on both sides: engines move
  quantization through them. Not so a max-pool whose maxima are compared with what it read: both must be the same.
- What is cut out of a tensor, joined to one or spread has that tensor's pair before it too, so that bytes are moved.
- The convolutions that read the frame, as it is or max-pooled, keep FP16 activations: a frame has 8 bits already, and
  the 255 values of signed codes at a range of 255 would drop one of them. Their weights are rounded to the INT8 grid in
  place, so that an engine that takes unsigned frames (`engines.openvino_build`) runs them in INT8 with the same result.
- Everything else is FP16: resizing, unpooling (positions come from comparing what pooling saw), deconvolution where one
  is left (engines disagree on its weights' axis), PReLU, the pyramid's two matrix products.

Source, of the first three: NVIDIA's rules for explicit quantization (TensorRT documentation, "Working with quantized
types"; pytorch-quantization, quant_resnet50).
"""

from collections.abc import Collection
from typing import NamedTuple

import onnx

SAME_SCALE = ("MaxPool", "AveragePool", "Pad")  # of one input tensor, whose range bounds the output's
MOVES = ("Slice", "Concat", "DepthToSpace")
UNPOOLING = "Where"
MAP_WEIGHTS = 4  # dimensions
ONE_PIXEL = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Expand", "ConstantOfShape")


class Point(NamedTuple):
    """An input of a node that gets a pair: which, and the tensor whose range gives its scale."""

    node: int
    input: int
    tensor: str
    range_of: str


class Placement(NamedTuple):
    """Activations that get a pair, convolutions whose weights become INT8, and those rounded in place (by node)."""

    points: tuple[Point, ...]
    weights: tuple[int, ...]
    rounded: tuple[int, ...]


def place(graph: onnx.GraphProto, float_layers: Collection[str] = ()) -> Placement:
    """The placement of a graph that `export.to_onnx` or `export.adopt` wrote.

    Args:
        graph: with convolutions of constant weights.
        float_layers: names as `layer_name` gives them, left in FP16.

    Raises:
        ValueError: the graph has no layer of one of the names.
    """
    unknown = sorted(set(float_layers) - set(layers(graph).values()))
    if unknown:
        raise ValueError(
            f"the graph has no layer {unknown[0]}; it has {', '.join(sorted(set(layers(graph).values())))}"
        )
    return _Placer(graph, float_layers).placement()


def tensors(graph: onnx.GraphProto) -> list[str]:
    """Every tensor that gets a pair or gives a scale, whichever layers are left in FP16; sorted."""
    return _Placer(graph, ()).tensors()


def layers(graph: onnx.GraphProto) -> dict[int, str]:
    """Node -> layer name of every convolution of maps by constant weights. Those of the same weights are one layer."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == MAP_WEIGHTS}
    # Those of a quantized graph come from their codes.
    weights |= {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {
        i: layer_name(node) for i, node in enumerate(graph.node) if node.op_type == "Conv" and node.input[1] in weights
    }


def layer_name(node: onnx.NodeProto) -> str:
    """A convolution's layer as the PyTorch network calls it, such as `conv3_1.reduce`: from its weight's name."""
    return node.input[1].removeprefix("net.").removesuffix(".weight").removesuffix(".conv")


class _Placer:
    def __init__(self, graph: onnx.GraphProto, float_layers: Collection[str]) -> None:
        self.nodes = list(graph.node)
        self.producer = {out: i for i, node in enumerate(self.nodes) for out in node.output}
        self.constants = {tensor.name for tensor in graph.initializer}
        self.frame = graph.input[0].name
        convolutions = [i for i, name in layers(graph).items() if name not in float_layers]
        self.rounded = [i for i in convolutions if self._reads_frame(self.nodes[i].input[0])]
        self.inner = [i for i in convolutions if i not in self.rounded]

    def placement(self) -> Placement:
        points: dict[tuple[int, int], Point] = {}
        # Of two inputs that may be the skip the first is taken.
        skips = dict(reversed(self._skips()))
        for node, index in [(i, 0) for i in self.inner] + sorted(skips.items()):
            chain = self._chain(node, index)
            for point in [*chain, *self._moved(chain[0].tensor, chain[0].range_of)]:
                points.setdefault((point.node, point.input), point)
        return Placement(tuple(points[key] for key in sorted(points)), tuple(self.inner), tuple(self.rounded))

    def tensors(self) -> list[str]:
        # A sum of two convolutions has its skip on the side of the one that is left.
        chains = [point for at in [(i, 0) for i in self.inner] + self._skips() for point in self._chain(*at)]
        # The pooled frame's mean is asked for when a bias is corrected.
        pooled = {self.nodes[i].input[0] for i in self.rounded} - {self.frame}
        return sorted({name for point in chains for name in (point.tensor, point.range_of)} | pooled)

    def _chain(self, node: int, index: int) -> list[Point]:
        # The input itself, and those of the layers of one scale before it.
        tensor = self.nodes[node].input[index]
        before = self._same_scale(tensor)
        points = self._chain(before, 0) if before is not None else []
        root = points[0].range_of if points else tensor
        return [*points, Point(node, index, tensor, root)]

    def _moved(self, tensor: str, range_of: str) -> list[Point]:
        before = self.producer.get(tensor)
        if before is None or self.nodes[before].op_type not in MOVES:
            return []
        sources = self.nodes[before].input if self.nodes[before].op_type == "Concat" else self.nodes[before].input[:1]
        points = [Point(before, index, source, range_of) for index, source in enumerate(sources)]
        return [*points, *(point for source in sources for point in self._moved(source, range_of))]

    def _same_scale(self, tensor: str) -> int | None:
        before = self.producer.get(tensor)
        if before is None or self.nodes[before].op_type not in SAME_SCALE or self._is_compared(tensor):
            return None
        return before

    def _reads_frame(self, tensor: str) -> bool:
        pooled = [node.output[0] for node in self.nodes if node.op_type == "MaxPool" and node.input[0] == self.frame]
        return tensor in (self.frame, *pooled)

    def _is_compared(self, tensor: str) -> bool:
        views = [node.output[0] for node in self.nodes if node.op_type == "Reshape" and node.input[0] == tensor]
        return any(node.op_type == "GreaterOrEqual" and node.input[1] in views for node in self.nodes)

    def _skips(self) -> list[tuple[int, int]]:
        # Both inputs of a sum where either may be: what is added to a quantized convolution.
        found = []
        for i, node in enumerate(self.nodes):
            if node.op_type != "Add" or any(name in self.constants for name in node.input):
                continue
            sources = [self.producer.get(name) for name in node.input]
            for index in (0, 1):
                if sources[1 - index] in self.inner and self._is_map(node.input[index], sources[index]):
                    found.append((i, index))
        return found

    def _is_map(self, tensor: str, source: int | None) -> bool:
        # What is pooled to one pixel and spread over all is no skip, nor is what was unpooled, nor the frame.
        if source is None or self.nodes[source].op_type in ONE_PIXEL:
            return False
        return tensor != self.frame and not self._unpooled(source)

    def _unpooled(self, node: int) -> bool:
        while self.nodes[node].op_type == "Reshape":
            before = self.producer.get(self.nodes[node].input[0])
            if before is None:
                return False
            node = before
        return self.nodes[node].op_type == UNPOOLING
