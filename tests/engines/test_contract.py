"""A graph that does not give what its metadata say is refused before anything is built."""

import dataclasses

import onnx
import pytest
from onnx import TensorProto, helper

from engines.build import build_engine
from engines.contract import refuse_other_contract
from runtime.errors import GraphError
from runtime.labels import CITYSCAPES
from runtime.spec import to_json
from tests.helpers.graphs import tiny_graph, tiny_spec


def changed(change):
    model = onnx.load_from_string(tiny_graph())
    change(model)
    return model.SerializeToString()


def ends_in_argmax(model):
    model.graph.node.append(helper.make_node("ArgMax", ["logits"], ["mask"], axis=1, keepdims=0))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("mask", TensorProto.INT64, [1, 8, 16]))


def has_two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8, 16, 32]))


def takes_bytes(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def takes_another_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64


def takes_two_inputs(model):
    model.graph.input.append(helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, 1, 32, 64]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (ends_in_argmax, "the output mask of icnet's graph is int64, expected logits in float16 or float32"),
        (has_two_outputs, r"has 2 outputs \(logits, b\), expected one, of logits"),
        (takes_bytes, "the input frame of icnet's graph is uint8, expected frames in float16 or float32"),
        (takes_another_size, "the input frame of icnet's graph has the shape 1x3x64x64, its metadata say 1x3x32x64"),
        (takes_two_inputs, r"has 2 inputs \(frame, depth\), expected one, of frames"),
    ],
)
def test_a_graph_that_is_not_what_a_spec_is_of_is_one_line(change, told):
    with pytest.raises(GraphError, match=told):
        refuse_other_contract(changed(change), tiny_spec())


@pytest.mark.parametrize("field", [{"output_stride": 8}, {"output_stride": 1}, {"classes": CITYSCAPES}, {"block": 2}])
def test_metadata_of_another_graph_are_refused_before_anything_is_built(tmp_path, field):
    model = onnx.load_from_string(tiny_graph())
    helper.set_model_props(model, {"model_spec": to_json(dataclasses.replace(tiny_spec(), **field))})
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(
        GraphError, match="the output logits of icnet's graph has the shape 1x11x8x16, its metadata say"
    ):
        build_engine(tmp_path / "x.onnx", "fp32", "openvino", tmp_path / "engines")
    assert not list((tmp_path / "engines").glob("*.engine"))


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_the_spec_says_is_taken(block, batch):
    spec = tiny_spec(block=block, batch=batch)
    refuse_other_contract(tiny_graph(spec), spec)


@pytest.mark.parametrize("field", [{"output_stride": 8}, {"output_stride": 2}])
def test_a_shape_that_the_graph_leaves_open_is_held_to_the_metadata_when_it_is_known(tmp_path, field):
    model = onnx.load_from_string(tiny_graph())
    for name, dim in zip("ncyx", model.graph.output[0].type.tensor_type.shape.dim, strict=True):
        dim.dim_param = name
    helper.set_model_props(model, {"model_spec": to_json(dataclasses.replace(tiny_spec(), **field))})
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="graph gives logits of 1x11x8x16, its metadata say 1x11x"):
        build_engine(tmp_path / "x.onnx", "fp32", "openvino", tmp_path / "engines")
    assert not list((tmp_path / "engines").glob("*.engine"))
