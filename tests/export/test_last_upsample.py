import onnx
import pytest
import torch
from onnx import helper

from export import check, last_upsample
from export.last_upsample import left_to_runtime
from export.to_onnx import Request, _without_last_upsample, loaded_network
from runtime.errors import GraphError
from runtime.labels import CAMVID
from runtime.spec import ModelSpec, from_json

SIZE = (64, 96)
UP = """
from torch import nn
NORMALIZATION, SIZE_MULTIPLE = "imagenet", 4
def build(classes):
    up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=%s)
    return nn.Sequential(nn.Conv2d(3, classes, 1, 4, bias=False), up)
"""


def graph(**resize):
    nodes = [helper.make_node("Conv", ["frame", "w"], ["coarse"], strides=[4, 4])]
    last = "logits" if resize else "coarse"
    if resize:
        softmax = resize.pop("softmax", False)
        made = "up" if softmax else "logits"
        nodes.append(helper.make_node("Resize", ["coarse", "", "", "size"], [made], **resize))
        nodes += [helper.make_node("Softmax", ["up"], ["logits"], axis=1)] if softmax else []
    nodes[-1].output[0] = "logits"
    size = helper.make_tensor("size", onnx.TensorProto.INT64, [4], [1, 2, *SIZE])
    w = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2, 3, 1, 1], [0.5] * 6)
    frame = helper.make_tensor_value_info("frame", onnx.TensorProto.FLOAT, [1, 3, *SIZE])
    shape = [1, 2, *SIZE] if last == "logits" else [1, 2, 16, 24]
    out = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)
    made = helper.make_graph(nodes, "g", [frame], [out], [w, size])
    return helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("how", "upsample"),
    [("half_pixel", "half_pixel"), ("pytorch_half_pixel", "half_pixel"), ("align_corners", "align_corners")],
)
def test_a_last_upsampling_that_the_runtime_does_is_cut_and_told(capsys, how, upsample):
    whole = graph(mode="linear", coordinate_transformation_mode=how)
    cut = left_to_runtime(whole, SIZE)
    assert [node.op_type for node in cut.graph.graph.node] == ["Conv"]
    assert (cut.output_stride, cut.upsample) == (4, upsample) and len(whole.graph.node) == 2
    said = capsys.readouterr().err
    assert f"upsamples the logits from 1/4 ({upsample}), " in said and "is left to the runtime" in said


@pytest.mark.parametrize(
    "resize",
    [{"mode": "nearest"}, {"mode": "cubic"}, {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}],
)
def test_another_one_stays_and_what_it_costs_is_told(capsys, resize):
    assert left_to_runtime(graph(**resize), SIZE) is None
    assert "in another way than the runtime, " in capsys.readouterr().err


def test_probabilities_and_what_is_not_upsampled_stay_as_they_are(capsys):
    assert left_to_runtime(graph(mode="linear", softmax=True), SIZE) is None
    assert left_to_runtime(graph(), SIZE) is None and capsys.readouterr().err == ""


@pytest.mark.parametrize("how", ["pytorch_half_pixel", "align_corners"])
def test_a_network_whose_upsampling_is_cut_gives_the_masks_of_the_network(tmp_path, monkeypatch, how):
    monkeypatch.setattr(last_upsample, "_share", lambda graph, cut: 0.5)
    (tmp_path / "net.py").write_text(UP % (how == "align_corners"))
    request = Request(f"{tmp_path}/net.py", height=SIZE[0], width=SIZE[1], classes=CAMVID[:2])
    entry, network, spec = loaded_network(request, None)
    whole = graph(mode="linear", coordinate_transformation_mode=how)
    whole.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(network[0].weight.detach().numpy(), "w"))
    cut, coarse = _without_last_upsample(whole, spec)
    assert (coarse.output_stride, coarse.upsample) == (4, how.removeprefix("pytorch_"))
    assert from_json(ModelSpec, cut.metadata_props[0].value) == coarse and len(cut.metadata_props) == 1
    assert check.check_graph(cut, network, entry.normalization, coarse).mask_agreement == 1.0
    with torch.no_grad(), pytest.raises(GraphError, match="is not its network"):
        network[0].weight.mul_(-1)
        check.check_graph(cut, network, entry.normalization, coarse)
