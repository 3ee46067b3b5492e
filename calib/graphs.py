"""The graphs that `export.to_onnx` wrote, as this package reads them."""

from pathlib import Path

import onnx

from runtime.artifacts import refuse_broken_seal
from runtime.commands import command, network_options
from runtime.errors import GraphError
from runtime.libraries import refusing
from runtime.spec import ModelSpec, Precision, from_json

TYPES: dict[int, Precision] = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}


def graph_from_bytes(onnx_bytes: bytes) -> onnx.ModelProto:
    """An ONNX file, whoever wrote it; what it keeps in other files is not read.

    Raises:
        GraphError: it is none.
    """
    with refusing(GraphError, "the graph is not an ONNX file", f"; export one: {command('onnx', model='icnet')}"):
        return onnx.load_from_string(onnx_bytes)


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    """The ModelSpec in a graph's metadata.

    Raises:
        GraphError: there is none of ours.
    """
    found = [entry.value for entry in model.metadata_props if entry.key == "model_spec"]
    try:
        return from_json(ModelSpec, found[0])
    except (IndexError, ValueError) as error:
        why = str(error) if found else "none there"
        raise GraphError(f"the graph's metadata hold no ModelSpec of ours ({why})") from None


def precision_of(model: onnx.ModelProto) -> Precision | None:
    """The precision that a strongly typed graph is written in; None where it is none of ours."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    if not model.graph.input:
        return None
    return TYPES.get(model.graph.input[0].type.tensor_type.elem_type)


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
        model = graph_from_bytes(path.read_bytes())
        spec = spec_of(model)
    except GraphError:
        raise GraphError(f"{path} is no graph of ours; export one: {command('onnx', precision=precision)}") from None
    found = precision_of(model) or "of another type"
    if found != precision:
        raise GraphError(f"{path} is {found}, needed is {precision}: {_made_by(spec, precision)}")
    return model, spec


def _made_by(spec: ModelSpec, precision: Precision) -> str:
    named = network_options(spec.name, spec.source)
    if "onnx" in named:
        return f"python -m export.adopt {named['onnx']} --precision {precision}"
    return command("onnx", **named, precision=precision)
