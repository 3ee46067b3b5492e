"""A graph in the layouts that OpenVINO's CPU plugin computes in: frames and maps with their channels last.

Every rewrite gives the same values, but for the order in which a convolution adds up folded columns. What it saves are
passes over whole maps: the plugin transposes and pools the three channels of an image value by value, and copies a map
whenever it is viewed with its channels first.
"""

from functools import reduce
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import openvino
from openvino import layout_helpers, opset13

from runtime.cli import log

LEVELS = 127  # of INT8 weights on either side of zero
OFF_GRID = 0.1  # of a level: half precision puts a value on the grid off it by a sixteenth at most, but for subnormals
HALF_STEP = float(np.finfo(np.float16).smallest_subnormal)

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
CASTS = ("Convert", "Transpose")
# What may lie between a convolution and a product of its map.
BETWEEN = (*CASTS, "Reshape", "FakeQuantize", "Relu", "PRelu", "Clamp", "Add", "Subtract", "Multiply")
# What takes values as they are, or the largest of some: bytes stay bytes.
KEEPS_BYTES = (*CASTS, "Reshape", "MaxPool", "Pad", "Slice", "Maximum")


def read_in_blocks(model: Any) -> None:
    """Let convolutions of stride s read s columns of the frame as the channels of one, and pool the frame as bytes.

    Both are views of uint8 NHWC memory, or of what a mean was taken off. What scales the frame before it reads it stays
    as it is.

    Args:
        model: an openvino.Model whose only input is uint8 (N, H, W, 3); it is changed.
    """
    for node in model.get_ordered_ops():
        if (image := _image(node)) is None:
            continue
        if node.get_type_name() == "Convolution":
            _fold_columns(node, image)
        elif node.get_type_name() == "MaxPool" and _mean(image) is None:
            _pool_bytes(node, image)
    model.validate_nodes_and_infer_types()


class Shifted(NamedTuple):
    """A convolution of bytes in place of bytes less a mean; what that makes of its outputs is still to be taken off."""

    convolution: Any
    mean: np.ndarray  # of each of its input channels


def quantize_frame(model: Any) -> list[Shifted]:
    """Say of what reads the frame that it has 8 bits, and of its weights that they are on the INT8 grid already.

    Both quantizations change no value (`calib.placement`); told of them, the plugin runs these convolutions, the
    largest maps of the network, on the frame's own bytes instead of casting them first. A mean that was taken off the
    frame goes into their bias. Their padding, which was the mean, is then the byte next to it: half a grey level off at
    most.

    Args:
        model: an openvino.Model whose only input is uint8 (N, H, W, 3); it is changed.

    Returns:
        For `take_off_means`, when nothing changes these convolutions' weights any more.
    """
    shifted = []
    for node in model.get_ordered_ops():
        if not _is_convolution(node):
            continue
        mean = _mean(_viewed(node.input_value(0)))
        if mean is None and _origin(node.input_value(0), KEEPS_BYTES) != "Parameter":
            continue
        values = values_of(node.input_value(1))
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        largest[largest == 0] = 1
        codes = values / largest * LEVELS
        if np.any(np.abs(codes - np.rint(codes)) > OFF_GRID + LEVELS * HALF_STEP / largest):
            log(f"{node.get_friendly_name()} reads the frame and was left in FP16")
            continue
        if mean is not None:
            shifted.append(_on_bytes(node, mean))
            node = shifted[-1].convolution
        ends = (np.zeros(()), np.full((), 255.0), 256), (-largest, largest, 2 * LEVELS + 1)
        for index, (low, high, levels) in enumerate(ends):
            quantized = fake_quantize(node.input_value(index), low, high, levels)
            node.input(index).replace_source_output(quantized)
    model.validate_nodes_and_infer_types()
    return shifted


def take_off_means(shifted: list[Shifted]) -> None:
    """Take off convolutions' outputs what the means are worth that nobody took off the frame any more."""
    for convolution, mean in shifted:
        inputs, kind = convolution.output(0).get_target_inputs(), _kind(convolution)
        worth = (values_of(convolution.input_value(1)) * mean.reshape(1, -1, 1, 1)).sum((1, 2, 3))
        # In float32: the two cancel each other.
        less = opset13.constant(-worth.reshape(1, -1, 1, 1).astype(np.float32))
        taken_off = opset13.add(opset13.convert(convolution, "f32"), less)
        for each in inputs:
            each.replace_source_output(opset13.convert(taken_off, kind.to_string()).output(0))


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
        _replace(node, opset13.transpose(product, np.array(CHANNELS_FIRST)))
    model.validate_nodes_and_infer_types()


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
    rows = _reshape(result.input_value(0), (n * height, width, channels))
    result.input(0).replace_source_output(opset13.convert(rows, "bf16").output(0))
    model.validate_nodes_and_infer_types()


def _fold_columns(convolution: Any, frame: Any) -> None:
    # (O, 3, kh, kw) at stride (sh, sw) -> (O, sw * 3, kh, blocks) at (sh, 1), on the frame as (N, H, W / sw, sw * 3).
    options, width = convolution.get_attributes(), frame.get_shape()[2]
    (down, step), (top, padding) = options["strides"], options["pads_begin"]
    if not _is_convolution(convolution) or step == 1 or width % step or options["dilations"][1] != 1:
        return
    folded, left, right = _folded(values_of(convolution.input_value(1)), step, padding)
    last = convolution.get_output_shape(0)[3] - width // step + right  # as many as the frame has, if it is padded so
    begin, end, dilations = [top, left], [options["pads_end"][0], last], [options["dilations"][0], 1]
    blocks, constant = _blocks(frame, step, convolution), opset13.constant(folded, dtype=_kind(convolution))
    _replace(convolution, opset13.convolution(blocks, constant, [down, 1], begin, end, dilations))


def _folded(weight: np.ndarray, step: int, padding: int) -> tuple[np.ndarray, int, int]:
    # The kernel over blocks of columns, and how many blocks it reaches to either side.
    outputs, colours, high, taps = weight.shape
    left, right = ceil(padding / step), (taps - 1 - padding) // step
    folded = np.zeros((outputs, step, colours, high, left + 1 + right), np.float32)
    for tap in range(taps):
        block, column = divmod(tap - padding, step)
        folded[:, column, ..., left + block] = weight[..., tap]
    return folded.reshape(outputs, step * colours, high, -1), left, right


def _pool_bytes(pool: Any, frame: Any) -> None:
    # Of the columns that a window covers the first gets its maximum: the 1x1 convolutions that read it leave the others
    # out.
    options, step = pool.get_attributes(), pool.get_attributes()["strides"][1]
    readers = [put.get_node() for put in pool.output(0).get_target_inputs()]
    n, _, height, width = pool.get_output_shape(0)
    colours = frame.get_shape()[3]
    if options["dilations"] != [1, 1] or width * step != frame.get_shape()[2] or not all(map(_is_pointwise, readers)):
        return
    lines = _pooled_lines(frame, options)
    if lines.get_shape()[1] != height:
        return
    image = _reshape(_pooled_columns(lines, options, colours), (n, height, width * step, colours))
    for reader in readers:
        weight = np.pad(values_of(reader.input_value(1)), ((0, 0), (0, (step - 1) * colours), (0, 0), (0, 0)))
        blocks, constant = _blocks(image, step, reader), opset13.constant(weight, dtype=_kind(reader))
        _replace(reader, opset13.convolution(blocks, constant, [1, 1], [0, 0], [0, 0], [1, 1]))


def _pooled_lines(frame: Any, options: dict[str, Any]) -> Any:
    # (N, H, W, 3) -> (N, H / stride, W * 3): a pooling of a map of one column, whose channels are a line's bytes.
    n, height, width, colours = frame.get_shape()
    flat = opset13.transpose(_reshape(frame, (n, height, 1, width * colours)), np.array(CHANNELS_FIRST))
    (step, _), (high, _) = options["strides"], options["kernel"]
    begin, end = [options["pads_begin"][0], 0], [options["pads_end"][0], 0]
    pooled = opset13.max_pool(flat, [step, 1], [1, 1], begin, end, [high, 1]).output(0)
    return _reshape(opset13.transpose(pooled, np.array(CHANNELS_LAST)).output(0), (n, -1, width * colours))


def _pooled_columns(lines: Any, options: dict[str, Any], colours: int) -> Any:
    # The maximum of the lines and of the lines moved by each of the window's columns.
    (_, wide), (_, padding), line = options["kernel"], options["pads_begin"], lines.get_shape()[2]
    before, after = (np.array([0, 0, colours * columns]) for columns in (padding, wide - 1 - padding))
    padded = opset13.pad(lines, before, after, "constant", np.uint8(0)).output(0)
    moved = [_slice(padded, colours * column, line) for column in range(wide)]
    return reduce(lambda a, b: opset13.maximum(a, b).output(0), moved)


def _blocks(image: Any, columns: int, reader: Any) -> Any:
    # Bytes (N, H, W, colours) -> (N, columns * colours, H, W / columns) in the reader's type, channels last in memory.
    n, height, width, colours = image.get_shape()
    view = _reshape(image, (n, height, width // columns, columns * colours))
    return opset13.transpose(opset13.convert(view, _kind(reader).to_string()), np.array(CHANNELS_FIRST)).output(0)


def _view_channels_last(node: Any) -> None:
    before, after = node.get_input_partial_shape(0), node.get_output_partial_shape(0)
    if (len(before), len(after)) == (4, 6):
        n, channels, *windows = after.to_shape()
        # Flat while it is transposed: the plugin takes no 4-D view of a sum that a convolution was fused with.
        moved = opset13.transpose(_reshape(node.input_value(0), (n, channels, -1)), np.array((0, 2, 1)))
        node.output(0).replace(_reshape(moved.output(0), (n, *windows, channels)))
    elif (len(before), len(after)) == (6, 4):
        n, channels, height, width = after.to_shape()
        whole = _reshape(node.input_value(0), (n, height, width, channels))
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


def _on_bytes(convolution: Any, mean: np.ndarray) -> Shifted:
    # Padded by joining bytes to it, as the plugin pads with zeros alone; where its zero points pad, it does so wrongly.
    n, channels, height, width = convolution.get_input_shape(0)
    means = np.tile(mean, channels // len(mean))
    options, near = convolution.get_attributes(), np.rint(means).astype(np.uint8)
    (top, left), (bottom, right) = options["pads_begin"], options["pads_end"]
    lines = _reshape(_frame_of(convolution), (n, height, width * channels))
    for axis, before, after in ((2, left, right), (1, top, bottom)):
        shape = [n, *lines.get_shape()[1:]]
        ends = []
        for count in (before, after):
            shape[axis] = count * (channels if axis == 2 else 1)
            ends.append([opset13.constant(np.resize(near, shape)).output(0)] * (count > 0))
        if before or after:
            lines = opset13.concat([*ends[0], lines, *ends[1]], axis).output(0)
    image = _reshape(lines, (n, height + top + bottom, width + left + right, channels))
    read = opset13.transpose(opset13.convert(image, _kind(convolution).to_string()), np.array(CHANNELS_FIRST))
    moved = [options["strides"], [0, 0], [0, 0], options["dilations"]]
    new = opset13.convolution(read, convolution.input_value(1), *moved)
    _replace(convolution, new)
    return Shifted(new, means)


def _image(node: Any) -> Any:
    # The output that a node reads with its channels first: the frame, or the frame less a mean.
    if not node.get_input_size():
        return None
    orders, source = [], node.input_value(0)
    while source.get_node().get_type_name() in CASTS:
        if source.get_node().get_type_name() == "Transpose":
            orders.append(tuple(map(int, values_of(source.get_node().input_value(1)))))
        source = source.get_node().input_value(0)
    is_frame = source.get_node().get_type_name() == "Parameter" or _mean(source) is not None
    return source if is_frame and orders == [CHANNELS_FIRST] else None


def _mean(source: Any) -> np.ndarray | None:
    # Float32 (3,), where this is the frame less a colour that a byte is next to.
    node = source.get_node()
    if node.get_type_name() != "Subtract" or _origin(node.input_value(0), ("Convert",)) != "Parameter":
        return None
    colours = node.get_output_shape(0)[-1]
    if not is_constant(node.input_value(1)) or tuple(node.get_input_shape(1)) != (1, 1, 1, colours):
        return None
    mean = values_of(node.input_value(1)).reshape(-1)
    return mean if np.all((mean >= 0) & (mean <= 255)) else None


def _viewed(source: Any) -> Any:
    # What is above views and casts of it.
    while source.get_node().get_type_name() in (*CASTS, "Reshape"):
        source = source.get_node().input_value(0)
    return source


def _frame_of(convolution: Any) -> Any:
    node = convolution
    while node.get_type_name() != "Parameter":
        node = node.input_value(0).get_node()
    return node.output(0)


def _is_convolution(node: Any) -> bool:
    return node.get_type_name() == "Convolution" and is_constant(node.input_value(1))


def _is_pointwise(node: Any) -> bool:
    if not _is_convolution(node) or tuple(node.get_input_shape(1))[2:] != (1, 1):
        return False
    options = node.get_attributes()
    return bool(options["strides"] == [1, 1] and not any([*options["pads_begin"], *options["pads_end"]]))


def is_constant(source: Any) -> bool:
    """Whether a node's output is a constant, or one behind its conversion."""
    return _origin(source, ("Convert",)) == "Constant"


def _origin(source: Any, passes: tuple[str, ...]) -> str:
    # The type of the first node above, along first inputs, that is none of these.
    node = source.get_node()
    while node.get_type_name() in passes:
        node = node.input_value(0).get_node()
    name: str = node.get_type_name()
    return name


def _kind(node: Any) -> Any:
    return node.get_output_element_type(0)


def _reshape(source: Any, shape: tuple[int, ...]) -> Any:
    return opset13.reshape(source, np.array(shape), False).output(0)


def _slice(source: Any, start: int, length: int) -> Any:
    return opset13.slice(source, *(np.array([value]) for value in (start, start + length, 1, 2))).output(0)


def _replace(old: Any, new: Any) -> None:
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))


def fake_quantize(
    source: Any, low: np.ndarray, high: np.ndarray, levels: int, codes: tuple[np.ndarray, np.ndarray] | None = None
) -> Any:
    """A source's output rounded to so many levels from low to high; given `codes`, as what the two ends become."""
    ends = [
        opset13.constant(values, dtype=source.get_element_type()) for values in (low, high, *(codes or (low, high)))
    ]
    return opset13.fake_quantize(source, *ends, levels).output(0)


def values_of(source: Any) -> np.ndarray:
    """The values, float32, of the constant that is first above a node's output."""
    node = source.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    values: np.ndarray = np.asarray(node.data, np.float32)
    return values
