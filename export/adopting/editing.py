"""What every step of an adoption asks of a graph and does to it."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Shape = tuple[int, ...]
NCHW_FROM_NHWC, NHWC_FROM_NCHW = [0, 3, 1, 2], [0, 2, 3, 1]


class Editor:
    """A graph, by names; what it holds of producers and readers is as old as the last `refresh`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.refresh()

    def refresh(self) -> None:
        """Look at the graph again, after it was changed."""
        self.producer = {name: node for node in self.graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self._values = {value.name: value for value in (*self.graph.value_info, *self.graph.input, *self.graph.output)}

    def infer(self) -> None:
        """Shapes and types of every tensor, as far as ONNX knows them."""
        del self.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(self.model, data_prop=True)
        self.graph.value_info.extend(inferred.graph.value_info)
        self.refresh()

    def constant(self, name: str) -> np.ndarray | None:
        """The values of an initializer; None for what is computed."""
        tensor = self._tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def shape(self, name: str) -> Shape | None:
        """The lengths of a tensor, 0 where one is not known; None where not even their number is."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        value = self._values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return tuple(int(length.dim_value) for length in value.type.tensor_type.shape.dim)

    def kind(self, name: str) -> int:
        """The element type of a tensor; 0 where it is not known."""
        if name in self._tensors:
            return int(self._tensors[name].data_type)
        return int(self._values[name].type.tensor_type.elem_type) if name in self._values else 0

    def add_constant(self, name: str, values: np.ndarray) -> str:
        """A new initializer."""
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def append(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A new last node; its output."""
        self.graph.node.append(helper.make_node(kind, inputs, [output], name=f"{output}.{kind}", **attributes))
        return output

    def rename(self, before: str, after: str) -> None:
        """A tensor's name, wherever it is written."""
        for node in self.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == before:
                        names[i] = after
        for value in (*self.graph.input, *self.graph.output, *self.graph.initializer):
            if value.name == before:
                value.name = after

    def end_at(self, outputs: list[str]) -> None:
        """Drop what none of these tensors is made from, and initializers that nothing reads."""
        needed, kept = set(outputs), []
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        tensors = [t for t in self.graph.initializer if t.name in needed]
        tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors]
        for field, items in ((self.graph.node, nodes), (self.graph.initializer, tensors)):
            del field[:]
            field.extend(items)  # type: ignore[arg-type]
        self.refresh()


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value, text as str."""
    found = next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)
    return found.decode() if isinstance(found, bytes) else found


def shown(shape: Shape | None) -> str:
    """A shape as messages tell it."""
    return "?" if shape is None else "x".join(str(length or "?") for length in shape) or "one value"
