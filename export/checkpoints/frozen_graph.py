"""TensorFlow's frozen graph (.pb), read with protobuf through the few fields that hold its constants."""

from pathlib import Path

import numpy as np
import torch

from export.checkpoints.caffemodel import message_class

# tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto; what is not listed is skipped.
FIELDS = {
    "Dim": [("size", 1, "int64")],
    "TensorShapeProto": [("dim", 2, "repeated Dim")],
    "TensorProto": [
        ("dtype", 1, "int32"), ("tensor_shape", 2, "TensorShapeProto"), ("tensor_content", 4, "bytes"),
        ("float_val", 5, "packed float"),
    ],
    "AttrValue": [("tensor", 8, "TensorProto")],
    "AttrEntry": [("key", 1, "bytes"), ("value", 2, "AttrValue")],
    "NodeDef": [("name", 1, "bytes"), ("op", 2, "bytes"), ("attr", 5, "repeated AttrEntry")],
    "GraphDef": [("node", 1, "repeated NodeDef")],
}  # fmt: skip
FLOAT = 1


def read_frozen_graph(path: Path) -> dict[str, torch.Tensor]:
    """The float constants of more than one value, by their nodes' names.

    Raises:
        ValueError: it is no such file, is cut, or a constant has not as many values as its shape says.
    """
    from google.protobuf.message import DecodeError

    graph = message_class("tensorflow", FIELDS, "GraphDef")()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"protobuf cannot read it: {error}") from None
    tensors = {}
    for node in graph.node:
        tensor = next((entry.value.tensor for entry in node.attr if entry.key == b"value"), None)
        if node.op == b"Const" and tensor is not None and tensor.dtype == FLOAT and tensor.tensor_shape.dim:
            name = node.name.decode("utf-8", "replace")
            tensors[name] = torch.from_numpy(_array(tensor, name))
    if not tensors:
        raise ValueError("it holds no constants")
    return tensors


def _array(tensor: "object", name: str) -> np.ndarray:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)  # type: ignore[attr-defined]
    content, listed = tensor.tensor_content, tensor.float_val  # type: ignore[attr-defined]
    values = np.frombuffer(content, "<f4") if content else np.array(listed, np.float32)
    if min(shape) < 0:
        raise ValueError(f"constant {name!r} has the shape {shape}")
    count = int(np.prod(shape))
    if len(values) == 1 < count and not content:
        values = np.full(count, values[0])  # one value stands for all
    if len(values) != count:
        raise ValueError(f"{len(values)} values of constant {name!r} are not of shape {shape}")
    return values.reshape(shape).astype(np.float32)
