"""The graphs that `export.to_onnx` wrote, as this package reads them."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from runtime.artifacts import refuse_broken_seal
from runtime.commands import command
from runtime.errors import GraphError
from runtime.spec import ModelSpec, Precision, from_json

TYPES: dict[int, Precision] = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}


def load_graph(path: Path, precision: Precision) -> tuple[onnx.ModelProto, ModelSpec]:
    """A graph of ours and its spec.

    Raises:
        GraphError: missing, damaged, not ours, quantized already, or of another precision.
    """
    if not path.is_file():
        raise GraphError(
            f"graph {path} does not exist; export one: {command('onnx', model='icnet', precision=precision)}"
        )
    refuse_broken_seal(path)
    try:
        model = onnx.load(path)
        spec = from_json(ModelSpec, next(entry.value for entry in model.metadata_props if entry.key == "model_spec"))
    except (DecodeError, StopIteration, ValueError):
        raise GraphError(f"{path} is no graph of ours; export one: {command('onnx', precision=precision)}") from None
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    found = "int8" if quantized else TYPES.get(model.graph.input[0].type.tensor_type.elem_type, "of another type")
    if found != precision:
        raise GraphError(
            f"{path} is {found}, needed is {precision}: {command('onnx', model=spec.name, precision=precision)}"
        )
    return model, spec
