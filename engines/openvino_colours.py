"""A model of BGR frames as one of RGB frames: its first weights in another order, for no pass over the frame."""

from typing import Any

import numpy as np
from openvino import opset13

from engines.openvino_nodes import is_constant, values_of

COLOURS = 1  # the axis of a frame with its channels first
# What makes each channel of its own alone.
PASSES = ("Convert", "MaxPool", "AvgPool", "Interpolate")
ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide")


def read_rgb(model: Any) -> bool:
    """Let a model take RGB frames in place of BGR ones, for the same outputs but for the order of sums.

    Args:
        model: an openvino.Model, whose only input is (N, 3, H, W); it is changed where this is possible.

    Returns:
        Whether it is: what reads the frame is known, down to convolutions whose weights are constants.
    """
    weighted = _constants_of_colours(model.input(0))
    if weighted is None:
        return False
    for put in weighted:
        turned = np.flip(values_of(put.get_source_output()), COLOURS)
        put.replace_source_output(opset13.constant(turned, dtype=put.get_element_type()).output(0))
    model.validate_nodes_and_infer_types()
    return True


def _constants_of_colours(frame: Any) -> list[Any] | None:
    # The inputs that hold a value for each colour of the frame; None where a reader is of another kind.
    found, maps = [], [frame]
    while maps:
        for put in maps.pop().get_target_inputs():
            node = put.get_node()
            kind = node.get_type_name()
            if kind in ("Convolution", *ARITHMETIC):
                other = node.input(1 - put.get_index())
                if not is_constant(other.get_source_output()) or (kind == "Convolution" and put.get_index()):
                    return None
                shape = other.get_shape()
                if kind == "Convolution" or (len(shape) == 4 and shape[COLOURS] > 1):
                    found.append(other)
                elif (len(shape) == 3 and shape[0] > 1) or len(shape) > 4:
                    return None
            elif kind not in PASSES and not _moves_no_colours(node):
                return None
            if kind != "Convolution":
                maps.extend(node.outputs())
    return found


def _moves_no_colours(node: Any) -> bool:
    # Pads and slices lines and columns alone, or rounds all colours alike.
    constants = [port.get_source_output() for port in node.inputs()[1:]]
    if node.get_type_name() not in ("FakeQuantize", "Pad", "Slice") or not all(map(is_constant, constants)):
        return False
    if node.get_type_name() == "FakeQuantize":
        return all(values_of(each).size == 1 for each in constants)
    if node.get_type_name() == "Pad":
        begin, end = (values_of(each) for each in constants[:2])
        return not begin[COLOURS] and not end[COLOURS]
    return len(constants) == 4 and COLOURS not in values_of(constants[3]) % 4
