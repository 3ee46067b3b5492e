"""A graph of one frame that takes any number of them: how many is left open, and each comes out as it does alone."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from export.check import FP16_MASK, street_frame
from runtime import reference
from runtime.commands import option
from runtime.errors import GraphError
from runtime.libraries import refusing
from runtime.spec import ModelSpec

BATCH = "batch"  # the name of the dimension that is left open


def free_batch(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same graph with its batch left open. What it computes from sizes alone stays: sizes are in its constants.

    Args:
        model: of one frame, traced at that batch; it stays as it is.
        name: of the network, for messages.

    Raises:
        GraphError: a node holds the batch in another form than is read here.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    shapes = _shapes(onnx.shape_inference.infer_shapes(model))
    for put in (*made.graph.input, *made.graph.output):
        put.type.tensor_type.shape.dim[0].dim_param = BATCH
    for node in _of_frames(made.graph):
        if node.op_type == "Reshape":
            _keep_first(made.graph, node, name)
        if node.op_type == "Resize" and len(node.input) > 3:
            _scale(made.graph, node, shapes, name)
    del made.graph.value_info[:]
    with refusing(GraphError, f"the graph of {name} holds its batch", f"; {_fixed()}"):
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)


def check_batch(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Hold the frames of a batch to themselves alone, on onnxruntime: the street, and the street upside down.

    Raises:
        GraphError: one comes out otherwise, or the graph takes no two frames.
    """
    import onnxruntime

    frame = reference.resize_frame(street_frame(), spec.preprocess.height, spec.preprocess.width)
    frames = [np.ascontiguousarray(each) for each in (frame, frame[::-1])]
    half = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    values = np.concatenate([reference.preprocess(each, spec.preprocess) for each in frames])
    values = values.astype(np.float16 if half else np.float32)
    with refusing(GraphError, f"the graph of {spec.name} takes no two frames", f"; {_fixed()}"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0].name
        together, *alone = (session.run(None, {given: each})[0] for each in (values, values[:1], values[1:]))
    if len(together) != len(frames):
        raise GraphError(f"the graph of {spec.name} gives {len(together)} maps for {len(frames)} frames; {_fixed()}")
    same = [float((a[0].argmax(0) == b.argmax(0)).mean()) for a, b in zip(alone, together, strict=True)]
    if min(same) < FP16_MASK:
        raise GraphError(
            f"the graph of {spec.name} mixes the frames of a batch: {min(same):.1%} of a mask is as of the frame "
            f"alone; {_fixed()}"
        )


def _fixed() -> str:
    return f"export it for a number of frames: {option('batch', 4)}"


def _of_frames(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    # Nodes whose first input comes from the frames.
    from_frames = {graph.input[0].name}
    for node in graph.node:
        if from_frames & set(node.input):
            from_frames.update(node.output)
            if node.input[0] in from_frames:
                yield node


def _keep_first(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> None:
    shape = _constant(graph, node.input[1])
    if shape is None or len(shape) < 2 or shape[0] != 1:
        raise GraphError(f"the graph of {name} holds its batch in node {node.name}; {_fixed()}")
    for attribute in [each for each in node.attribute if each.name == "allowzero"]:
        node.attribute.remove(attribute)
    node.input[1] = _added(graph, f"{node.output[0]}.shape", np.array([0, *shape[1:]], np.int64))


def _scale(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, list[int]], name: str) -> None:
    # TensorRT reads no sizes of two axes alone where the batch is open; scales do the same where they are exact.
    size, before = _constant(graph, node.input[3]), np.array(shapes.get(node.input[0], []), np.float32)
    if size is None or len(size) != len(before) or size[0] != 1:
        raise GraphError(f"the graph of {name} holds its batch in node {node.name}; {_fixed()}")
    scales = (size / before).astype(np.float32)
    if (np.floor(before * scales) != size).any():
        raise GraphError(f"the graph of {name} resizes by no exact scale in node {node.name}; {_fixed()}")
    del node.input[2:]
    node.input.append(_added(graph, f"{node.output[0]}.scales", scales))


def _constant(graph: onnx.GraphProto, tensor: str) -> np.ndarray | None:
    found = [each for each in graph.initializer if each.name == tensor]
    return numpy_helper.to_array(found[0]) if found else None


def _added(graph: onnx.GraphProto, tensor: str, values: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(values, tensor))
    return tensor


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {each.name: [side.dim_value for side in each.type.tensor_type.shape.dim] for each in values}
