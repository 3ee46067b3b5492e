"""TensorRT-RTX really builds here, without a GPU; what TensorRT's inspector says is taken from its documentation."""

import importlib.util
import json
import os
import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import tensorrt_build, tensorrt_plan, tensorrt_precision
from engines.build import read_spec
from runtime.backends.tensorrt_library import LAYERS as TOLD_LAYERS
from runtime.backends.tensorrt_library import library, log_of
from runtime.errors import EngineError, LibraryError
from runtime.kernels import nvidia
from tests.helpers.graphs import tiny_graph, tiny_spec
from tests.helpers.terminal import terminal_lines

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
RTX = "tensorrt-rtx"
MODELS = ("enet", "icnet")
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@pytest.fixture(scope="module")
def graph(shipped):
    """A shipped network, of a name: (FP32 graph, FP16 graph, spec, weighted layers)."""

    def of(model):
        single, half = (shipped(model, precision).read_bytes() for precision in ("fp32", "fp16"))
        count = sum(node.op_type in WEIGHTED for node in onnx.load_from_string(single).graph.node)
        return single, half, read_spec(single), count

    return of


@needs_rtx
@pytest.mark.parametrize("model", MODELS)
def test_tensorrt_rtx_builds_the_network_in_fp16_without_a_gpu(graph, model):
    _, half, spec, count = graph(model)
    built = tensorrt_build.build(half, spec, "fp16", RTX)
    assert count > 50
    assert built.executed == {"fp16": count}
    assert len(built.engine) > 2**20
    assert len(built.layers) > 50 and all(layer.bytes_moved for layer in built.layers)


@needs_rtx
def test_an_engine_is_built_in_the_layouts_that_the_plan_tells():
    graph = tiny_graph(precision="fp16")
    built = tensorrt_build.build(graph, tiny_spec(), "fp16", RTX)
    assert built.layers == tuple(kernel.layer for kernel in tensorrt_plan.plan_of_ours(graph, "tiny").kernels)
    planes = tuple(kernel.layer for kernel in tensorrt_plan.plan(graph, "tiny").kernels)
    assert sum(each.bytes_moved for each in built.layers) < sum(each.bytes_moved for each in planes)


@needs_rtx
def test_an_open_batch_is_built_with_a_profile_up_to_its_most_frames(capsys):
    spec = tiny_spec(batch=6, batch_free=True)
    built = tensorrt_build.build(tiny_graph(spec, "fp16"), spec, "fp16", RTX)
    tensors = tensorrt_build.log_of(tensorrt_build.library(RTX)).layers.partition("I/O Tensors:")[2]
    assert "MinShape: [1,4,32,64], OptShape: [6,4,32,64], MaxShape: [6,4,32,64]" in tensors
    assert built.layers == tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp16", RTX).layers
    assert capsys.readouterr().err == ""


@needs_rtx
def test_a_library_that_cannot_build_channels_last_is_given_planes_and_that_is_said(monkeypatch, capsys):
    def impossible(trt, network):
        network.get_input(0).allowed_formats = 1 << int(trt.TensorFormat.DLA_LINEAR)  # of another device

    monkeypatch.setattr(tensorrt_build, "write_channels_last", impossible)
    graph = tiny_graph(precision="fp16")
    built = tensorrt_build.build(graph, tiny_spec(), "fp16", RTX)
    assert built.layers == tuple(kernel.layer for kernel in tensorrt_plan.plan(graph, "tiny").kernels)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tensorrt_rtx cannot build icnet: ") and line.endswith("planes in place of channels last")


@needs_rtx
def test_int8_on_tensorrt_rtx_warns_that_fp16_is_expected_to_be_faster(capsys):
    tensorrt_build.build(_quantised_graph(), tiny_spec(), "int8", RTX)
    assert "warning: TensorRT-RTX quantizes in a kernel of its own" in capsys.readouterr().err
    tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp16", RTX)
    assert "warning" not in capsys.readouterr().err


@needs_rtx
@pytest.mark.parametrize("model", MODELS)
def test_a_float32_graph_is_not_taken_for_fp16(graph, model):
    single, _, spec, count = graph(model)
    with pytest.raises(EngineError, match=rf"{model} is not fp16: its weighted layers are {count} fp32, not as asked"):
        tensorrt_build.build(single, spec, "fp16", RTX)


@needs_rtx
def test_the_refusal_names_layers_and_the_command_in_one_line():
    with pytest.raises(EngineError) as error:
        tensorrt_build.build(tiny_graph(precision="fp32"), tiny_spec(), "fp16", RTX)
    assert "make engine MODEL=icnet PRECISION=fp16" in str(error.value)
    assert "not as asked node_of_a, node_of_logits." in str(error.value)
    assert "\n" not in str(error.value)


@needs_rtx
def test_a_half_graph_is_not_taken_for_fp32():
    with pytest.raises(EngineError, match="is not fp32: its weighted layers are 2 fp16"):
        tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp32", RTX)


@needs_rtx
def test_fp32_builds_too():
    assert tensorrt_build.build(tiny_graph(), tiny_spec(), "fp32", RTX).executed == {"fp32": 2}


@needs_rtx
def test_a_gpu_that_the_library_does_not_list_is_not_asked_to_read_the_engine(monkeypatch):
    monkeypatch.setattr(nvidia, "gpu", lambda: nvidia.Gpu("NVIDIA Abacus", "9.0", "13.0"))
    assert tensorrt_build.build(tiny_graph(), tiny_spec(), "fp32", RTX).executed == {"fp32": 2}
    monkeypatch.setattr(nvidia, "gpu", lambda: nvidia.Gpu("NVIDIA Abacus", "8.9", "13.0"))
    with pytest.raises(EngineError, match="tensorrt_rtx cannot read the icnet it built"):
        tensorrt_build.build(tiny_graph(), tiny_spec(), "fp32", RTX)


@needs_rtx
def test_one_convolution_in_float32_between_casts_is_found():
    with pytest.raises(EngineError, match="its weighted layers are 1 fp16, 1 fp32, not as asked hidden"):
        tensorrt_build.build(_casting_graph(), tiny_spec(), "fp16", RTX)


@needs_rtx
def test_a_quantised_convolution_counts_as_int8():
    assert _types(_quantised_graph()) == {"first": "int8", "second": "fp16"}


@needs_rtx
def test_a_node_that_is_not_taken_is_named_in_one_line():
    node = helper.make_node("NonZero", ["frame"], ["logits"], name="where")
    with pytest.raises(EngineError, match=r"^tensorrt-rtx cannot take node where \(NonZero\) of icnet: ") as error:
        tensorrt_build.build(_model([node], [], output=TensorProto.INT64), tiny_spec(), "fp16", RTX)
    assert "\n" not in str(error.value)


@needs_rtx
def test_what_is_no_onnx_is_refused_in_one_line():
    with pytest.raises(EngineError, match=r"^tensorrt-rtx cannot take the graph of icnet: ") as error:
        tensorrt_build.build(b"no graph", tiny_spec(), "fp16", RTX)
    assert "\n" not in str(error.value)


@needs_rtx
def test_each_phase_has_a_bar_on_a_terminal_and_nothing_stays_of_it(monkeypatch, capsys):
    monkeypatch.setattr("runtime.bars.REDRAWN_S", 0)
    tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp16", RTX)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp16", RTX)
    shown = capsys.readouterr().err
    assert "Building engine" in shown and "step/s]" in shown
    assert terminal_lines(shown) == []


@needs_rtx
def test_ctrl_c_ends_a_build_and_the_handler_is_restored(graph):
    before = signal.getsignal(signal.SIGINT)
    _, half, spec, _ = graph("enet")
    threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            tensorrt_build.build(half, spec, "fp16", RTX)
    assert signal.getsignal(signal.SIGINT) is before


@needs_rtx
@pytest.mark.parametrize("nth", [1, 200, 5000])
def test_ctrl_c_while_the_library_logs_is_not_lost(monkeypatch, graph, nth):
    """There an exception is printed and forgotten: of parsing, of building and of what comes between."""
    _, half, spec, _ = graph("enet")
    log = type(log_of(library(RTX)))
    told, logged = [], log.log

    def interrupted(self, level, message):
        logged(self, level, message)
        told.append(message)
        if len(told) == nth:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(log, "log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tensorrt_build.build(half, spec, "fp16", RTX)
    assert not any(message.startswith(TOLD_LAYERS) for message in told)  # with which a build ends


def test_tensorrt_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(tensorrt_build.target.__globals__["nvidia"], "gpu", _no_gpu)
    monkeypatch.setitem(tensorrt_build.target.__globals__, "installed_version", lambda *names: "11.4")
    with pytest.raises(LibraryError, match="no NVIDIA GPU here"):
        tensorrt_build.build(tiny_graph(), tiny_spec(), "fp32", "tensorrt")


# As TensorRT's inspector prints layers; the type stands with the weights, or with the input.
LAYERS = {
    "cask": ({"Name": "a", "LayerType": "CaskConvolution", "Weights": {"Type": "Half", "Count": 9}}, "fp16"),
    "int8": ({"Name": "a", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8", "Count": 9}}, "int8"),
    "parameter": (
        {"Name": "a", "LayerType": "x", "ParameterType": "Convolution",
         "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
        "fp16",
    ),
    "gemm": ({"Name": "a", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Float"}]}, "fp32"),
    "tensorrt 11": (
        {"Name": "a", "LayerType": "CaskGemmConvolution", "Inputs": [{"Format": "Linear", "DataType": "BF16"}]},
        "bf16",
    ),
    "unknown": ({"Name": "a", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "N/A"}]}, None),
    "bare": ({"Name": "a", "LayerType": "CaskConvolution"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "expected"), LAYERS.values(), ids=LAYERS)
def test_a_layer_of_a_finished_engine_is_read_if_it_tells_its_type(layer, expected):
    other = {"Name": "b", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]}
    assert tensorrt_precision.inspected_types(json.dumps({"Layers": [other, layer]})) == (
        {"a": expected} if expected else {}
    )


# As TensorRT-RTX 1.7 names its kernels and types; the output of an INT8 convolution is Float there.
RTX_KERNELS = {
    "correlation": ({"Datatype": "Int8", "Format": "(NHWC) Channel major format"}, "int8"),
    "runtime_fusion": ({"Datatype": "Half", "Format": "(NHWC) Channel major format"}, "fp16"),
    "deconv": ({"Datatype": "Half", "Format": "(Linear) Row major linear format"}, "fp16"),
    "gemm": ({"DATATYPE": "Float"}, "fp32"),
    "kgen": ({"Datatype": "Float"}, None),
    "runtime_function": ({"Datatype": "Half"}, None),
    "maxpool": ({"Datatype": "Int8"}, None),
}


@pytest.mark.parametrize(("kind", "tensor", "expected"), [(kind, *of) for kind, of in RTX_KERNELS.items()])
def test_a_kernel_of_tensorrt_rtx_is_read_by_its_first_input(kind, tensor, expected):
    layer = {"Name": "a", "LayerType": kind, "Inputs": [tensor], "Outputs": [{"Datatype": "Float"}]}
    found = tensorrt_precision.inspected_types(json.dumps({"Layers": [layer]}))
    assert found == ({"a": expected} if expected else {})


def information(int8, of, spelled=("CaskConvolution", "DataType")):
    kind, key = spelled
    return json.dumps(
        {"Layers": [
            {"Name": str(i), "LayerType": kind, "Inputs": [{key: "Int8" if i < int8 else "Half"}]} for i in range(of)
        ]}
    )  # fmt: skip


@pytest.mark.parametrize("spelled", [("CaskConvolution", "DataType"), ("correlation", "Datatype"), ("conv", "Format")])
@pytest.mark.parametrize(("int8", "of", "alike"), [(9, 9, True), (8, 9, True), (5, 9, False), (0, 9, False)])
def test_an_engine_that_tells_fewer_int8_layers_than_its_network_is_told_as_contradicting(spelled, int8, of, alike):
    told = tensorrt_precision.engine_beside_network({"fp16": 3, "int8": 87}, information(int8, of, spelled))
    assert told.startswith(tensorrt_precision.CONTRADICTION) != alike
    assert ("the same of 9 kernels" in told) == alike


def test_a_type_that_the_network_has_not_contradicts():
    told = tensorrt_precision.engine_beside_network({"fp16": 3}, information(1, 3))
    assert told == "the typed network, which the engine contradicts: its network is 3 fp16, it tells 2 fp16, 1 int8"


@pytest.mark.parametrize(
    "nothing",
    ["", "{}", "no JSON", "[]", '{"Layers": ["a", "b"]}', '{"Layers": [{"LayerType": "correlation", "Inputs": [7]}]}',
     information(0, 3, ("somethingNew", "Datatype")), information(0, 3, ("correlation", "Kind"))],
)  # fmt: skip
def test_an_engine_that_tells_nothing_is_never_counted_as_telling_the_same(nothing):
    told = tensorrt_precision.engine_beside_network({"fp16": 3}, nothing)
    assert told.startswith("the typed network; the engine ") and "the same" not in told


@pytest.mark.parametrize(
    ("told", "kept"),
    [(information(0, 2), "the same of 2"), (information(2, 2), "contradicts"), ("{}", "tells no type")],
)
def test_what_a_gpu_reads_of_the_engine_goes_into_the_manifest(monkeypatch, told, kept):
    inspector = SimpleNamespace(get_engine_information=lambda kind: told)
    loaded = SimpleNamespace(create_engine_inspector=lambda: inspector)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda engine: loaded)
    trt = SimpleNamespace(Runtime=lambda log: runtime, LayerInformationFormat=SimpleNamespace(JSON=None))
    monkeypatch.setattr(tensorrt_build, "supported_gpu", lambda backend: None)
    monkeypatch.setattr(tensorrt_build, "log_of", lambda library: None)
    assert kept in tensorrt_build._types_from(trt, b"", tiny_spec(), RTX, {"fp16": 2})


@needs_rtx
def test_without_a_gpu_the_manifest_says_that_the_network_alone_was_read():
    built = tensorrt_build.build(tiny_graph(precision="fp16"), tiny_spec(), "fp16", RTX)
    assert built.types_from == "the typed network; no GPU is here that could read the engine"


@needs_rtx
def test_an_engine_of_tensorrt_rtx_allocates_nothing_in_a_frame(monkeypatch):
    trt = library(RTX)
    progress = tensorrt_build._progress(trt, threading.Event())
    config = tensorrt_build._config(trt, trt.Builder(log_of(trt)), "fp16", progress)
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def test_an_engine_that_only_names_its_layers_proves_nothing():
    with pytest.raises(EngineError, match="does not describe its layers"):
        tensorrt_precision.inspected_types(json.dumps({"Layers": ["a", "b"]}))


@pytest.mark.parametrize(
    ("types", "precision", "accepted"),
    [
        ({"a": "fp16", "b": "fp16"}, "fp16", True),
        ({"a": "fp16", "b": "fp32"}, "fp16", False),
        ({"a": "fp16", "b": "other"}, "fp16", False),
        ({"a": "int8", "b": "fp16"}, "fp16", False),
        ({"a": "fp32"}, "fp32", True),
        ({"a": "int8", "b": "fp16"}, "int8", True),
        ({"a": "fp16", "b": "fp32"}, "int8", False),
        ({}, "fp16", False),
    ],
)
def test_only_the_precision_asked_is_proven(types, precision, accepted):
    if accepted:
        assert sum(tensorrt_precision.prove(types, precision, "graph", "icnet").values()) == len(types)
        return
    with pytest.raises(EngineError, match=f"the graph of icnet is not {precision}"):
        tensorrt_precision.prove(types, precision, "graph", "icnet")


def test_many_layers_are_cut_short():
    with pytest.raises(EngineError, match="not as asked c0, c1, c2, c3, c4 and 7 more"):
        tensorrt_precision.prove({f"c{i}": "fp32" for i in range(12)}, "fp16", "engine", "enet")


def _no_gpu():
    raise LibraryError("no NVIDIA GPU here: a test says so")


def _types(model):
    trt = library(RTX)
    builder = trt.Builder(log_of(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log_of(trt))
    assert parser.parse(model)
    return tensorrt_precision.network_types(trt, network)


def _model(nodes, weights, output=TensorProto.FLOAT16):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT16, [1, 3, 32, 64])],
        [helper.make_tensor_value_info("logits", output, None)],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def _conv(inputs, output, name):
    return helper.make_node("Conv", inputs, [output], name=name, kernel_shape=[1, 1])


def _casting_graph():
    eye = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    nodes = [
        _conv(["frame", "w"], "a", "plain"),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        _conv(["b", "w32"], "c", "hidden"),
        helper.make_node("Cast", ["c"], ["logits"], to=TensorProto.FLOAT16),
    ]
    return _model(nodes, [("w", eye.astype(np.float16)), ("w32", eye)])


def _quantised_graph():
    eye = np.eye(3, dtype=np.float16).reshape(3, 3, 1, 1)
    nodes = [
        helper.make_node("QuantizeLinear", ["frame", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w8", "sw", "zw"], ["w"], axis=0),
        _conv(["d", "w"], "a", "first"),
        _conv(["a", "w16"], "logits", "second"),
    ]
    weights = [
        ("s", np.float16(0.5)),
        ("z", np.int8(0)),
        ("w8", eye.astype(np.int8)),
        ("sw", np.full(3, 0.5, np.float16)),
        ("zw", np.zeros(3, np.int8)),
        ("w16", eye),
    ]
    return _model(nodes, [(name, np.asarray(array)) for name, array in weights])
