"""What reads the frame, in OpenVINO's graph: bytes with their channels last, as they lie in memory.

Every rewrite gives the same values, but for the order in which a convolution adds up folded columns. What it saves are
passes over whole images: the plugin transposes and pools the three channels of an image value by value.
"""

from functools import reduce
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from openvino import opset13

from engines.openvino_nodes import (
    CASTS,
    CHANNELS_FIRST,
    CHANNELS_LAST,
    KEEPS_BYTES,
    fake_quantize,
    is_constant,
    kind_of,
    origin,
    replace,
    reshape,
    slice_,
    values_of,
)
from runtime.cli import log
from runtime.cpu import cpu_features, max_isa
from runtime.spec import Precision

LEVELS = 127  # of INT8 weights on either side of zero
OFF_GRID = 0.1  # of a level: half precision puts a value on the grid off it by a sixteenth at most, but for subnormals
HALF_STEP = float(np.finfo(np.float16).smallest_subnormal)
BYTES_AT_ONCE, BYTES_OF_A_TILE = 4, 64  # that an instruction multiplies for one output, without AMX and with


def read_in_blocks(model: Any, lanes: int) -> None:
    """Let convolutions of stride s read s columns of the frame as the channels of one, and pool the frame as bytes.

    Both are views of uint8 NHWC memory, or of what a mean was taken off. What scales the frame before it reads it stays
    as it is, and so does a convolution that would multiply more: a 3x3 kernel at stride 2 is one of 3x4 then.

    Args:
        model: an openvino.Model whose only input is uint8 (N, H, W, 3); it is changed.
        lanes: how many channels are multiplied at once, as `lanes_of` tells.
    """
    for node in model.get_ordered_ops():
        if (image := _image(node)) is None:
            continue
        if node.get_type_name() == "Convolution":
            _fold_columns(node, image, lanes)
        elif node.get_type_name() == "MaxPool" and _mean(image) is None:
            _pool_bytes(node, image)
    model.validate_nodes_and_infer_types()


def lanes_of(precision: Precision) -> int:
    """How many channels an instruction of this CPU multiplies at once, of one output.

    As many as there may be in float: there what reads three channels has the whole image transposed for it, which
    costs more than what blocks multiply more.

    Source: Intel's instructions `vpdpbusd` and `vpmaddubsw`, and AMX's tiles of 64 bytes a row.
    """
    has_tiles = "amx_int8" in cpu_features() and (not max_isa() or "amx" in max_isa())
    return BYTES_AT_ONCE if precision == "int8" and not has_tiles else BYTES_OF_A_TILE


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
        if mean is None and origin(node.input_value(0), KEEPS_BYTES) != "Parameter":
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
        inputs, kind = convolution.output(0).get_target_inputs(), kind_of(convolution)
        worth = (values_of(convolution.input_value(1)) * mean.reshape(1, -1, 1, 1)).sum((1, 2, 3))
        # In float32: the two cancel each other.
        less = opset13.constant(-worth.reshape(1, -1, 1, 1).astype(np.float32))
        taken_off = opset13.add(opset13.convert(convolution, "f32"), less)
        for each in inputs:
            each.replace_source_output(opset13.convert(taken_off, kind.to_string()).output(0))


def _fold_columns(convolution: Any, frame: Any, lanes: int) -> None:
    # (O, 3, kh, kw) at stride (sh, sw) -> (O, sw * 3, kh, blocks) at (sh, 1), on the frame as (N, H, W / sw, sw * 3).
    options, width = convolution.get_attributes(), frame.get_shape()[2]
    (down, step), (top, padding) = options["strides"], options["pads_begin"]
    if not _is_convolution(convolution) or step == 1 or width % step or options["dilations"][1] != 1:
        return
    weight = values_of(convolution.input_value(1))
    folded, left, right = _folded(weight, step, padding)
    if _products(folded, lanes) > _products(weight, lanes):
        return
    last = convolution.get_output_shape(0)[3] - width // step + right  # as many as the frame has, if it is padded so
    begin, end, dilations = [top, left], [options["pads_end"][0], last], [options["dilations"][0], 1]
    blocks, constant = _blocks(frame, step, convolution), opset13.constant(folded, dtype=kind_of(convolution))
    replace(convolution, opset13.convolution(blocks, constant, [down, 1], begin, end, dilations))


def _folded(weight: np.ndarray, step: int, padding: int) -> tuple[np.ndarray, int, int]:
    # The kernel over blocks of columns, and how many blocks it reaches to either side.
    outputs, colours, high, taps = weight.shape
    left, right = ceil(padding / step), (taps - 1 - padding) // step
    folded = np.zeros((outputs, step, colours, high, left + 1 + right), np.float32)
    for tap in range(taps):
        block, column = divmod(tap - padding, step)
        folded[:, column, ..., left + block] = weight[..., tap]
    return folded.reshape(outputs, step * colours, high, -1), left, right


def _products(weight: np.ndarray, lanes: int) -> int:
    _, channels, high, wide = weight.shape
    return ceil(channels / lanes) * high * wide


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
    image = reshape(_pooled_columns(lines, options, colours), (n, height, width * step, colours))
    for reader in readers:
        weight = np.pad(values_of(reader.input_value(1)), ((0, 0), (0, (step - 1) * colours), (0, 0), (0, 0)))
        blocks, constant = _blocks(image, step, reader), opset13.constant(weight, dtype=kind_of(reader))
        replace(reader, opset13.convolution(blocks, constant, [1, 1], [0, 0], [0, 0], [1, 1]))


def _pooled_lines(frame: Any, options: dict[str, Any]) -> Any:
    # (N, H, W, 3) -> (N, H / stride, W * 3): a pooling of a map of one column, whose channels are a line's bytes.
    n, height, width, colours = frame.get_shape()
    flat = opset13.transpose(reshape(frame, (n, height, 1, width * colours)), np.array(CHANNELS_FIRST))
    (step, _), (high, _) = options["strides"], options["kernel"]
    begin, end = [options["pads_begin"][0], 0], [options["pads_end"][0], 0]
    pooled = opset13.max_pool(flat, [step, 1], [1, 1], begin, end, [high, 1]).output(0)
    return reshape(opset13.transpose(pooled, np.array(CHANNELS_LAST)).output(0), (n, -1, width * colours))


def _pooled_columns(lines: Any, options: dict[str, Any], colours: int) -> Any:
    # The maximum of the lines and of the lines moved by each of the window's columns.
    (_, wide), (_, padding), line = options["kernel"], options["pads_begin"], lines.get_shape()[2]
    before, after = (np.array([0, 0, colours * columns]) for columns in (padding, wide - 1 - padding))
    padded = opset13.pad(lines, before, after, "constant", np.uint8(0)).output(0)
    moved = [slice_(padded, colours * column, line) for column in range(wide)]
    return reduce(lambda a, b: opset13.maximum(a, b).output(0), moved)


def _blocks(image: Any, columns: int, reader: Any) -> Any:
    # Bytes (N, H, W, colours) -> (N, columns * colours, H, W / columns) in the reader's type, channels last in memory.
    n, height, width, colours = image.get_shape()
    view = reshape(image, (n, height, width // columns, columns * colours))
    return opset13.transpose(opset13.convert(view, kind_of(reader).to_string()), np.array(CHANNELS_FIRST)).output(0)


def _on_bytes(convolution: Any, mean: np.ndarray) -> Shifted:
    # Padded by joining bytes to it, as the plugin pads with zeros alone; where its zero points pad, it does so wrongly.
    n, channels, height, width = convolution.get_input_shape(0)
    means = np.tile(mean, channels // len(mean))
    options, near = convolution.get_attributes(), np.rint(means).astype(np.uint8)
    (top, left), (bottom, right) = options["pads_begin"], options["pads_end"]
    lines = reshape(_frame_of(convolution), (n, height, width * channels))
    for axis, before, after in ((2, left, right), (1, top, bottom)):
        shape = [n, *lines.get_shape()[1:]]
        ends = []
        for count in (before, after):
            shape[axis] = count * (channels if axis == 2 else 1)
            ends.append([opset13.constant(np.resize(near, shape)).output(0)] * (count > 0))
        if before or after:
            lines = opset13.concat([*ends[0], lines, *ends[1]], axis).output(0)
    image = reshape(lines, (n, height + top + bottom, width + left + right, channels))
    read = opset13.transpose(opset13.convert(image, kind_of(convolution).to_string()), np.array(CHANNELS_FIRST))
    moved = [options["strides"], [0, 0], [0, 0], options["dilations"]]
    new = opset13.convolution(read, convolution.input_value(1), *moved)
    replace(convolution, new)
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
    if node.get_type_name() != "Subtract" or origin(node.input_value(0), ("Convert",)) != "Parameter":
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
