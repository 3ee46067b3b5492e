"""A foreign graph in the form that every stage takes: one opset, fixed sizes, float32, constants folded.

Source: measured on graphs of every common exporter; dropping, fixing, folding, converting and folding again gave the
same output for all of them.
"""

import logging
import re
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.inliner import inline_local_functions

from export.adopting.editing import Editor, attribute
from export.to_onnx import FOLDED_BYTES, OPSET
from runtime.errors import GraphError
from runtime.libraries import refusing

NUMBERED = re.compile(r"onnx::|\d+$|val_\d|_?/|.*Constant.*_output_\d")  # names that exporters give what has none
LEFT_OVER = ("If", "Loop", "Scan")
OUR_IR = 10  # that onnxruntime, OpenVINO and TensorRT read for this opset


def simplified(model: onnx.ModelProto, frame: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The same graph with its input at this shape, of our opset, in float32.

    Args:
        model: as it was read; it is left as it is.
        frame: its input.
        shape: of it, in its own layout.

    Raises:
        GraphError: it cannot be brought to that form; it says what of it.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if made.functions:
        made = inline_local_functions(made)
    _fix(made, frame, shape)
    _widen(made)
    made = _converted(_folded(made))
    _lift_constants(made)
    made = _folded(made)
    _lift_constants(made)
    _bypass(made)
    left = sorted({node.op_type for node in made.graph.node if node.op_type in LEFT_OVER})
    if left:
        raise GraphError(f"the graph decides while it runs ({', '.join(left)}): export it with fixed sizes")
    editor = Editor(made)
    editor.end_at([value.name for value in made.graph.output])
    editor.infer()
    return made


def name_layers(model: onnx.ModelProto) -> None:
    """Call each convolution's weight after its place in the network, where the exporter numbered it.

    Layers are named after their weights, wherever one is named: in messages, `--leave` and the sensitivity's table.
    """
    editor = Editor(model)
    taken = {tensor.name for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type not in ("Conv", "ConvTranspose") or editor.constant(node.input[1]) is None:
            continue
        place = re.sub(r"\.(Conv|ConvTranspose)(_\d+)?$", "", node.name.strip("/").replace("/", "."))
        name = f"{place}.weight"
        if NUMBERED.match(node.input[1]) and place and name not in taken:
            editor.rename(node.input[1], name)
            taken.add(name)


def _fix(model: onnx.ModelProto, frame: str, shape: tuple[int, ...]) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[len(kept) :]
    for i, value in enumerate(kept):
        model.graph.input[i].CopyFrom(value)
    for value in model.graph.input:
        if value.name == frame:
            del value.type.tensor_type.shape.dim[:]
            for length in shape:
                value.type.tensor_type.shape.dim.add().dim_value = length
    # What the exporter noted of other sizes must not be believed.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _widen(model: onnx.ModelProto) -> None:
    # Half precision becomes single: FP16 is made of it again with the types where this pipeline wants them.
    for tensor in model.graph.initializer:
        _widen_tensor(tensor)
    for node in model.graph.node:
        for each in node.attribute:
            if each.type == onnx.AttributeProto.TENSOR:
                _widen_tensor(each.t)
            elif node.op_type == "Cast" and each.name == "to" and each.i == TensorProto.FLOAT16:
                each.i = TensorProto.FLOAT
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript.optimizer import optimize

    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), refusing(GraphError, "the graph's constants cannot be folded"):
        warnings.simplefilter("ignore")
        return optimize(model, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES)


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    own = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if own != OPSET:
        with refusing(GraphError, f"the graph of opset {own} cannot be brought to {OPSET}", "; export it with that"):
            model = onnx.version_converter.convert_version(model, OPSET)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.ir_version = OUR_IR
    return model


def _lift_constants(model: onnx.ModelProto) -> None:
    kept = []
    for node in model.graph.node:
        values = _constant_of(node) if node.op_type == "Constant" else None
        if values is None:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
        else:
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constant_of(node: onnx.NodeProto) -> np.ndarray | None:
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                       ("value_ints", np.int64)):  # fmt: skip
        if (value := attribute(node, name)) is not None:
            return np.array(value, kind)
    tensor = attribute(node, "value")
    return None if tensor is None else numpy_helper.to_array(tensor)


def _bypass(model: onnx.ModelProto) -> None:
    # Identity, behind which shared biases stand, and casts to the type that is there, as widened halves have.
    editor = Editor(model)
    editor.infer()
    outputs = {value.name for value in model.graph.output}
    for node in list(model.graph.node):
        same = node.op_type == "Cast" and attribute(node, "to") == editor.kind(node.input[0])
        if (same or node.op_type == "Identity") and node.output[0] not in outputs:
            source = node.input[0]
            for reader in model.graph.node:
                for i, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[i] = source
    editor.refresh()
