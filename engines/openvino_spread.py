"""A convolution's channels spread over pixels (DepthToSpace by 2), row by row.

With the channels last OpenVINO's plugin moves them pixel by pixel, which takes as long as the two convolutions around
it. A convolution for the rows above and one for those below have their pixels side by side in memory already: then only
whole rows are joined.
"""

from typing import Any

import numpy as np
from openvino import opset13

from engines.openvino_nodes import CHANNELS_FIRST, CHANNELS_LAST, is_constant, kind_of, replace, reshape
from engines.openvino_sums import readers

CHANNELS = 1  # axis of a map


def spread_rows(model: Any) -> None:
    """Compute what is spread by 2 in two halves, the pixels of a row each.

    Args:
        model: an openvino.Model in the form that is compiled, with its maps' channels last in memory; it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "DepthToSpace" and node.get_attributes()["block_size"] == 2:
            _spread(node)
    model.validate_nodes_and_infer_types()


def _spread(node: Any) -> None:
    if node.get_output_partial_shape(0).is_dynamic or len(node.get_output_shape(0)) != 4:
        return
    n, channels, height, width = node.get_output_shape(0)
    order = np.arange(4 * channels)
    # As (row, column, channel).
    order = order.reshape(2, 2, -1) if node.get_attributes()["mode"] == "blocks_first" else (
        order.reshape(-1, 2, 2).transpose(1, 2, 0)
    )  # fmt: skip
    halves = [
        _channels(node.input_value(0), of.ravel(), where) for of, where in zip(order, ("above", "below"), strict=True)
    ]
    if None in halves:
        return
    rows = [
        reshape(opset13.transpose(half, np.array(CHANNELS_LAST)).output(0), (n, height // 2, 1, width * channels))
        for half in halves
    ]
    whole = reshape(opset13.concat(rows, 2).output(0), (n, height, width, channels))
    replace(node, opset13.transpose(whole, np.array(CHANNELS_FIRST)))


def _channels(source: Any, chosen: np.ndarray, where: str) -> Any:
    # These channels of what a convolution and passes over its map compute, by themselves; None where it is else.
    node = source.get_node()
    kind = node.get_type_name()
    if is_constant(source) or len(readers(node)) > 1:
        return None
    inputs = node.input_values()
    if kind == "Convolution":
        weights, how = _taken(inputs[1], chosen, -4), node.get_attributes()
        if weights is None:
            return None
        ends = how["strides"], how["pads_begin"], how["pads_end"], how["dilations"], how["auto_pad"]
        made = opset13.convolution(inputs[0], weights, *ends)
        made.set_friendly_name(f"{node.get_friendly_name()}/{where}")
        return made.output(0)
    if kind not in ("Convert", "Add", "Relu", "PRelu", "FakeQuantize"):
        return None
    half = _channels(inputs[0], chosen, where)
    is_line = kind == "PRelu" and len(inputs[1].get_partial_shape()) == 1  # of slopes, whatever axis is the last
    others = [_taken(value, chosen, -1 if is_line else CHANNELS - 4) for value in inputs[1:]]
    if half is None or None in others:
        return None
    if kind == "Convert":
        return opset13.convert(half, kind_of(node).to_string()).output(0)
    if kind == "FakeQuantize":
        return opset13.fake_quantize(half, *others, node.get_attributes()["levels"]).output(0)
    return {"Add": opset13.add, "Relu": opset13.relu, "PRelu": opset13.prelu}[kind](half, *others).output(0)


def _taken(source: Any, chosen: np.ndarray, axis: int) -> Any:
    # Some of a constant that has values for each channel on an axis, counted from the last as broadcasting does, in
    # the operators that it is read through.
    node = source.get_node()
    kind, shape = node.get_type_name(), source.get_partial_shape()
    if shape.is_dynamic or not _is_constants(source):
        return None
    side = shape[len(shape) + axis].get_length() if len(shape) >= -axis else 1
    if side == 1:
        return source
    if side != 2 * chosen.size:
        return None
    if kind == "Constant":
        values = np.ascontiguousarray(node.data.take(chosen, axis))
        return opset13.constant(values, dtype=kind_of(node)).output(0)
    if kind not in ("Convert", "Multiply", "Subtract"):
        return None
    taken = [_taken(value, chosen, axis) for value in node.input_values()]
    if None in taken:
        return None
    if kind == "Convert":
        return opset13.convert(taken[0], kind_of(node).to_string()).output(0)
    return {"Multiply": opset13.multiply, "Subtract": opset13.subtract}[kind](*taken).output(0)


def _is_constants(source: Any) -> bool:
    node = source.get_node()
    values = node.input_values()
    return node.get_type_name() == "Constant" or (bool(values) and all(map(_is_constants, values)))
