"""Graphs whose batch is open: made of a graph of one frame, and held to that."""

import dataclasses
import importlib.util
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calib.graphs import spec_of
from engines import tensorrt_plan
from engines.contract import refuse_other_contract
from export import to_onnx
from export.open_batch import BATCH, check_batch, free_batch
from runtime.errors import GraphError
from runtime.spec import to_json
from tests.helpers.graphs import tiny_graph, tiny_spec

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
either_model = pytest.mark.parametrize("name", ["enet", "icnet"])


SPEC = tiny_spec(height=28, width=56)  # logits of 7x14


def tiny():
    return onnx.load_from_string(tiny_graph(SPEC))


def ending_in(*nodes, **constants):
    """The tiny graph, and these nodes after it; the last one gives `out`."""
    model = tiny()
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value), key) for key, value in constants.items())
    model.graph.output[0].name = "out"
    return model


@either_model
def test_a_network_takes_any_number_of_frames_each_as_it_is_alone(graph, name):
    one = graph(name, "fp16")
    freed = free_batch(one, name)
    for put in (freed.graph.input[0], freed.graph.output[0]):
        assert put.type.tensor_type.shape.dim[0].dim_param == BATCH
    assert Counter(node.op_type for node in freed.graph.node) == Counter(node.op_type for node in one.graph.node)
    check_batch(freed, spec_of(one))


def test_an_export_of_a_range_is_checked_open_and_says_so(monkeypatch, tmp_path):
    spec = dataclasses.replace(SPEC, batch=3, batch_free=True)
    monkeypatch.setattr(to_onnx, "loaded_network", lambda request, weights: (_Entry, None, spec))
    monkeypatch.setattr(to_onnx, "trace", lambda network, spec: tiny())
    monkeypatch.setattr("export.check.check_graph", lambda *given: "not compared here")
    made = to_onnx.build_graph(to_onnx.Request("icnet", batch=3, batch_free=True), None)
    made.metadata_props[0].value = to_json(spec)  # as `trace` writes it
    refuse_other_contract(made.SerializeToString(), spec)
    monkeypatch.setattr(to_onnx, "build_graph", lambda request, weights: made)
    path = to_onnx.export(to_onnx.Request("icnet", "fp32", 32, 64, 3, batch_free=True), None, tmp_path)
    assert path.name.startswith("icnet-fp32-32x64-b1-3-")


class _Entry:
    name, deploy, own, normalization = "icnet", None, False, None


def test_a_graph_that_mixes_its_frames_is_refused():
    mean = helper.make_node("ReduceMean", ["logits", "first"], ["mean"], keepdims=1)
    mixed = ending_in(mean, helper.make_node("Sub", ["logits", "mean"], ["out"]), first=np.array([0]))
    with pytest.raises(GraphError, match=r"icnet mixes the frames of a batch: \d+\.\d% of a mask.*: make onnx|BATCH=4"):
        check_batch(free_batch(mixed, "icnet"), SPEC)


@pytest.mark.parametrize(
    ("node", "constants", "said"),
    [
        (("Reshape", ["logits", "to"], ["out"]), {"to": [11, 7, 14]}, "holds its batch in node odd"),
        (("Resize", ["logits", "", "", "to"], ["out"]), {"to": [1, 11, 31, 14]}, "resizes by no exact scale"),
        (("Concat", ["logits", "logits"], ["out"]), {}, "icnet gives 4 maps for 2 frames"),
    ],
)
def test_a_graph_that_holds_its_batch_is_refused_in_one_line(node, constants, said):
    axis = {"axis": 0} if node[0] == "Concat" else {}
    model = ending_in(helper.make_node(*node, name="odd", **axis), **constants)
    with pytest.raises(GraphError, match=said) as error:
        check_batch(free_batch(model, "icnet"), SPEC)
    assert "\n" not in str(error.value) and "BATCH=4" in str(error.value)


@needs_rtx
@either_model
def test_tensorrt_rtx_plans_the_open_graph(graph, name):
    freed = free_batch(graph(name, "fp16"), name).SerializeToString()
    plan = tensorrt_plan.plan_of_ours(freed, name, 4)
    assert len(plan.kernels) > 50
    assert plan.kernels[0].reads[0].shape[:2] == (4, 4)  # frames, channels
