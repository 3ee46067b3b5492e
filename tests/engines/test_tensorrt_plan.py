"""The plan as TensorRT-RTX 1.7.1 tells it: an excerpt of its log with a layer of every kind, and real builds."""

import importlib.util
from pathlib import Path

import pytest

from engines import planned, tensorrt_plan
from runtime.errors import EngineError
from runtime.measure.gate.proxies import totals
from tests.helpers.graphs import tiny_graph

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
TOLD = (Path(__file__).parents[1] / "golden" / "tensorrt-rtx-plan.txt").read_text()
MB = 1e6


@pytest.fixture
def kernels():
    return {kernel.name: kernel for kernel in tensorrt_plan.kernels_from_text(TOLD)}


def test_every_layer_but_events_is_a_kernel_with_its_kind_and_role(kernels):
    assert [(kernel.kind, kernel.role) for kernel in kernels.values()] == [
        ("kgen", "reorder"), ("maxpool", "work"), ("runtime_function", "reorder"), ("correlation", "work"),
        ("kgen", "quantizer"), ("kgen", "work"), ("deconv", "work"), ("avgpool", "work"), ("runtime_fusion", "work"),
        ("gemm", "work"), ("runtime_function", "work"),
    ]  # fmt: skip


def test_maps_and_weights_are_counted_in_bytes_of_their_types(kernels):
    pool = kernels["node_max_pool2d_myl0_4"]
    assert pool.reads == (planned.Map("max_pool2d.1_5_myl0", (1, 64, 256, 512), "fp16", 2 * 64 * 256 * 512),)
    assert pool.moved == 2 * 64 * (256 * 512 + 128 * 256) and pool.weights == 0
    quantizer = kernels["__myl_MulCastAddMulMinMaxRounCast_myl0_59"]
    assert [each.type for each in (*quantizer.reads, *quantizer.writes)] == ["fp32", "int8"]
    assert quantizer.moved == (4 + 1) * 32 * 128 * 256 and quantizer.weights >= 2 * 32


def test_a_map_that_is_read_twice_is_moved_once():
    line = _line(reads=_tensor("a", "Half") + ", " + _tensor("a", "Half"), writes=_tensor("b", "Float"))
    (kernel,) = tensorrt_plan.kernels_from_text(f"Layers:\n{line}\n")
    assert len(kernel.reads) == 2 and kernel.moved == 2 * 24 + 4 * 24


def test_the_gate_counts_the_same_kernels_and_all_their_bytes(kernels):
    counts = totals(list(tensorrt_plan.layers_from_text(TOLD)))
    assert counts["kernels"] == len(kernels) == 11
    assert (counts["reorders"], counts["quantizers"], counts["casts"]) == (2, 1, 0)
    assert counts["bytes_moved"] == sum(kernel.moved + kernel.weights for kernel in kernels.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Layers:\n",
        "Layers:\n" + "Name: a, LayerType: kgen, Inputs: [], Constants: []\n",
        "Layers:\n" + "Name: a\nb, LayerType: kgen, Inputs: [], Constants: [], Outputs: [], TacticName: \n",
        TOLD.replace("Datatype: Half", "Datatype: Quarter", 1),
        TOLD.replace("Dimensions: [1,256,2048]", "Dimensions: [1,N,2048]", 1),
        TOLD.replace("Datatype: Half, Format", "Type: Half, Format", 1),
    ],
    ids=["nothing", "no layers", "cut short", "a name of two lines", "type", "open dimensions", "another key"],
)
def test_what_is_told_in_another_way_is_refused_in_one_line_and_counts_as_nothing(text, capsys):
    with pytest.raises(EngineError, match="the library tells") as error:
        tensorrt_plan.kernels_from_text(text)
    assert "\n" not in str(error.value)
    assert tensorrt_plan.layers_from_text(text) == ()
    assert ("cannot be counted" in capsys.readouterr().err) == bool(text)  # most libraries tell nothing


@pytest.mark.parametrize(
    ("kind", "tactic", "role"),
    [
        ("kgen", "__myl_MoveConc_0xab", "reorder"),
        ("kgen", "__myl_Cast_0xab", "cast"),
        ("kgen", "__myl_TranCast_0xab", "cast"),
        ("kgen", "__myl_ReluAdd_0xab", "work"),
        ("kgen", "__myl_CastMulRounCast_0xab", "quantizer"),
        ("correlation", "__myl_Move_0xab", "work"),
        ("kgen", "", "work"),
    ],
)
def test_a_generated_kernel_is_what_its_name_says(kind, tactic, role):
    line = _line(kind=kind, tactic=tactic)
    assert tensorrt_plan.kernels_from_text(f"Layers:\n{line}\n")[0].role == role


@needs_rtx
def test_the_plan_of_a_graph_repeats_and_its_bytes_are_those_of_its_maps():
    graph = tiny_graph(precision="fp16")
    plan = tensorrt_plan.plan(graph, "tiny")
    assert plan == tensorrt_plan.plan(graph, "tiny")
    frame, maps, logits = 3 * 32 * 64, 8 * 16 * 32, 11 * 8 * 16
    assert planned.figures(plan)["kernels"] >= 2
    assert sum(kernel.moved for kernel in plan.kernels) >= 2 * (frame + 2 * maps + logits)


@needs_rtx
@pytest.mark.parametrize("graph", [b"no graph", b""])
def test_what_is_no_graph_has_no_plan(graph):
    with pytest.raises(EngineError, match=r"cannot (take|build) x: ") as error:
        tensorrt_plan.plan(graph, "x")
    assert "\n" not in str(error.value)


def _tensor(name, kind):
    return f"{{ Name: {name}, Dimensions: [2,3,4], Strides: [12,4,1], Datatype: {kind}, Format: (x) y }}"


def _line(kind="kgen", reads="", writes="", tactic="__myl_Add_0x1"):
    ends = f"TacticName: {tactic}, StreamId: 0, Metadata: "
    return f"Name: a, LayerType: {kind}, Inputs: [ {reads}], Constants: [], Outputs: [ {writes}], {ends}"
