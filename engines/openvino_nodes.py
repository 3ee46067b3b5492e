"""Nodes of an OpenVINO graph: what they are of, and others in their place."""

from typing import Any

import numpy as np
from openvino import opset13

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
CASTS = ("Convert", "Transpose")
# What takes values as they are, or the largest of some: bytes stay bytes.
KEEPS_BYTES = (*CASTS, "Reshape", "MaxPool", "Pad", "Slice", "Maximum")


def fake_quantize(
    source: Any, low: np.ndarray, high: np.ndarray, levels: int, codes: tuple[np.ndarray, np.ndarray] | None = None
) -> Any:
    """A source's output rounded to so many levels from low to high; given `codes`, as what the two ends become."""
    ends = [
        opset13.constant(values, dtype=source.get_element_type()) for values in (low, high, *(codes or (low, high)))
    ]
    return opset13.fake_quantize(source, *ends, levels).output(0)


def is_constant(source: Any) -> bool:
    """Whether a node's output is a constant, or one behind its conversion."""
    return origin(source, ("Convert",)) == "Constant"


def values_of(source: Any) -> np.ndarray:
    """The values, float32, of the constant that is first above a node's output."""
    node = source.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    values: np.ndarray = np.asarray(node.data, np.float32)
    return values


def origin(source: Any, passes: tuple[str, ...]) -> str:
    """The type of the first node above, along first inputs, that is none of these."""
    node = source.get_node()
    while node.get_type_name() in passes:
        node = node.input_value(0).get_node()
    name: str = node.get_type_name()
    return name


def kind_of(node: Any) -> Any:
    """The openvino.Type of what a node gives."""
    return node.get_output_element_type(0)


def as_type(source: Any, kind: Any) -> Any:
    """A source as an output of an openvino.Type: itself where it has that."""
    return source if source.get_element_type() == kind else opset13.convert(source, kind.to_string()).output(0)


def reshape(source: Any, shape: tuple[int, ...]) -> Any:
    """A source's values as an output of another shape."""
    return opset13.reshape(source, np.array(shape), False).output(0)


def slice_(source: Any, start: int, length: int) -> Any:
    """So many of the third axis, as an output."""
    return opset13.slice(source, *(np.array([value]) for value in (start, start + length, 1, 2))).output(0)


def replace(old: Any, new: Any) -> None:
    """Let what reads one node read another, which takes its name."""
    new.set_friendly_name(old.get_friendly_name())
    old.output(0).replace(new.output(0))
