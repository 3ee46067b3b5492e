"""What a graph does last that the runtime does better: class ids, probabilities, the last upsampling."""

import dataclasses
from typing import NamedTuple

import numpy as np
import onnx

from export.adopting.editing import NCHW_FROM_NHWC, Editor, Shape, attribute, shown
from runtime.errors import GraphError
from runtime.spec import MOST_CLASSES, Upsample

LOGITS = "logits"
INTEGERS = tuple(
    getattr(onnx.TensorProto, name)
    for name in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
)
PASSES = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten")  # where no length but 1 changes
PROBABILITIES = ("Softmax", "LogSoftmax", "Sigmoid")
COMPARISONS = ("Greater", "GreaterOrEqual")


class Ending(NamedTuple):
    """How the adopted graph ends."""

    kind: str  # "logits", "binary" (one channel, class 1 above a threshold) or "ids" (that the graph makes itself)
    classes: int  # 0: of ids, that do not tell
    upsample: Upsample
    cut: tuple[str, ...]  # operators, the last one first


@dataclasses.dataclass
class _State:
    tensor: str
    cut: tuple[str, ...] = ()
    upsample: Upsample = "half_pixel"
    axis: int | None = None  # of the classes, once an ArgMax or Softmax told
    threshold: float | None = None  # of one channel, in units of the tensor
    is_decided: bool = False  # what gives ids was cut
    is_resized: bool = False


def take_ending(model: onnx.ModelProto, output: str, size: tuple[int, int], classes: int = 0) -> Ending:
    """Cut from a graph's end what the runtime does; its one output is float NCHW, called "logits", from then on.

    Args:
        model: simplified; it is changed.
        output: that segments.
        size: (height, width) of the network's input.
        classes: how many there are, for ids that the graph makes itself; 0: not known.

    Raises:
        GraphError: what is left is no map of at most 255 classes at a whole stride.
    """
    editor = Editor(model)
    editor.rename(LOGITS, f"{LOGITS}.inner")
    editor.refresh()
    output = f"{LOGITS}.inner" if output == LOGITS else output
    state = _peeled(editor, output, size)
    is_ids = {editor.kind(output), editor.kind(state.tensor)} & set(INTEGERS)
    if is_ids and not state.is_decided:
        if not classes:
            raise GraphError(f"the output {output} holds class ids, and nothing in the file tells how many: --classes")
        ending = Ending("ids", classes, "nearest", ())
        _end_ids(editor, output, size, classes)
    else:
        ending = _end_logits(editor, state, size)
    _finish(editor)
    return ending


def threshold_of(model: onnx.ModelProto, output: str) -> float:
    """Above which value of a one-channel output its pixel is of class 1, as the file gives it: 0.5 after a Sigmoid."""
    editor = Editor(model)
    node = editor.producer.get(output)
    while node is not None and node.op_type in PASSES:
        node = editor.producer.get(node.input[0])
    return 0.5 if node is not None and node.op_type == "Sigmoid" else 0.0


def gives_ids(model: onnx.ModelProto, output: str) -> bool:
    """Whether a float output holds whole numbers: an ArgMax, or other integers, cast to float."""
    editor = Editor(model)
    node = editor.producer.get(output)
    while node is not None and node.op_type in PASSES:
        if editor.kind(node.input[0]) in INTEGERS:
            return True
        node = editor.producer.get(node.input[0])
    return False


def _peeled(editor: Editor, output: str, size: tuple[int, int]) -> _State:
    state = _State(output)
    while (node := editor.producer.get(state.tensor)) is not None:
        done = (
            _peel_pass(editor, node, state)
            or _peel_decision(editor, node, state)
            or _peel_probability(editor, node, state, size)
            or _peel_resize(editor, node, state, size)
        )
        if not done or len(editor.readers.get(node.output[0], [])) > (0 if node.output[0] == output else 1):
            break
        state.cut = (*state.cut, node.op_type)
        state.tensor = node.input[0]
    return state


def _peel_pass(editor: Editor, node: onnx.NodeProto, state: _State) -> bool:
    before, after = editor.shape(node.input[0]), editor.shape(node.output[0])
    if node.op_type == "Transpose":
        perm = list(attribute(node, "perm", []))
        if len(perm) != 4 or perm[0] != 0:
            return False
        state.axis = None if state.axis is None else perm[state.axis]
        return perm[1:] in ([1, 2, 3], [2, 3, 1], [3, 1, 2]) and state.threshold is None
    if node.op_type not in PASSES or before is None or after is None or 0 in before:
        return False
    if node.op_type == "Cast" and editor.kind(node.input[0]) not in (*INTEGERS, onnx.TensorProto.FLOAT):
        return False
    # Ids that are cut from a float before anything decides would be rounded by nobody.
    is_rounding = node.op_type == "Cast" and not state.is_decided and editor.kind(node.output[0]) in INTEGERS
    if is_rounding and editor.kind(node.input[0]) == onnx.TensorProto.FLOAT:
        return False
    if node.op_type != "Cast" and state.axis is not None:
        return False
    return [length for length in before if length != 1] == [length for length in after if length != 1]


def _peel_decision(editor: Editor, node: onnx.NodeProto, state: _State) -> bool:
    shape = editor.shape(node.input[0])
    if state.is_decided or state.is_resized or shape is None:
        return False
    if node.op_type == "ArgMax" and len(shape) in (3, 4):
        axis = attribute(node, "axis", 0) % len(shape)
        if shape[axis] < 2 or attribute(node, "select_last_index", 0):
            return False
        state.axis, state.is_decided = axis + 4 - len(shape), True
        return len(shape) == 4 or axis == 0
    if node.op_type in COMPARISONS:
        value = editor.constant(node.input[1])
        if value is None or value.size != 1 or sum(length != 1 for length in shape) > 2:
            return False
        state.threshold, state.is_decided = float(value.ravel()[0]), True
        return True
    return False


def _peel_probability(editor: Editor, node: onnx.NodeProto, state: _State, size: tuple[int, int]) -> bool:
    # They keep the order of a pixel's classes, but not what is between pixels, where something is upsampled after.
    if node.op_type not in PROBABILITIES:
        return False
    shape = editor.shape(node.input[0]) or ()
    is_whole = not state.is_resized and tuple(length for length in shape if length in size)[-2:] == size
    if node.op_type == "Sigmoid":
        return _peel_sigmoid(state, is_one=1 in shape[1:], is_whole=is_whole)
    if not is_whole:
        return False
    axis = attribute(node, "axis", -1) % max(len(shape), 1)
    if len(shape) != 4 or axis not in (1, 3) or state.axis not in (None, axis):
        return False
    state.axis = axis
    return True


def _peel_sigmoid(state: _State, *, is_one: bool, is_whole: bool) -> bool:
    if not is_one:
        return is_whole
    share = 0.5 if state.threshold is None else state.threshold
    is_cut = is_whole and 0 < share < 1
    state.threshold = float(np.log(share / (1 - share))) if is_cut else share
    return is_cut


def _peel_resize(editor: Editor, node: onnx.NodeProto, state: _State, size: tuple[int, int]) -> bool:
    before, after = editor.shape(node.input[0]), editor.shape(node.output[0])
    if node.op_type != "Resize" or state.is_resized or before is None or after is None or len(after) != 4:
        return False
    mode, how = attribute(node, "mode", "nearest"), attribute(node, "coordinate_transformation_mode", "half_pixel")
    plain = not attribute(node, "antialias", 0) and not attribute(node, "exclude_outside", 0)
    names: dict[str, Upsample] = {
        "half_pixel": "half_pixel", "pytorch_half_pixel": "half_pixel", "align_corners": "align_corners",
    }  # fmt: skip
    if mode != "linear" or how not in names or not plain or before[:2] != after[:2] or after[2:] != size:
        return False
    if _stride(before[2:], size) is None or state.axis not in (None, 1):
        return False
    state.upsample, state.is_resized = names[how], True
    return True


def _stride(map_size: Shape, size: tuple[int, int]) -> int | None:
    for stride in {size[0] // max(map_size[0], 1), -(-size[0] // max(map_size[0], 1)), size[1] // max(map_size[1], 1)}:
        if stride and tuple(-(-side // stride) for side in size) == tuple(map_size):
            return stride
    return None


def stride_of(map_size: Shape, size: tuple[int, int]) -> int:
    """How many pixels of the input one logit stands for.

    Raises:
        GraphError: no whole number of them.
    """
    found = _stride(map_size, size)
    if found is None:
        raise GraphError(
            f"the logits are {shown(map_size)} for frames of {shown(size)}: at no whole stride. Give another --size"
        )
    return found


def channels_of(shape: Shape | None, size: tuple[int, int]) -> int | None:
    """The axis that classes lie on, of an output of this shape: 1, 3, or 0 of a map without; None: it segments not."""
    if shape is None or len(shape) not in (2, 3, 4):
        return None
    if len(shape) == 4 and _stride(shape[2:], size) and 1 <= shape[1] <= MOST_CLASSES:
        return 1
    if len(shape) == 4 and _stride(shape[1:3], size) and 1 <= shape[3] <= MOST_CLASSES:
        return 3
    if len(shape) == 3 and shape[0] > 1 and shape[0] <= MOST_CLASSES and _stride(shape[1:], size):
        return 1
    return 0 if len(shape) < 4 and shape[:-2] in ((), (1,)) and _stride(shape[-2:], size) else None


def _end_logits(editor: Editor, state: _State, size: tuple[int, int]) -> Ending:
    shape = editor.shape(state.tensor)
    axis = state.axis if state.axis is not None else channels_of(shape, size)
    if shape is None or axis is None:
        raise GraphError(f"the output {state.tensor} is {shown(shape)} for frames of {shown(size)}: no map of classes")
    tensor = _as_nchw(editor, state.tensor, shape, axis)
    shape = _nchw_shape(shape, axis)
    if shape[1] > MOST_CLASSES:
        raise GraphError(f"the output {state.tensor} has {shape[1]} channels, a mask holds at most {MOST_CLASSES}")
    stride_of(shape[2:], size)
    if shape[1] > 1:
        editor.rename(tensor, LOGITS)
        return Ending("logits", shape[1], state.upsample, state.cut)
    _end_binary(editor, tensor, state.threshold or 0.0)
    return Ending("binary", 2, state.upsample, state.cut)


def _nchw_shape(shape: Shape, axis: int) -> Shape:
    if len(shape) == 4:
        return tuple(shape[i] for i in NCHW_FROM_NHWC) if axis == 3 else shape
    return (1, shape[0], *shape[1:]) if axis else (1, 1, *shape[-2:])


def _as_nchw(editor: Editor, tensor: str, shape: Shape, axis: int) -> str:
    if len(shape) == 4 and axis == 3:
        return editor.append("Transpose", [tensor], f"{tensor}.nchw", perm=NCHW_FROM_NHWC)
    if len(shape) == 4:
        return tensor
    lengths = editor.add_constant(f"{tensor}.lengths", np.array(_nchw_shape(shape, axis), np.int64))
    return editor.append("Reshape", [tensor, lengths], f"{tensor}.nchw")


def _end_binary(editor: Editor, tensor: str, threshold: float) -> None:
    # Class 0 is a map of zeros, class 1 what is above the threshold: it is the larger one exactly there.
    if threshold:
        by = editor.add_constant(f"{tensor}.threshold", np.array(threshold, np.float32))
        tensor = editor.append("Sub", [tensor, by], f"{tensor}.above")
    pair = np.array([0, 1], np.float32).reshape(1, 2, 1, 1)
    editor.append("Mul", [tensor, editor.add_constant(f"{tensor}.pair", pair)], LOGITS)


def _end_ids(editor: Editor, output: str, size: tuple[int, int], classes: int) -> None:
    # 1 in the channel of its class: what every stage and kernel takes for logits, and is resized as the nearest.
    lengths = editor.add_constant("ids.lengths", np.array((1, 1, *_ids_size(editor.shape(output), size)), np.int64))
    wide = editor.append("Cast", [output], "ids.wide", to=onnx.TensorProto.INT64)
    column = editor.append("Reshape", [wide, lengths], "ids.map")
    every = editor.add_constant("ids.every", np.arange(classes, dtype=np.int64).reshape(1, -1, 1, 1))
    equal = editor.append("Equal", [column, every], "ids.equal")
    one, zero = (editor.add_constant(f"ids.{value}", np.array(value, np.float32)) for value in (1, 0))
    editor.append("Where", [equal, one, zero], LOGITS)


def _ids_size(shape: Shape | None, size: tuple[int, int]) -> tuple[int, int]:
    found = [] if shape is None else [length for length in shape if length != 1]
    wanted = [length for length in size if length != 1]
    if shape is None or len(found) > 2 or (found != wanted and _stride(tuple(found), size) is None):
        raise GraphError(f"the ids are {shown(shape)} for frames of {shown(size)}: no map of them")
    return (size[0], size[1]) if found == wanted else (found[0], found[1])


def _finish(editor: Editor) -> None:
    del editor.graph.output[:]
    editor.graph.output.append(onnx.helper.make_empty_tensor_value_info(LOGITS))
    editor.end_at([LOGITS])
    editor.model.CopyFrom(onnx.shape_inference.infer_shapes(editor.model, data_prop=True))
