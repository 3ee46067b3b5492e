import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.gate_trial import TENSOR, with_idle_layers


def test_idle_layers_are_there_and_change_nothing():
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 4, 6, 8]) for name in ("x", TENSOR, "y")]
    weight = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float16)
    nodes = [helper.make_node("Relu", ["x"], [TENSOR]), helper.make_node("Conv", [TENSOR, "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", maps[:1], maps[2:], [numpy_helper.from_array(weight, "w")], None, maps[1:2])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    slowed = with_idle_layers(model, 3)
    assert [node.op_type for node in slowed.graph.node] == ["Relu", "Conv", "Conv", "Conv", "Conv"]
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 8)).astype(np.float16)
    outputs = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (model, slowed)
    ]
    assert np.array_equal(*outputs)
