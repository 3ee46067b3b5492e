import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from calib import placement, qdq
from calib.graphs import load_graph
from calib.placement import layer_name, layers, tensors
from calib.qdq import integers, quantize, quantized_graph, weight_scales
from calib.table import save_table
from calib.thresholds import METHODS
from engines import onnxruntime_build, openvino_build, tensorrt_build
from engines.build import build_engine, graph_precision, prove_int8_share, read_spec
from engines.openvino_sums import sums_saturate
from runtime.backend import open_backend
from runtime.backends.onnxruntime import CPU, session_options
from runtime.errors import EngineError, GraphError, ModelError
from runtime.manifest import read_manifest
from runtime.reference import preprocess, segment

MODELS = ("icnet", "enet")
# Of pixels at 64x128, where a mask is mostly edges. ENet's unpooling moves with any rounding.
AGREEING = {"icnet": 0.97, "enet": 0.85}
# Of the logits' range at 64x128, in the mean: codes fall to the other side of a step. Layers of ICNet that were
# quantized otherwise by OpenVINO cost five times as much.
APART = {"icnet": 0.004, "enet": 0.012}
PAIRS = ("QuantizeLinear", "DequantizeLinear")
# The other one takes more than ten seconds.
one_in_haste = pytest.mark.parametrize("name", ["icnet", pytest.param("enet", marks=pytest.mark.slow)])
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")


@pytest.fixture(scope="module")
def int8(graphs, tables):
    """The INT8 graph of a network."""

    def model(name, precision="fp16", **changes):
        table = dataclasses.replace(tables(name), **changes)
        return quantize(load_graph(graphs(name)[precision], precision)[0], table)

    return model


def constants_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def logits_of(model, frame):
    spec = read_spec(model.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    kind = np.float16 if "float16" in session.get_inputs()[0].type else np.float32
    return session.run(None, {"frame": preprocess(frame, spec.preprocess).astype(kind)})[0]


def apart(expected, found):
    return float(np.abs(expected - found).mean() / np.ptp(expected))


def mask_of(model, frame):
    return segment(logits_of(model, frame), read_spec(model.SerializeToString()), (64, 128))


@pytest.mark.parametrize("name", MODELS)
def test_every_scale_is_half_positive_and_symmetric(int8, name):
    model = int8(name)
    constants = constants_of(model)
    assert graph_precision(model.SerializeToString()) == "int8"
    for node in model.graph.node:
        if node.op_type in PAIRS:
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float16
            assert zero.dtype == np.int8
            assert np.all(scale > 0)
            assert not zero.any()


@pytest.mark.parametrize("name", MODELS)
def test_activations_have_one_scale_and_weights_one_an_output_channel(int8, name):
    model = int8(name)
    constants = constants_of(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[1]].shape == ()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            assert constants[node.input[1]].shape == constants[node.input[0]].shape[:1]
            assert node.attribute[0].i == 0


@pytest.mark.parametrize("name", MODELS)
def test_int8_weights_are_the_networks_within_half_a_step(graphs, int8, name):
    half, model = load_graph(graphs(name)["fp16"], "fp16")[0], int8(name)
    weights, constants, checked = constants_of(half), constants_of(model), 0
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            codes, scales = constants[node.input[0]], constants[node.input[1]].astype(np.float64)
            weight = weights[node.output[0].removesuffix(".dequantized")].astype(np.float64)
            steps = weight / scales.reshape(-1, 1, 1, 1)
            assert np.abs(codes - steps).max() <= 0.5
            assert np.abs(codes.astype(int)).max() <= 127
            checked += 1
    assert checked > 50


@pytest.mark.parametrize("name", MODELS)
def test_layers_that_read_the_frame_are_rounded_to_the_grid_in_place(graphs, int8, name):
    half, model = load_graph(graphs(name)["fp16"], "fp16")[0], int8(name)
    before, after = constants_of(half), constants_of(model)
    first = [node for node in model.graph.node if node.op_type == "Conv" and node.input[0] == "frame"]
    for node in first:
        scales = weight_scales(before[node.input[1]], np.dtype(np.float64))
        codes = integers(before[node.input[1]], scales)
        assert np.array_equal(after[node.input[1]], (codes * scales.reshape(-1, 1, 1, 1)).astype(np.float16))
        # The grid that an engine finds again from the largest weight of a channel is the same one.
        again = integers(after[node.input[1]], weight_scales(after[node.input[1]], np.dtype(np.float64)))
        assert np.array_equal(again, codes)
    assert first


@pytest.mark.parametrize("name", MODELS)
def test_the_int8_mask_is_nearly_the_float_one(graphs, int8, frame, name):
    full = load_graph(graphs(name)["fp32"], "fp32")[0]
    assert (mask_of(int8(name), frame) == mask_of(full, frame)).mean() >= AGREEING[name]


def test_a_wrong_scale_is_seen_in_the_mask(graphs, int8, tables, frame):
    wrong = {name: {method: value / 8 for method, value in of.items()} for name, of in tables("icnet").ranges.items()}
    full = load_graph(graphs("icnet")["fp32"], "fp32")[0]
    assert (mask_of(int8("icnet", ranges=wrong), frame) == mask_of(full, frame)).mean() < AGREEING["icnet"]


def test_layers_to_leave_stay_fp16(int8):
    model = int8("icnet", float_layers=("conv6_cls", "conv3_1.reduce"))
    producer = {out: node.op_type for node in model.graph.node for out in node.output}
    left = [layer_name(n) for n in model.graph.node if n.op_type == "Conv" and n.input[1] not in producer]
    assert sorted(left) == ["conv1_1", "conv1_sub1", "conv3_1.reduce", "conv6_cls"]


def test_bias_correction_takes_out_what_rounding_adds_on_average(tiny_model, tiny_table):
    first = ("Conv", ["frame", "w"], ["a"], {"pads": [1, 1, 1, 1]})
    model = tiny_model(first, ("Conv", ["a", "v", "bias"], ["logits"], {}), kind=np.float32)
    means = {"frame": (0.0,) * 3, "a": (1.0, -2.0, 3.0, 0.5)}
    table = tiny_table(["a", "frame"], 4, means=means)
    plain, corrected = (quantize(model, table, correct_bias=on) for on in (False, True))
    weight, (scales, codes) = (
        constants_of(model)["v"],
        (constants_of(plain)[f"v.{part}"] for part in ("scale", "codes")),
    )
    rounding = (codes * scales.reshape(-1, 1, 1, 1) - weight)[..., 0, 0]
    (node,) = (n for n in corrected.graph.node if n.op_type == "Conv" and n.output[0] == "logits")
    expected = constants_of(model)["bias"] - rounding @ np.array(means["a"])
    assert np.allclose(constants_of(corrected)[node.input[2]], expected, atol=1e-6)


def test_a_scale_is_never_rounded_below_what_it_must_reach():
    weight = np.random.default_rng(3).normal(size=(200, 4, 3, 3)).astype(np.float32) * 1e-4
    scales = weight_scales(weight, np.dtype(np.float16)).astype(np.float64)
    assert np.all(scales * 127 >= np.abs(weight).reshape(200, -1).max(axis=1))


def test_a_channel_of_zeros_has_a_scale():
    assert weight_scales(np.zeros((2, 1, 1, 1), np.float32), np.dtype(np.float16)).tolist() == [1, 1]


def test_a_tensor_without_a_range_is_named(graphs, tables):
    model = load_graph(graphs("icnet")["fp16"], "fp16")[0]
    ranges = {name: of for name, of in tables("icnet").ranges.items() if name != "relu_4"}
    with pytest.raises(GraphError, match="no range of tensor relu_4; take it again: make calib"):
        quantize(model, dataclasses.replace(tables("icnet"), ranges=ranges))


def test_the_graph_is_made_once_and_again_for_another_method(graphs, tables, tmp_path):
    save_table(tmp_path / "table.json", tables("icnet"))
    graph = graphs("icnet")["fp16"]
    first = quantized_graph(graph, tmp_path / "table.json", None)
    made = first.stat().st_mtime_ns
    assert quantized_graph(graph, tmp_path / "table.json", None) == first
    assert first.stat().st_mtime_ns == made
    assert quantized_graph(graph, tmp_path / "table.json", "mse") != first
    (told,) = (p.value for p in onnx.load(first).metadata_props if p.key == qdq.PROPERTY)
    assert json.loads(told)["method"] == "minmax"


def test_layers_named_on_the_command_line_are_left_beside_those_of_the_table(graphs, tables, tmp_path, capsys):
    save_table(tmp_path / "table.json", dataclasses.replace(tables("icnet"), float_layers=("conv6_cls",)))
    graph, given = str(graphs("icnet")["fp16"]), ["--table", str(tmp_path / "table.json"), "--leave", "conv1_3"]
    assert qdq.main([graph, *given]) == 0
    model = onnx.load(capsys.readouterr().out.strip())
    (told,) = (p.value for p in model.metadata_props if p.key == qdq.PROPERTY)
    assert json.loads(told)["float_layers"] == ["conv6_cls", "conv1_3"]
    left = {layer_name(n) for n in model.graph.node if n.op_type == "Conv" and ".dequantized" not in n.input[1]}
    assert {"conv6_cls", "conv1_3"} <= left and "conv1_2" not in left
    names = {layer_name(n) for n in onnx.load(graph).graph.node if n.op_type == "Conv"}
    assert qdq.main([graph, *given[:2], "--leave", "conv3_*", "conv3_1.reduce"]) == 0
    (told,) = (p.value for p in onnx.load(capsys.readouterr().out.strip()).metadata_props if p.key == qdq.PROPERTY)
    stage = sorted(name for name in names if name.startswith("conv3_"))
    assert len(stage) > 3 and json.loads(told)["float_layers"] == ["conv6_cls", *stage]
    with pytest.raises(ModelError, match=r"unknown layer 'conv6_clss'\. Did you mean conv6_cls\?"):
        qdq.main([graph, *given, "conv6_clss"])


def test_ranges_of_another_size_are_taken_and_told(graphs, tables, tmp_path, capsys):
    save_table(tmp_path / "table.json", dataclasses.replace(tables("icnet"), size=(512, 1024)))
    quantized_graph(graphs("icnet")["fp16"], tmp_path / "table.json")
    assert "ranges were taken at 512x1024, the graph is for 64x128; to take" in capsys.readouterr().err


def test_a_table_of_other_weights_is_refused(graphs, tables, tmp_path):
    save_table(tmp_path / "table.json", dataclasses.replace(tables("icnet"), weights_sha256="f" * 64))
    with pytest.raises(
        GraphError, match="is of other weights of icnet than the graph; make one: make calib MODEL=icnet"
    ):
        quantized_graph(graphs("icnet")["fp16"], tmp_path / "table.json", None)


def test_only_an_fp16_graph_is_quantized(graphs, int8, tables, tmp_path):
    save_table(tmp_path / "table.json", tables("icnet"))
    with pytest.raises(GraphError, match="is fp32, needed is fp16: make onnx MODEL=icnet PRECISION=fp16"):
        quantized_graph(graphs("icnet")["fp32"], tmp_path / "table.json", None)
    again = tmp_path / "int8.onnx"
    again.write_bytes(int8("icnet").SerializeToString())
    with pytest.raises(GraphError, match="is int8, needed is fp16"):
        quantized_graph(again, tmp_path / "table.json", None)


def test_an_engine_that_runs_too_little_in_int8_is_refused(int8, capsys):
    onnx_bytes = int8("icnet").SerializeToString()
    prove_int8_share(onnx_bytes, {"int8": 60, "bf16": 10}, "icnet")
    assert "60 of 70 weighted layers run in INT8 (86%); the graph quantizes 66" in capsys.readouterr().err
    with pytest.raises(EngineError, match="icnet runs 59 layers in INT8, its graph quantizes 66"):
        prove_int8_share(onnx_bytes, {"int8": 59, "bf16": 11}, "icnet")


@pytest.mark.parametrize("name", MODELS)
def test_the_referee_computes_an_int8_graph_in_fp32_with_its_own_scales_and_codes(int8, frame, name):
    model = int8(name)
    onnx_bytes = model.SerializeToString()
    built = onnxruntime_build.build(onnx_bytes, read_spec(onnx_bytes), "int8", "onnxruntime")
    widened = onnx.load_from_string(built.engine)
    found, expected = constants_of(widened), constants_of(model)
    assert found.keys() == expected.keys() and np.dtype(np.float16) not in {each.dtype for each in found.values()}
    assert all(np.array_equal(found[key], expected[key]) for key in found)
    assert np.mean(mask_of(widened, frame) == mask_of(model, frame)) > AGREEING[name]


def test_onnxruntime_says_that_it_computes_an_int8_graph_in_float(int8):
    onnx_bytes = int8("icnet").SerializeToString()
    built = onnxruntime_build.build(onnx_bytes, read_spec(onnx_bytes), "int8", "onnxruntime")
    assert built.executed == {"fp32": 70}


def test_openvino_runs_every_convolution_of_icnet_in_int8(int8):
    onnx_bytes = int8("icnet").SerializeToString()
    built = openvino_build.build(onnx_bytes, read_spec(onnx_bytes), "int8", "openvino")
    assert built.executed["int8"] == 68  # and the pyramid's two products in 16 bit


def test_pairs_before_what_is_cut_out_or_joined_change_no_value(int8, frame, monkeypatch):
    moved = int8("icnet", "fp32")
    monkeypatch.setattr(placement, "MOVES", ())
    plain = int8("icnet", "fp32")
    kinds = [[node.op_type for node in model.graph.node].count("QuantizeLinear") for model in (moved, plain)]
    assert kinds[0] > kinds[1] + 10
    assert np.array_equal(logits_of(moved, frame), logits_of(plain, frame))


def test_a_tensor_has_a_pair_for_each_range_that_it_is_read_with(tiny_model, tables):
    join, again = ("Concat", ["b", "b"], ["c"], {"axis": 2}), ("Conv", ["b", "y"], ["d"], {})
    relu, first = ("Relu", ["a"], ["b"], {}), ("Conv", ["frame", "w"], ["a"], {})
    model = tiny_model(first, relu, join, again, ("Conv", ["c", "x"], ["e"], {}))
    ranges = {name: dict.fromkeys(METHODS, reach) for name, reach in (("b", 12.7), ("c", 1.27))}
    table = dataclasses.replace(tables("icnet"), ranges=ranges, float_layers=())
    graph = quantize(model, table, correct_bias=False).graph
    producer = {out: node for node in graph.node for out in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = {node.output[0]: producer[node.input[0]] for node in graph.node if node.output[0] in ("c", "d", "e")}
    scales = {name: float(constants[pair.input[1]]) for name, pair in pairs.items()}
    assert scales == pytest.approx({"c": 0.01, "d": 0.1, "e": 0.01})


@pytest.mark.parametrize("name", MODELS)
def test_openvino_computes_an_int8_graph_as_the_referee_does(int8, graphs, frame, tmp_path, name):
    graph, logits = tmp_path / f"{name}.onnx", []
    graph.write_bytes(int8(name).SerializeToString())
    for backend in ("onnxruntime", "openvino"):
        with open_backend(build_engine(graph, "int8", backend, tmp_path / backend)) as engine:
            logits.append(engine.logits(frame))
    if sums_saturate():
        assert_as_near(in_float(graphs, name, frame), *logits)
    else:
        assert apart(*logits) < APART[name]


def in_float(graphs, name, frame):
    return logits_of(load_graph(graphs(name)["fp16"], "fp16")[0], frame).astype(np.float32)


def assert_as_near(expected, referee, found):
    # Some weights are smaller than the graph's, activations have twice its codes: no further from the float network.
    assert apart(expected, found) < apart(expected, referee)


CAPPED = """
import sys, numpy
from pathlib import Path
from engines.build import build_engine
from runtime.backend import open_backend
graph, folder, frame = map(Path, sys.argv[1:])
with open_backend(build_engine(graph, "int8", "openvino", folder)) as engine:
    numpy.save(folder / "logits.npy", engine.logits(numpy.load(frame)))
"""


@one_in_haste
def test_openvino_computes_an_int8_graph_as_well_as_the_referee_does_without_vnni(int8, graphs, frame, tmp_path, name):
    # On every machine: what the library is capped to decides, so that a CPU with VNNI does not hide it.
    graph, picture = tmp_path / f"{name}.onnx", tmp_path / "frame.npy"
    graph.write_bytes(int8(name).SerializeToString())
    np.save(picture, frame)
    given = [sys.executable, "-c", CAPPED, str(graph), str(tmp_path), str(picture)]
    done = subprocess.run(given, env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "this CPU adds products of 8 bits in 16" in done.stderr
    (engine,) = tmp_path.glob("*.engine")
    assert read_manifest(engine).target.capability.endswith("max_cpu_isa=avx2")
    with open_backend(build_engine(graph, "int8", "onnxruntime", tmp_path / "referee")) as referee:
        assert_as_near(in_float(graphs, name, frame), referee.logits(frame), np.load(tmp_path / "logits.npy"))


@needs_rtx
@pytest.mark.parametrize("name", MODELS)
def test_tensorrt_rtx_builds_the_int8_graph_without_a_gpu(int8, name):
    onnx_bytes = int8(name).SerializeToString()
    built = tensorrt_build.build(onnx_bytes, read_spec(onnx_bytes), "int8", "tensorrt-rtx")
    convolutions = sum(node.op_type == "Conv" for node in onnx.load_from_string(onnx_bytes).graph.node)
    assert built.executed["int8"] == convolutions - 2  # those that read the frame


@pytest.mark.parametrize("name", ["icnet", "enet"])
def test_any_layer_can_be_left_or_quantized_alone_with_one_table(graphs, tables, name):
    model, table = load_graph(graphs(name)["fp32"], "fp32")[0], tables(name)
    names = sorted(set(layers(model.graph).values()))
    for layer in names[:: len(names) // 12]:
        for left in ((layer,), tuple(other for other in names if other != layer)):
            quantize(model, dataclasses.replace(table, float_layers=left))
    assert tensors(model.graph) == sorted(table.ranges)


WRONG = """
import sys
from pathlib import Path
from engines import openvino_build
from engines.build import build_engine
openvino_build.sums_saturate = lambda: False
build_engine(Path(sys.argv[1]), "int8", "openvino", Path(sys.argv[2]))
"""


@one_in_haste
def test_an_int8_engine_whose_sums_saturate_is_refused_by_its_results(int8, tmp_path, name):
    graph = tmp_path / f"{name}.onnx"
    graph.write_bytes(int8(name).SerializeToString())
    given = [sys.executable, "-c", WRONG, str(graph), str(tmp_path)]
    done = subprocess.run(given, env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "EngineError" in said
    assert re.search(r"does not compute what its graph says.*The first layer that differs is \w+", said), said
    assert not [*tmp_path.glob("*.engine"), *tmp_path.glob("*.npz")]
