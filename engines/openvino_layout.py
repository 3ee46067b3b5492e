"""A graph's maps in the layout that OpenVINO's CPU plugin computes in, with their channels last.

Every rewrite gives the same values. What it saves are passes over whole maps: the plugin copies one whenever it is
viewed with its channels first.
"""

from typing import Any

import numpy as np
import openvino
from openvino import layout_helpers, opset13

from engines.openvino_nodes import CASTS, CHANNELS_FIRST, CHANNELS_LAST, is_constant, replace, reshape, values_of

# What may lie between a convolution and a product of its map.
BETWEEN = (*CASTS, "Reshape", "FakeQuantize", "Relu", "PRelu", "Clamp", "Add", "Subtract", "Multiply")

# How a layer reads its input that does what `runtime.doubling.doubled` does.
DOUBLING = {
    "mode": ("linear", "linear_onnx"),
    "coordinate_transformation_mode": ("half_pixel", "pytorch_half_pixel"),
    "antialias": (False,),
    "pads_begin": ([], [0], [0, 0], [0, 0, 0, 0]),
    "pads_end": ([], [0], [0, 0], [0, 0, 0, 0]),
}


def view_windows(model: Any) -> None:
    """Turn views of a map by its windows, (N, C, h, 2, w, 2), to (N, h, 2, w, 2, C), with their ranks in bytes.

    With the channels last in memory the first is a copy and the second is none. The ranks are those of
    `export.models.layers.max_pool_2x2`, integers up to 4. A graph that has other maps of six dimensions stays as it is.

    Args:
        model: an openvino.Model; it is changed.
    """
    if not all(map(_is_of_windows, model.get_ordered_ops())):
        return
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape":
            _view_channels_last(node)
        elif node.get_output_size() and len(node.get_output_partial_shape(0)) == 6:
            _turn_constants(node)
    model.validate_nodes_and_infer_types()


def multiply_channels_last(model: Any) -> None:
    """Multiply a map (N, C, H, W) by a matrix (W, K) where its columns lie in memory: as (K, W) by (N, H, W, C).

    Pyramids pool by such products. With the channels first the plugin copies the whole map for them. Maps that
    no convolution made, or that were turned for it, may have their channels last, as transformers do: they stay.

    Args:
        model: an openvino.Model; it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or not is_constant(node.input_value(1)):
            continue
        maps, matrix, how = node.input_value(0), node.input_value(1), node.get_attributes()
        ranks = len(maps.get_partial_shape()), len(matrix.get_partial_shape())
        made_by = maps.get_node()
        is_turned = made_by.get_type_name() == "Transpose"
        while made_by.get_type_name() in BETWEEN:
            made_by = made_by.input_value(0).get_node()
        if ranks != (4, 2) or how["transpose_a"] or is_turned or "Convolution" not in made_by.get_type_name():
            continue
        last = opset13.transpose(maps, np.array(CHANNELS_LAST))
        product = opset13.matmul(matrix, last, not how["transpose_b"], False)
        replace(node, opset13.transpose(product, np.array(CHANNELS_FIRST)))
    model.validate_nodes_and_infer_types()


def leave_doubling(model: Any) -> bool:
    """Let logits leave as they are before they are doubled, where the last layer does that: the mask's kernel does it.

    Args:
        model: an openvino.Model of one output (N, C, H, W); it is changed.

    Returns:
        Whether its output now wants the name of `runtime.doubling`.
    """
    (result,) = model.get_results()
    last = result.input_value(0).get_node()
    if last.get_type_name() != "Interpolate" or len(last.get_output_partial_shape(0)) != 4:
        return False
    how, source = last.get_attributes(), last.input_value(0)
    if source.get_partial_shape().is_dynamic or last.get_output_partial_shape(0).is_dynamic:
        return False
    (*before, height, width), after = source.get_shape(), list(last.get_output_shape(0))
    if after != [*before, 2 * height, 2 * width] or any(
        how.get(key) not in allowed for key, allowed in DOUBLING.items()
    ):
        return False
    scales = last.input_value(2 if last.get_input_size() == 4 else 1)  # opset 4 takes sizes before them
    if how.get("shape_calculation_mode") != "sizes" and not (
        is_constant(scales) and set(values_of(scales).tolist()) <= {1, 2}
    ):
        return False
    result.input(0).replace_source_output(source)
    model.validate_nodes_and_infer_types()
    return True


def write_bf16(model: Any) -> None:
    """Let the logits leave in BF16, as the plugin leaves out to cast them that computed them so.

    It does right before the result alone, and would bring a cast before a transpose: the rows of all frames are viewed
    as below one another in between. Elsewhere it copies the map.

    Args:
        model: an openvino.Model of one output (N, H, W, C); it is (N * H, W, C) then.

    Source: `isSuitableConvert` in OpenVINO's intel_cpu/src/transformations/snippets/x64/pass/snippets_mark_skipped.cpp.
    """
    (result,) = model.get_results()
    n, height, width, channels = result.get_input_shape(0)
    layout_helpers.set_layout(model.output(0), openvino.Layout("..."))
    rows = reshape(result.input_value(0), (n * height, width, channels))
    result.input(0).replace_source_output(opset13.convert(rows, "bf16").output(0))
    model.validate_nodes_and_infer_types()


def _view_channels_last(node: Any) -> None:
    before, after = node.get_input_partial_shape(0), node.get_output_partial_shape(0)
    if (len(before), len(after)) == (4, 6):
        n, channels, *windows = after.to_shape()
        # Flat while it is transposed: the plugin takes no 4-D view of a sum that a convolution was fused with.
        moved = opset13.transpose(reshape(node.input_value(0), (n, channels, -1)), np.array((0, 2, 1)))
        node.output(0).replace(reshape(moved.output(0), (n, *windows, channels)))
    elif (len(before), len(after)) == (6, 4):
        n, channels, height, width = after.to_shape()
        whole = reshape(node.input_value(0), (n, height, width, channels))
        node.output(0).replace(opset13.transpose(whole, np.array(CHANNELS_FIRST)).output(0))


def _is_of_windows(node: Any) -> bool:
    # Whether a node has nothing to do with maps of six dimensions, or is of those that unpooling needs.
    shapes = [tuple(port.get_shape()) for port in (*node.inputs(), *node.outputs())]
    if not any(len(shape) == 6 for shape in shapes) or node.get_type_name() == "Constant":
        return True
    if node.get_type_name() != "Reshape":
        return node.get_type_name() in ("Select", "Equal", "GreaterEqual")
    whole, windows = sorted((shapes[0], shapes[-1]), key=len)
    if len(windows) != 6:
        return False
    n, channels, height, rows, width, columns = windows
    return whole == (n, channels, height * rows, width * columns) and {rows, columns} <= {1, 2}


def _turn_constants(node: Any) -> None:
    constants = [put for put in node.inputs() if is_constant(put.get_source_output())]
    # Ranks are chosen between constants, and compared with one.
    are_ranks = node.get_type_name() == "Equal" or (node.get_type_name() == "Select" and len(constants) == 2)
    for put in constants:
        values = values_of(put.get_source_output())
        turned = values.transpose(0, 2, 3, 4, 5, 1) if values.ndim == 6 else values
        kind = openvino.Type.u8 if are_ranks else put.get_element_type()
        put.replace_source_output(opset13.constant(turned, dtype=kind).output(0))
