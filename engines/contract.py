"""Does a graph take and give what its ModelSpec says? A mask made by a wrong one looks like a mask."""

from typing import TYPE_CHECKING

from runtime.errors import GraphError
from runtime.spec import ModelSpec

if TYPE_CHECKING:  # what needs a graph has it loaded
    import onnx as onnx_package

Shape = tuple[int, ...]


def refuse_other_contract(onnx: bytes, spec: ModelSpec) -> None:
    """Hold a graph's one input and one output to the shapes and types of `ModelSpec`.

    Raises:
        GraphError: there are more of them, one is not float, or its shape is another one; it says which.
    """
    from calib.graphs import graph_from_bytes

    model = graph_from_bytes(onnx)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    _refuse_other(spec.name, "input", inputs, _input_shape(spec), "frames")
    _refuse_other(spec.name, "output", list(model.graph.output), _logits_shape(spec), "logits")


def refuse_other_logits(shape: Shape, spec: ModelSpec) -> None:
    """Hold what a graph really gave to its `ModelSpec`: a shape that the graph leaves open is known only then.

    Args:
        shape: of the logits as they left the graph, NCHW; of one frame or more.
        spec: of its metadata.

    Raises:
        GraphError: it is another.
    """
    if shape[1:] != _logits_shape(spec)[1:]:
        raise GraphError(
            f"{spec.name}'s graph gives logits of {_shown(shape)}, its metadata say {_shown(_logits_shape(spec))}: "
            "size, classes, output_stride or block are another graph's"
        )


def _input_shape(spec: ModelSpec) -> Shape:
    return (0 if spec.batch_free else spec.batch, 3, spec.preprocess.height, spec.preprocess.width)


def _logits_shape(spec: ModelSpec) -> Shape:
    stride = spec.output_stride * spec.block
    height, width = (-(-side // stride) for side in (spec.preprocess.height, spec.preprocess.width))
    return (0 if spec.batch_free else spec.batch, len(spec.classes) * spec.block**2, height, width)


def _refuse_other(name: str, which: str, values: list["onnx_package.ValueInfoProto"], shape: Shape, what: str) -> None:
    if len(values) != 1:
        names = ", ".join(value.name for value in values) or "none"
        raise GraphError(f"the graph of {name} has {len(values)} {which}s ({names}), expected one, of {what}")
    tensor = values[0].type.tensor_type
    kind, found = _type_name(tensor.elem_type), tuple(_length(length) for length in tensor.shape.dim)
    if kind not in ("float", "float16", "bfloat16"):
        raise GraphError(
            f"the {which} {values[0].name} of {name}'s graph is {kind}, expected {what} in float16 or float32"
            + (": a graph that ends in ArgMax gives no logits" if which == "output" else "")
        )
    if len(found) != len(shape) or any(
        length not in (expected, 0) for length, expected in zip(found, shape, strict=True)
    ):
        raise GraphError(
            f"the {which} {values[0].name} of {name}'s graph has the shape {_shown(found)}, its metadata say "
            f"{_shown(shape)}: size, classes, output_stride or block are another graph's"
        )


def _length(length: "onnx_package.TensorShapeProto.Dimension") -> int:
    return int(length.dim_value)  # 0: left open, the inference library finds it


def _shown(shape: Shape) -> str:
    return "x".join(str(length or "?") for length in shape)


def _type_name(kind: int) -> str:
    import onnx as onnx_package

    return onnx_package.TensorProto.DataType.Name(kind).lower()
