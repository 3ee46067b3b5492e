"""Which tensors of an OpenVINO graph are never negative."""

from typing import Any

import numpy as np

from engines.openvino_nodes import is_constant, values_of

# Never negative: always, if the first input is, if each is, if one is.
ALWAYS = (
    "Relu", "Sigmoid", "HSigmoid", "HardSigmoid", "SoftMax", "Softmax", "SoftPlus", "Exp", "Abs", "Sqrt",
)  # fmt: skip
IF_FIRST = (
    "Convert", "Reshape", "Transpose", "Slice", "StridedSlice", "Split", "VariadicSplit", "Squeeze", "Unsqueeze",
    "PRelu", "MaxPool", "AvgPool", "ReduceMean", "ReduceMax", "ReduceSum", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
IF_EACH = ("Add", "Multiply", "Divide", "Minimum", "MatMul", "Concat")
IF_ONE = ("Maximum",)
STRAIGHT = ("nearest", "linear", "linear_onnx")  # ways to interpolate that never leave the values' range


def never_negative(model: Any) -> set[tuple[str, int]]:
    """The outputs of a model that are zero or larger whatever the frame is; what is not proven is not among them.

    Args:
        model: an openvino.Model.

    Returns:
        Each as `port` names it.
    """
    found: set[tuple[str, int]] = set()
    for node in model.get_ordered_ops():
        inputs = [port(value) in found for value in node.input_values()]
        if _is_never_negative(node, inputs):
            found |= {(node.get_name(), index) for index in range(node.get_output_size())}
    return found


def _is_never_negative(node: Any, inputs: list[bool]) -> bool:
    kind = node.get_type_name()
    if kind == "Constant":
        return bool(node.get_output_element_type(0).is_real() and np.min(node.data, initial=0) >= 0)
    if kind == "Parameter":
        return not node.get_output_element_type(0).is_signed()
    if kind == "Clamp":
        return bool(node.get_attributes()["min"] >= 0)
    if kind == "FakeQuantize":  # symmetric: zero stays zero
        return (inputs[3] and inputs[4]) or (inputs[0] and _is_symmetric(node))
    if kind == "Subtract":
        return inputs[0] and is_constant(node.input_value(1)) and not values_of(node.input_value(1)).any()
    if kind == "Pad":
        return inputs[0] and (len(inputs) < 4 or inputs[3])
    if kind == "Interpolate":
        return inputs[0] and node.get_attributes()["mode"] in STRAIGHT
    if kind == "Select":
        return inputs[1] and inputs[2]
    return (
        kind in ALWAYS
        or (kind in IF_FIRST and inputs[0])
        or (kind in IF_EACH and all(inputs))
        or (kind in IF_ONE and any(inputs))
    )


def _is_symmetric(quantize: Any) -> bool:
    low, high, out_low, out_high = (values_of(quantize.input_value(index)).astype(np.float64) for index in range(1, 5))
    return bool(np.allclose(low * out_high, high * out_low, rtol=1e-4) and np.all(out_high > 0))


def port(source: Any) -> tuple[str, int]:
    """A node's output: the node's unique name, and which of its outputs."""
    return source.get_node().get_name(), source.get_index()
