"""A graph in the layouts that OpenVINO's CPU plugin computes in: frames and maps with their channels last.

Every rewrite gives the same values. What it saves are passes over whole maps: the plugin transposes and pools the three
channels of an image value by value, and copies a map whenever it is viewed with its channels first.
"""

from functools import reduce
from math import ceil
from typing import Any

import numpy as np
import onnx
import openvino
from openvino import opset13

from runtime.cli import log

LEVELS = 127  # of INT8 weights on either side of zero
OFF_GRID = 0.1  # of a level: half precision puts a value on the grid off it by a sixteenth at most, but for subnormals
HALF_STEP = float(np.finfo(np.float16).smallest_subnormal)

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
CASTS = ("Convert", "Transpose")
# What takes values as they are, or the largest of some: bytes stay bytes.
KEEPS_BYTES = (*CASTS, "Reshape", "MaxPool", "Pad", "Slice", "Maximum")
# Of codes of one scale, by ONNX's names, these give codes of that scale again.
KEEPS_CODES = ("MaxPool", "Pad", "Slice", "Concat")


def quantize_once(graph: bytes) -> bytes:
    """An ONNX graph without the Q/DQ pairs of values that are on their grid already (`calib.placement`).

    The plugin would run such a pair as a pass over the map.
    """
    model = onnx.load_from_string(graph)
    producers = {name: node for node in model.graph.node for name in node.output}
    scales: dict[str, str] = {}  # of tensors whose values are on a grid
    kept: dict[str, str] = {}
    for node in model.graph.node:
        node.input[:] = [kept.get(name, name) for name in node.input]
        if node.op_type != "DequantizeLinear":
            continue
        scales[node.output[0]] = node.input[1]
        quantizer = producers.get(node.input[0])
        source = producers.get(quantizer.input[0]) if quantizer is not None else None
        if quantizer is None or source is None or source.op_type not in KEEPS_CODES:
            continue
        values = source.input if source.op_type == "Concat" else source.input[:1]
        if {scales.get(name) for name in values} == {node.input[1]}:
            kept[node.output[0]] = quantizer.input[0]
            scales[quantizer.input[0]] = node.input[1]
    return model.SerializeToString()


def read_in_blocks(model: Any) -> None:
    """Let convolutions of stride s read s columns of the frame as the channels of one, and pool the frame as bytes.

    Both are views of uint8 NHWC memory. What scales or shifts the frame before it reads it stays as it is.

    Args:
        model: an openvino.Model whose only input is uint8 (N, H, W, 3); it is changed.
    """
    frame = model.inputs[0].get_node().output(0)
    readers = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "MaxPool")]
    readers = [node for node in readers if _origin(node.input_value(0), CASTS) == "Parameter"]
    for node in readers:
        _fold_columns(node, frame) if node.get_type_name() == "Convolution" else _pool_bytes(node, frame)
    model.validate_nodes_and_infer_types()


def quantize_frame(model: Any) -> None:
    """Say of what reads the frame that it has 8 bits, and of its weights that they are on the INT8 grid already.

    Both quantizations change no value (`calib.placement`); told of them, the plugin runs these convolutions, the
    largest maps of the network, on the frame's own bytes instead of casting them first.

    Args:
        model: an openvino.Model whose only input is uint8 (N, H, W, 3); it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution" or _origin(node.input_value(0), KEEPS_BYTES) != "Parameter":
            continue
        values = _values(node.input_value(1))
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        largest[largest == 0] = 1
        codes = values / largest * LEVELS
        if np.any(np.abs(codes - np.rint(codes)) > OFF_GRID + LEVELS * HALF_STEP / largest):
            log(f"{node.get_friendly_name()} reads the frame and was left in FP16")
            continue
        ends = (np.zeros(()), np.full((), 255.0), 256), (-largest, largest, 2 * LEVELS + 1)
        for index, (low, high, levels) in enumerate(ends):
            quantized = _fake_quantize(node.input_value(index), low, high, levels)
            node.input(index).replace_source_output(quantized)
    model.validate_nodes_and_infer_types()


def view_windows(model: Any) -> None:
    """Turn views of a map by its windows, (N, C, h, 2, w, 2), to (N, h, 2, w, 2, C), with their ranks in bytes.

    With the channels last in memory the first is a copy and the second is none. The ranks are those of
    `export.models.layers.max_pool_2x2`, integers up to 4.

    Args:
        model: an openvino.Model; it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape":
            _view_channels_last(node)
        elif node.get_output_size() and len(node.get_output_partial_shape(0)) == 6:
            _turn_constants(node)
    model.validate_nodes_and_infer_types()


def _fold_columns(convolution: Any, frame: Any) -> None:
    # (O, 3, kh, kw) at stride (sh, sw) -> (O, sw * 3, kh, blocks) at (sh, 1), on the frame as (N, H, W / sw, sw * 3).
    options, weight = convolution.get_attributes(), _values(convolution.input_value(1))
    (down, step), (top, padding) = options["strides"], options["pads_begin"]
    width, colours = frame.get_shape()[2:]
    if step == 1 or width % step or options["dilations"][1] != 1:
        return
    taps = weight.shape[3]
    left, right = ceil(padding / step), (taps - 1 - padding) // step
    folded = np.zeros((len(weight), step, colours, weight.shape[2], left + 1 + right), np.float32)
    for tap in range(taps):
        block, column = divmod(tap - padding, step)
        folded[:, column, ..., left + block] = weight[..., tap]
    weight = folded.reshape(len(weight), step * colours, weight.shape[2], -1)
    last = convolution.get_output_shape(0)[3] - width // step + right  # as many as the frame has, if it is padded so
    begin, end, dilations = [top, left], [options["pads_end"][0], last], [options["dilations"][0], 1]
    blocks, constant = _blocks(frame, step, convolution), opset13.constant(weight, dtype=_kind(convolution))
    _replace(convolution, opset13.convolution(blocks, constant, [down, 1], begin, end, dilations))


def _pool_bytes(pool: Any, frame: Any) -> None:
    # Lines by a pooling of a map with a line's bytes as its channels; columns by the maximum of the lines and of the
    # lines moved by a pixel. Of the columns that a window covers the first then holds its maximum: the 1x1
    # convolutions that read it leave the others out.
    options, (n, height, width, colours) = pool.get_attributes(), frame.get_shape()
    (high, wide), (down, step) = options["kernel"], options["strides"]
    (top, padding), below = options["pads_begin"], options["pads_end"][0]
    readers = [put.get_node() for put in pool.output(0).get_target_inputs()]
    kinds = {(reader.get_type_name(), *_values(reader.input_value(1)).shape[2:]) for reader in readers}
    if kinds != {("Convolution", 1, 1)} or width % step:
        return
    line = width * colours
    flat = opset13.transpose(_reshape(frame, (n, height, 1, line)), np.array(CHANNELS_FIRST))
    pooled = opset13.max_pool(flat, [down, 1], [1, 1], [top, 0], [below, 0], [high, 1]).output(0)
    lines = _reshape(opset13.transpose(pooled, np.array(CHANNELS_LAST)).output(0), (n, -1, line))
    before, after = (np.array([0, 0, colours * columns]) for columns in (padding, wide - 1 - padding))
    padded = opset13.pad(lines, before, after, "constant", np.uint8(0)).output(0)
    moved = [_slice(padded, colours * column, line) for column in range(wide)]
    image = _reshape(reduce(lambda a, b: opset13.maximum(a, b).output(0), moved), (n, -1, width, colours))
    for reader in readers:
        weight = np.pad(_values(reader.input_value(1)), ((0, 0), (0, (step - 1) * colours), (0, 0), (0, 0)))
        blocks, constant = _blocks(image, step, reader), opset13.constant(weight, dtype=_kind(reader))
        _replace(reader, opset13.convolution(blocks, constant, [1, 1], [0, 0], [0, 0], [1, 1]))


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


def _turn_constants(node: Any) -> None:
    constants = [put for put in node.inputs() if _origin(put.get_source_output(), CASTS) == "Constant"]
    # Ranks are chosen between constants, and compared with one.
    are_ranks = node.get_type_name() == "Equal" or (node.get_type_name() == "Select" and len(constants) == 2)
    for put in constants:
        values = _values(put.get_source_output())
        turned = values.transpose(0, 2, 3, 4, 5, 1) if values.ndim == 6 else values
        kind = openvino.Type.u8 if are_ranks else put.get_element_type()
        put.replace_source_output(opset13.constant(turned, dtype=kind).output(0))


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


def _fake_quantize(source: Any, low: np.ndarray, high: np.ndarray, levels: int) -> Any:
    ends = [opset13.constant(values, dtype=source.get_element_type()) for values in (low, high, low, high)]
    return opset13.fake_quantize(source, *ends, levels).output(0)


def _values(source: Any) -> np.ndarray:
    node = source.get_node()
    while node.get_type_name() != "Constant":  # a half constant may stand behind its conversion
        node = node.input_value(0).get_node()
    values: np.ndarray = np.asarray(node.data, np.float32)
    return values
