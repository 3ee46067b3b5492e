"""The layers that OpenVINO executes for a frame, read from an engine's execution graph."""

from typing import Any

from runtime.backends.layer import Layer
from runtime.backends.openvino import compiled_engine
from runtime.spec import EngineManifest

ENDS = ("Input", "Output")
VIEWS = ("Reshape",)
RENAMED = "_fake"  # how the plugin ends the names of reorders and transposes that together move nothing
QUANTIZERS = ("FakeQuantize", "Quantize", "Dequantize")
MOVERS = ("Reorder", "Transpose", "Convert")  # to another type if input and output differ in it, else to another layout


def layers(engine: bytes, manifest: EngineManifest) -> list[Layer]:
    """Every layer on the way from the frame to the logits; what is made of weights once, at opening, is not.

    Raises:
        EngineError: OpenVINO refuses the engine, or runs it in other types than its manifest says.
        LibraryError: OpenVINO is not installed.
    """
    return frame_layers(compiled_engine(engine, manifest).get_runtime_model())


def frame_layers(graph: Any) -> list[Layer]:
    """The layers of an execution graph (openvino.Model) that depend on its input."""
    return [layer_of(node) for node in frame_nodes(graph)]


def frame_nodes(graph: Any) -> list[Any]:
    """The nodes of an execution graph that depend on its input, in their order; not the input and the output."""
    reached: set[str] = set()
    found = []
    for node in graph.get_ordered_ops():
        kind = node.get_rt_info()["layerType"].astype(str)
        sources = [port.get_source_output().get_node().get_friendly_name() for port in node.inputs()]
        if kind == "Input" or reached & set(sources):
            reached.add(node.get_friendly_name())
            if kind not in ENDS:
                found.append(node)
    return found


def layer_of(node: Any) -> Layer:
    """One node of an execution graph, as the gate counts it."""
    kind = node.get_rt_info()["layerType"].astype(str)
    if kind in VIEWS or node.get_friendly_name().endswith(RENAMED):
        return Layer("view", 0)
    return _layer(kind, [port.get_source_output() for port in node.inputs()], node.outputs())


def _layer(kind: str, sources: list[Any], outputs: list[Any]) -> Layer:
    moved = sum(map(_nbytes, sources)) + sum(map(_nbytes, outputs))
    if kind in MOVERS:
        same_type = sources[0].get_element_type() == outputs[0].get_element_type()
        return Layer("reorder" if same_type else "cast", moved)
    return Layer("quantizer" if kind in QUANTIZERS else "work", moved)


def _nbytes(tensor: Any) -> int:
    elements = 1
    for length in tensor.get_shape():
        elements *= int(length)
    return elements * int(tensor.get_element_type().bitwidth) // 8
