"""What is counted of an engine, held to graphs whose layers and bytes are known by hand."""

import onnx
import pytest
from onnx import TensorProto, helper

from engines.build import build_engine
from runtime.measure.gate.proxies import Change, Layer, changes, count, totals
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_graph

# The tiny graph: frame 3x32x64, 8 maps of 16x32, 11 of 8x16, all float32; its weights 8x3x3x3 and 11x8x3x3.
FRAME, MAPS, LOGITS = 3 * 32 * 64, 8 * 16 * 32, 11 * 8 * 16
WEIGHTS = 8 * 3 * 3 * 3 + 11 * 8 * 3 * 3


def with_casts(graph: bytes) -> bytes:
    """The same network with its last map cast to int32 and back."""
    model = onnx.load_from_string(graph)
    model.graph.node[-1].output[0] = "wide"
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["wide"], ["whole"], to=TensorProto.INT32),
            helper.make_node("Abs", ["whole"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["logits"], to=TensorProto.FLOAT),
        ]
    )
    return model.SerializeToString()


def test_onnxruntime_tells_layers_and_bytes(tmp_path):
    counts = count(built_engine(tmp_path, backend="onnxruntime"))
    assert counts["kernels"] <= counts["nodes"] and counts["casts"] == counts["quantizers"] == 0
    # Two convolutions, the ReLU fused into the first; what is more are changes of layout.
    assert counts["nodes"] - counts["reorders"] == 2
    assert counts["bytes_moved"] >= 4 * (FRAME + 2 * MAPS + LOGITS + WEIGHTS)


def test_openvino_tells_layers_and_bytes(tmp_path):
    counts = count(built_engine(tmp_path))
    assert 2 <= counts["kernels"] <= counts["nodes"] <= 10
    # The frame goes in as bytes.
    assert counts["bytes_moved"] >= FRAME + 4 * (2 * MAPS + LOGITS + WEIGHTS)
    assert counts == count(built_engine(tmp_path))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_cast_that_is_added_is_found_and_explained(tmp_path, backend):
    graph = tmp_path / "casts.onnx"
    graph.write_bytes(with_casts(tiny_graph()))
    base, candidate = built_engine(tmp_path, backend=backend), build_engine(graph, "fp32", backend, tmp_path)
    found = {change.name: change for change in changes(count(base), count(candidate))}
    assert found["casts"].candidate - found["casts"].base == 2
    assert "2 more passes over a map only to change its type" in found["casts"].in_words
    assert found["bytes_moved"].candidate > found["bytes_moved"].base


def test_roles_are_summed():
    layers = [Layer("work", 10), Layer("cast", 5), Layer("view", 0), Layer("reorder", 2), Layer("quantizer", 1)]
    assert totals(layers) == {
        "nodes": 5, "kernels": 4, "casts": 1, "reorders": 1, "quantizers": 1, "bytes_moved": 18
    }  # fmt: skip


def test_only_what_is_known_of_both_and_differs_is_a_change():
    assert changes({"casts": 1, "nodes": 3, "kernels": 2}, {"casts": 2, "nodes": 3}) == [Change("casts", 1, 2)]


def test_a_change_is_told_in_words():
    assert Change("casts", 4, 2).in_words.startswith("casts: 4 -> 2 (-50.00%), 2 fewer passes")
    assert Change("casts", 0, 2).in_words.startswith("casts: 0 -> 2, 2 more passes")
