"""A graph in the layouts that TensorRT computes in: channels last, the frame's padded to four, PReLU as two ReLUs.

Every rewrite gives the same values. What they save are passes over whole maps (`engines.plan`): the library turns
planes into channels-last maps before its first convolution and back after its last one, pads three channels to four on
the way, and runs PReLU as a kernel of its own after the convolution that it fuses a ReLU into.

The tensors keep their dimensions' order; that memory is channels last, their format says (`write_channels_last`).
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from runtime.backends.tensorrt_engine import OPEN
from runtime.errors import EngineError, GraphError

DIMENSIONS = 4  # of a map
COLOURS = 3  # channels of the frame, and
PADDED = 4  # of one whose channels are last, as in `runtime.backends.tensorrt_engine`
POOLS = ("MaxPool", "AveragePool")  # act on each channel alone


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that takes frames of four channels and gives the same logits; the fourth channel is never looked at.

    Args:
        model: a graph of ours: its only input is (N, 3, H, W). It stays as it is.

    Returns:
        A graph of the same name, types and metadata whose input is (N, 4, H, W).

    Raises:
        GraphError: it takes something else.
    """
    _refuse_other_frame(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = _Graph(made.graph)
    graph.split_prelus()
    graph.pad_frame()
    del made.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def write_channels_last(trt: Any, network: Any) -> None:
    """Let a network read its input and write its output with the channels last in memory, if they are maps.

    Args:
        trt: the library.
        network: an INetworkDefinition; it is changed.
    """
    for tensor in (network.get_input(0), network.get_output(0)):
        if len(tensor.shape) == DIMENSIONS:
            tensor.allowed_formats = 1 << int(trt.TensorFormat.HWC)


def allow_batches(trt: Any, builder: Any, config: Any, network: Any, most: int) -> None:
    """Where a network's batch is open: let its engine take 1 to `most` frames, its kernels chosen for `most`.

    Args:
        trt: the library.
        builder: that makes the engine.
        config: of that builder; it is changed.
        network: an INetworkDefinition.
        most: frames.

    Raises:
        EngineError: the library does not take it.
    """
    frame = network.get_input(0)
    if frame is None or tuple(frame.shape)[:1] != (OPEN,):
        return
    one, all_ = ((count, *tuple(frame.shape)[1:]) for count in (1, most))
    profile = builder.create_optimization_profile()
    profile.set_shape(frame.name, one, all_, all_)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{trt.__name__} takes no batch of 1 to {most} frames")


class _Graph:
    """One graph while it is rewritten."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.padded: set[str] = set()  # weights

    def split_prelus(self) -> None:
        """PRelu(x, a) -> relu(x) - a * relu(-x), of which either term is zero everywhere."""
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            nodes += _relus(node) if node.op_type == "PRelu" else [node]
        self._set_nodes(nodes)

    def pad_frame(self) -> None:
        """Four channels in the frame, of which readers leave the last one out: zeros in a convolution's weight."""
        frame = self.graph.input[0]
        frame.type.tensor_type.shape.dim[1].dim_value = PADDED
        before = self._pad_readers(frame.name)
        self._set_nodes([*before, *self.graph.node])

    def _pad_readers(self, tensor: str) -> list[onnx.NodeProto]:
        # What must stand before all others: the three channels by themselves, for those that take no fourth one.
        cut, others = f"{tensor}.three", False
        for node in [node for node in self.graph.node if tensor in node.input]:
            if node.op_type in POOLS and len(node.output) == 1 and self._takes_four(node.output[0]):
                self._pad_readers(node.output[0])
            elif self._is_read_by(node, tensor):
                self._pad_weight(node)
            else:
                others = True
                _replace_input(node, tensor, cut)
        return [self._slice(tensor, cut)] if others else []

    def _takes_four(self, tensor: str) -> bool:
        readers = [node for node in self.graph.node if tensor in node.input]
        return bool(readers) and all(self._is_read_by(node, tensor) for node in readers)

    def _is_read_by(self, node: onnx.NodeProto, tensor: str) -> bool:
        # Whether a node is a convolution of all channels of a tensor, whose weight no other tensor is read with.
        if node.op_type != "Conv" or node.input[0] != tensor or node.input[1] not in self.constants:
            return False
        grouped = any(each.name == "group" and each.i != 1 for each in node.attribute)
        shared = [each for each in self.graph.node if node.input[1] in each.input]
        return not grouped and all(each.op_type == "Conv" and each.input[0] == tensor for each in shared)

    def _pad_weight(self, node: onnx.NodeProto) -> None:
        name = node.input[1]
        if name not in self.padded:
            self.padded.add(name)
            weight = numpy_helper.to_array(self.constants[name])
            more = np.pad(weight, ((0, 0), (0, PADDED - weight.shape[1]), (0, 0), (0, 0)))
            self.constants[name].CopyFrom(numpy_helper.from_array(more, name))

    def _slice(self, tensor: str, cut: str) -> onnx.NodeProto:
        values = {"first": 0, "end": COLOURS, "axis": 1}
        names = [f"{cut}.{name}" for name in values]
        for name, value in zip(names, values.values(), strict=True):
            self.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        return helper.make_node("Slice", [tensor, *names], [cut], cut)

    def _set_nodes(self, nodes: list[onnx.NodeProto]) -> None:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)


def _refuse_other_frame(model: onnx.ModelProto) -> None:
    shapes = [[side.dim_value for side in put.type.tensor_type.shape.dim] for put in model.graph.input]
    if len(shapes) != 1 or len(shapes[0]) != DIMENSIONS or shapes[0][1] != COLOURS:
        raise GraphError(f"the graph takes {shapes}, expected one frame (1, {COLOURS}, height, width)")


def _relus(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    source, slope, result = node.input[0], node.input[1], node.output[0]
    above, turned, below, scaled = (f"{result}.{name}" for name in ("above", "turned", "below", "scaled"))
    return [
        helper.make_node("Relu", [source], [above], above),
        helper.make_node("Neg", [source], [turned], turned),
        helper.make_node("Relu", [turned], [below], below),
        helper.make_node("Mul", [below, slope], [scaled], scaled),
        helper.make_node("Sub", [above, scaled], [result], node.name),
    ]


def _replace_input(node: onnx.NodeProto, before: str, after: str) -> None:
    for index, name in enumerate(node.input):
        if name == before:
            node.input[index] = after
