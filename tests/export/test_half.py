from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.half import half_from_float
from runtime.errors import GraphError

# What a strongly typed FP16 graph may hold: values, the comparisons of an unpooling, and shapes.
FP16_TYPES = {TensorProto.FLOAT16, TensorProto.BOOL, TensorProto.INT64}


def small_graph(weight=1.0, resize="scales", extra=()):
    """A convolution and a resizing that has every float input the standard knows."""
    sizes = {"scales": ["roi", "scales"], "sizes": ["", "", "sizes"]}[resize]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        *extra,
        helper.make_node(
            "Resize", ["y", *sizes], ["z"], mode="linear", coordinate_transformation_mode="half_pixel", name="resize"
        ),
    ]
    tensors = {
        "w": np.full((2, 3, 1, 1), weight, np.float32),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "sizes": np.array([1, 2, 8, 8], np.int64),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2, 8, 8])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def types_of(model):
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_a_networks_graph_keeps_its_nodes_and_gets_no_cast(graph, name):
    full, half = graph(name).graph.node, graph(name, "fp16").graph.node
    assert [(node.op_type, list(node.input), list(node.output)) for node in half] == [
        (node.op_type, list(node.input), list(node.output)) for node in full
    ]
    assert "Cast" not in Counter(node.op_type for node in half)


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_every_tensor_of_a_networks_graph_is_float16(graph, name):
    bare = onnx.ModelProto()
    bare.CopyFrom(graph(name, "fp16"))
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    types, outputs = types_of(inferred), {out for node in inferred.graph.node for out in node.output if out}
    assert outputs <= types.keys() and set(types.values()) <= FP16_TYPES
    assert types["frame"] == types["logits"] == TensorProto.FLOAT16
    booleans = {node.output[0] for node in inferred.graph.node if node.op_type in ("GreaterOrEqual", "Equal")}
    assert {name for name, kind in types.items() if kind != TensorProto.FLOAT16} == booleans


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_only_resize_keeps_float32_inputs(graph, name):
    half = graph(name, "fp16").graph
    scales = {value for node in half.node if node.op_type == "Resize" for value in node.input[1:3] if value}
    floats = {tensor.name for tensor in half.initializer if tensor.data_type == TensorProto.FLOAT}
    assert floats <= scales
    assert {tensor.data_type for tensor in half.initializer} - {TensorProto.FLOAT} <= FP16_TYPES


@pytest.mark.parametrize("resize", ["scales", "sizes"])
def test_the_roi_and_scales_of_resize_stay_float32(resize):
    half = half_from_float(small_graph(resize=resize))
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    kept = (
        {"roi": TensorProto.FLOAT, "scales": TensorProto.FLOAT} if resize == "scales" else {"sizes": TensorProto.INT64}
    )
    assert types == {"w": TensorProto.FLOAT16, **kept}
    assert types_of(half) == dict.fromkeys("xyz", TensorProto.FLOAT16)
    session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.ones((1, 3, 4, 4), np.float16)})
    assert result.dtype == np.float16 and (result == 3).all()


def test_the_float32_graph_is_left_as_it_was():
    full = small_graph()
    before = full.SerializeToString()
    half_from_float(full)
    assert full.SerializeToString() == before


@pytest.mark.parametrize("weight", [65504.0, -65504.0, 0.0])
def test_a_weight_that_float16_holds_is_taken(weight):
    half = half_from_float(small_graph(weight))
    assert (numpy_helper.to_array(half.graph.initializer[0]) == np.float16(weight)).all()


@pytest.mark.parametrize("weight", [65536.0, -1e6, float("inf")])
def test_a_weight_beyond_float16_is_refused(weight):
    with pytest.raises(GraphError, match=r"weight w reaches .*float16 ends at 65504"):
        half_from_float(small_graph(weight))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Cast", ["y"], ["c"], to=TensorProto.FLOAT, name="odd"),
        helper.make_node("Constant", [], ["c"], value_float=1.0, name="odd"),
    ],
    ids=lambda node: node.op_type,
)
def test_a_node_whose_type_is_its_own_is_refused(node):
    with pytest.raises(GraphError, match=f"node odd is a {node.op_type}"):
        half_from_float(small_graph(extra=[node]))
