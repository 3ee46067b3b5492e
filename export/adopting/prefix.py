"""What a graph does to the frame first: casts, axes, means. The runtime does it in the pass that resizes."""

from typing import NamedTuple

import numpy as np
import onnx

from export.adopting.editing import NCHW_FROM_NHWC, NHWC_FROM_NCHW, Editor, attribute

COLOURS = 3
FRAME = "frame"


class Prefix(NamedTuple):
    """What the graph does to a file's input before its first real layer: `value * gain + bias`, by the channels there.

    `taken` names its operators, in order; they are not in the graph any more.
    """

    gain: np.ndarray  # float64 (3,)
    bias: np.ndarray  # float64 (3,)
    is_flipped: bool  # whether it turns the channels' order
    taken: tuple[str, ...]


def take_prefix(model: onnx.ModelProto, name: str, layout: str) -> Prefix:
    """Cut from a graph's beginning what a `Preprocess` does; its input is float NCHW, called "frame", from then on.

    Args:
        model: simplified; it is changed.
        name: of its input.
        layout: NCHW or NHWC.

    Returns:
        What was cut, an identity where nothing was.
    """
    editor = Editor(model)
    found = _walked(editor, name, layout)
    at, where = found[-1] if found else (_start(), name)
    shape = editor.shape(name) or (0, 0, 0, 0)
    nchw = shape if layout == "NCHW" else tuple(shape[axis] for axis in NCHW_FROM_NHWC)
    if any(FRAME in (*node.input, *node.output) for node in model.graph.node) and where != FRAME:
        editor.rename(FRAME, f"{FRAME}.inner")
        name, where = (f"{each}.inner" if each == FRAME else each for each in (name, where))
    _start_at(editor, where, nchw, is_nhwc=not found and layout == "NHWC")
    return at


def fold_gain(model: onnx.ModelProto, gain: np.ndarray) -> bool:
    """Multiply the weights of every convolution that reads the frame with these gains, of its channels.

    Returns:
        Whether it could be done: nothing but convolutions of constant weights read the frame.
    """
    editor = Editor(model)
    readers = editor.readers.get(FRAME, [])
    weights = [editor.constant(node.input[1]) for node in readers if node.op_type == "Conv"]
    fitting = [weight for weight in weights if weight is not None and weight.ndim == 4 and weight.shape[1] == COLOURS]
    if not readers or len(fitting) != len(readers):
        return False
    for i, (node, weight) in enumerate(zip(readers, fitting, strict=True)):
        scaled = (weight * gain.reshape(1, COLOURS, 1, 1)).astype(weight.dtype)
        name = node.input[1] if len(editor.readers[node.input[1]]) == 1 else f"{node.input[1]}.of_frame{i}"
        for tensor in [tensor for tensor in editor.graph.initializer if tensor.name == name]:
            editor.graph.initializer.remove(tensor)
        node.input[1] = editor.add_constant(name, scaled)
    return True


def _start() -> Prefix:
    return Prefix(np.ones(COLOURS), np.zeros(COLOURS), False, ())


def _walked(editor: Editor, name: str, layout: str) -> list[tuple[Prefix, str]]:
    # What was seen up to each tensor that is NCHW and of positive gain.
    found: list[tuple[Prefix, str]] = []
    at = _start()
    while True:
        readers = editor.readers.get(name, [])
        step = _step(editor, readers[0], name, layout, at) if len(readers) == 1 else None
        if step is None or name in {value.name for value in editor.graph.output}:
            return found
        at, layout, name = step
        if layout == "NCHW" and (at.gain > 0).all() and editor.kind(name) == onnx.TensorProto.FLOAT:
            found.append((at, name))


def _step(editor: Editor, node: onnx.NodeProto, name: str, layout: str, at: Prefix) -> tuple[Prefix, str, str] | None:
    at = at._replace(taken=(*at.taken, node.op_type))
    if node.op_type in ("Cast", "Identity"):
        return at, layout, node.output[0]
    if node.op_type == "Transpose":
        turned = {"NHWC": (NCHW_FROM_NHWC, "NCHW"), "NCHW": (NHWC_FROM_NCHW, "NHWC")}[layout]
        return (at, turned[1], node.output[0]) if list(attribute(node, "perm", [])) == turned[0] else None
    axis = 1 if layout == "NCHW" else 3
    if node.op_type in ("Gather", "Slice"):
        if not _flips(editor, node, axis):
            return None
        turned_at = at._replace(gain=at.gain[::-1], bias=at.bias[::-1], is_flipped=not at.is_flipped)
        return turned_at, layout, node.output[0]
    changed = _arithmetic(editor, node, name, axis, at)
    return None if changed is None else (changed, layout, node.output[0])


def _arithmetic(editor: Editor, node: onnx.NodeProto, name: str, axis: int, at: Prefix) -> Prefix | None:
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    is_first = node.input[0] == name
    values = editor.constant(node.input[1] if is_first else node.input[0])
    by = None if values is None else _by_channel(values, axis)
    if by is None or (node.op_type in ("Sub", "Div") and not is_first) or (node.op_type == "Div" and not by.all()):
        return None
    if node.op_type in ("Add", "Sub"):
        return at._replace(bias=at.bias + (by if node.op_type == "Add" else -by))
    by = by if node.op_type == "Mul" else 1 / by
    return at._replace(gain=at.gain * by, bias=at.bias * by)


def _by_channel(values: np.ndarray, axis: int) -> np.ndarray | None:
    # One value for each channel; None where the values differ along another axis.
    if values.ndim > 4 or not np.isfinite(values).all():
        return None
    shape = (1,) * (4 - values.ndim) + values.shape
    if any(length != 1 for i, length in enumerate(shape) if i != axis) or shape[axis] not in (1, COLOURS):
        return None
    return np.broadcast_to(values.astype(np.float64).ravel(), (COLOURS,))


def _flips(editor: Editor, node: onnx.NodeProto, axis: int) -> bool:
    values = [editor.constant(name) for name in node.input[1:]]
    if any(value is None for value in values):
        return False
    given = [value.ravel().tolist() for value in values if value is not None]
    if node.op_type == "Gather":
        return attribute(node, "axis", 0) in (axis, axis - 4) and given[0] in ([2, 1, 0], [-1, -2, -3])
    if len(given) < 4:
        return False
    starts, ends, axes, steps = given[:4]
    return axes in ([axis], [axis - 4]) and steps == [-1] and starts[0] in (-1, 2) and ends[0] < -COLOURS


def _start_at(editor: Editor, where: str, nchw: tuple[int, ...], *, is_nhwc: bool) -> None:
    graph = editor.graph
    kept = [value for value in graph.input if value.name != graph.input[0].name]
    del graph.input[:]
    graph.input.append(onnx.helper.make_tensor_value_info(FRAME, onnx.TensorProto.FLOAT, nchw))
    graph.input.extend(kept)
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == where:
                node.input[i] = f"{FRAME}.nhwc" if is_nhwc else FRAME
    if is_nhwc:
        turn = onnx.helper.make_node(
            "Transpose", [FRAME], [f"{FRAME}.nhwc"], name=f"{FRAME}.Transpose", perm=NHWC_FROM_NCHW
        )
        graph.node.insert(0, turn)
    editor.end_at([value.name for value in graph.output])
    editor.infer()
