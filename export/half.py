"""The strongly typed FP16 graph from the FP32 graph: the types are in the file, no builder flag changes them."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from runtime.errors import GraphError

LARGEST = float(np.finfo(np.float16).max)
# Inputs that the ONNX standard wants in float32 whatever the data's type: Resize's roi and scales.
FLOAT32_INPUTS = {"Resize": (1, 2)}


def half_from_float(model: onnx.ModelProto, *, keep_casts: bool = False) -> onnx.ModelProto:
    """The same graph with every float32 tensor, input and output in float16; no Cast is added.

    Args:
        model: of float32 alone.
        keep_casts: the graph is another exporter's, which may count and compare in between: casts to float32 become
            casts to float16, other ones stay.

    Raises:
        GraphError: a weight does not fit float16, or the graph is not of float32 alone.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    kept = {node.input[i] for node in graph.node for i in FLOAT32_INPUTS.get(node.op_type, ()) if i < len(node.input)}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half_tensor(tensor))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        if node.op_type == "Cast" and keep_casts:
            _halve_cast(node)
        elif node.op_type in ("Cast", "Constant", "ConstantOfShape"):
            raise GraphError(f"node {node.name} is a {node.op_type}: its type cannot be changed by changing weights")
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True)


def _halve_cast(node: onnx.NodeProto) -> None:
    for each in node.attribute:
        if each.name == "to" and each.i == TensorProto.FLOAT:
            each.i = TensorProto.FLOAT16


def _half_tensor(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0.0) > LARGEST:
        raise GraphError(f"weight {tensor.name} reaches {np.abs(values).max():g}, float16 ends at {LARGEST:g}")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)
