import onnx
from onnx import helper

from export.last_upsample import tell_last_upsample, without_last_resize


def graph(*, last):
    nodes = [helper.make_node("Conv", ["frame", "w"], ["coarse"], pads=[0] * 4)]
    if last:
        nodes.append(helper.make_node("Resize", ["coarse", "", "", "size"], ["logits"], mode="linear"))
    size = helper.make_tensor("size", onnx.TensorProto.INT64, [4], [1, 2, 64, 64])
    w = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    frame = helper.make_tensor_value_info("frame", onnx.TensorProto.FLOAT, [1, 3, 16, 16])
    shape = [1, 2, 64, 64] if last else [1, 2, 16, 16]
    out = helper.make_tensor_value_info("logits" if last else "coarse", onnx.TensorProto.FLOAT, shape)
    made = helper.make_graph(nodes, "g", [frame], [out], [w, size])
    return helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def test_what_a_last_upsampling_costs_is_told(capsys):
    tell_last_upsample(graph(last=True))
    assert "its last layer upsamples the logits, " in capsys.readouterr().err
    assert [node.op_type for node in without_last_resize(graph(last=True)).graph.node] == ["Conv"]


def test_of_any_other_network_nothing_is_told(capsys):
    tell_last_upsample(graph(last=False))
    assert capsys.readouterr().err == ""
