"""Both forms of a graph give the same values, by onnxruntime; the layouts are worth what the plan says."""

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import tensorrt_plan
from engines.tensorrt_layout import rewritten
from runtime.errors import GraphError
from tests.helpers.graphs import tiny_graph

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
SIDES = (8, 12)


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small(nodes, weights):
    """A network of these nodes from "frame" (1, 3, 8, 12) to "logits"."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, [1, 3, *SIDES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def result(model, frame):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph as it stands
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"frame": frame})[0]


def assert_same(model, frame):
    made = rewritten(model)
    onnx.checker.check_model(made, full_check=True)
    anything = np.full_like(frame[:, :1], 7)  # the fourth channel is left out, whatever is in it
    np.testing.assert_array_equal(result(made, np.concatenate((frame, anything), 1)), result(model, frame))
    return made


def conv(source, weight, result, **options):
    return helper.make_node("Conv", [source, weight], [result], name=result, **options)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_a_shipped_network_gives_the_same_logits_in_both_forms(shipped, name, precision):
    model = onnx.load(shipped(name, precision))
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    made = assert_same(model, (60 * values((1, 3, 64, 128))).astype(kind))
    assert not any(node.op_type in ("PRelu", "Slice") and "frame" in node.input for node in made.graph.node)
    assert not any(node.op_type == "PRelu" for node in made.graph.node)
    assert made.metadata_props == model.metadata_props


@pytest.mark.parametrize(
    ("nodes", "weights", "slices"),
    [
        ([conv("frame", "w", "logits")], {"w": values((5, 3, 3, 3))}, 0),
        ([helper.make_node("Relu", ["frame"], ["logits"])], {}, 1),
        ([conv("frame", "w", "logits", group=3)], {"w": values((3, 1, 3, 3))}, 1),
        (
            [
                helper.make_node("AveragePool", ["frame"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                conv("p", "w", "logits"),
            ],
            {"w": values((5, 3, 1, 1))},
            0,
        ),
        (
            [
                helper.make_node("MaxPool", ["frame"], ["p"], kernel_shape=[2, 2], strides=[1, 1]),
                conv("p", "w", "a"),
                helper.make_node("Relu", ["p"], ["b"]),
                conv("b", "v", "c"),
                helper.make_node("Add", ["a", "c"], ["logits"]),
            ],
            {"w": values((5, 3, 1, 1)), "v": values((5, 3, 1, 1), 1)},
            1,
        ),
        (
            [
                conv("frame", "w", "a"),
                helper.make_node("Relu", ["frame"], ["b"]),
                conv("b", "w", "c"),
                helper.make_node("Add", ["a", "c"], ["logits"]),
            ],
            {"w": values((5, 3, 1, 1))},
            1,
        ),
        (
            [
                conv("frame", "w", "a"),
                conv("frame", "w", "b"),
                helper.make_node("Add", ["a", "b"], ["logits"]),
            ],
            {"w": values((5, 3, 1, 1))},
            0,
        ),
    ],
    ids=["conv", "no conv", "groups", "pool", "a pool of two readers", "a weight of two maps", "two of one weight"],
)
def test_whatever_reads_the_frame_sees_three_channels(nodes, weights, slices):
    made = assert_same(small(nodes, weights), values((1, 3, *SIDES)))
    assert sum(node.op_type == "Slice" for node in made.graph.node) == slices


@pytest.mark.parametrize("slope", [(1, 3, 1, 1), (3, 1, 1), (1,), (1, 3, 8, 12)])
def test_a_prelu_of_any_slope_is_two_relus(slope):
    node = helper.make_node("PRelu", ["frame", "a"], ["logits"])
    frame = values((1, 3, *SIDES))
    frame[0, 0, 0, :4] = 0, -0.0, np.inf, -np.inf
    model = small([node], {"a": values(slope, 1)})
    made = rewritten(model)
    padded = np.concatenate((frame, frame[:, :1]), 1)
    np.testing.assert_array_equal(result(made, padded), result(model, frame))


def test_the_graph_that_is_given_stays_as_it_is():
    model = onnx.load_from_string(tiny_graph())
    before = model.SerializeToString(deterministic=True)
    rewritten(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("shape", [[1, 1, 8, 8], [1, 8, 8, 3], [3, 8, 8], [1, 4, 8, 8]])
def test_a_frame_of_another_shape_is_refused_in_words(shape):
    model = onnx.load_from_string(tiny_graph())
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    for side in shape:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = side
    with pytest.raises(GraphError, match=r"the graph takes \[\[.*, expected one frame \(1, 3, height, width\)"):
        rewritten(model)


@needs_rtx
@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_the_layouts_save_kernels_and_bytes_and_no_pass_is_left_at_either_end(shipped, name):
    graph = shipped(name, "fp16").read_bytes()
    before, after = tensorrt_plan.plan(graph, name).kernels, tensorrt_plan.plan_of_ours(graph, name).kernels
    assert len(after) < len(before)
    assert sum(kernel.moved for kernel in after) < sum(kernel.moved for kernel in before)
    readers = [kernel for kernel in after if any(each.name == "frame" for each in kernel.reads)]
    writers = [kernel for kernel in after if any(each.name == "logits" for each in kernel.writes)]
    assert readers and {kernel.role for kernel in (*readers, *writers)} == {"work"}
