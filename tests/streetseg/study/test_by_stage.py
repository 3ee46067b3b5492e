"""Which stage of a network each kernel of its engine belongs to."""

import pytest

from calib.placement import layers
from engines.planned import Kernel, Map
from export import registry, to_onnx
from export.to_onnx import Request
from streetseg.study.by_stage import STAGES, assigned, stage_of, stages_of


def kernel(name, reads, nodes=()):
    maps = tuple(Map(each, (1, 1, 1, 1), "fp32", 4) for each in reads)
    return Kernel(name, "", "work", maps, (Map(name, (1, 1, 1, 1), "fp32", 4),), 0, 1.0, nodes)


def test_a_kernel_without_weights_is_of_the_latest_stage_that_it_reads():
    layer_of = {"a": "conv1_1", "b": "conv3_2.reduce", "c": "net.conv5_4"}
    kernels = [
        kernel("cast", ["frame"]),
        kernel("first", ["cast"], ("a", "relu")),
        kernel("pool", ["first"]),
        kernel("deep", ["pool"], ("b",)),
        kernel("sum", ["pool", "deep"]),
        kernel("context", ["sum"], ("c",)),
        kernel("averages", ["context"]),
    ]
    assert assigned(kernels, layer_of) == ["stem", "stem", "stem", "conv3", "conv3", "pyramid", "pyramid"]


@pytest.mark.parametrize(
    ("layer", "stage"),
    [
        ("conv1_3", "stem"), ("conv1_sub1", "fine branch"), ("net.conv2_3.block.conv", "conv2"), ("conv5_3", "conv5"),
        ("conv5_4", "pyramid"), ("context", "pyramid"), ("fusion_24.conv", "fusion"), ("conv6_cls", "head"),
    ],
)  # fmt: skip
def test_a_layer_is_of_the_stage_that_its_name_tells(layer, stage):
    assert stage_of(layer) == stage
    with pytest.raises(ValueError, match="layer bottleneck1_0 is of no stage"):
        stage_of("bottleneck1_0")


@pytest.mark.slow
def test_every_stage_of_a_real_network_takes_time_and_all_layers_are_of_one(tmp_path):
    graph = to_onnx.export(Request("icnet", "fp16", 64, 128), None, tmp_path)
    found = stages_of(graph)
    assert list(found) == list(STAGES) and min(found.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["icnet-sub24", "pspnet50-sum-quarter"])
def test_layers_of_the_other_studied_networks_are_of_a_stage(name, tmp_path):
    import onnx

    entry = registry.find(name)
    assert entry.deploy
    graph = onnx.load(to_onnx.export(Request(name, "fp16", 64, 128), None, tmp_path)).graph
    assert {stage_of(layer) for layer in layers(graph).values()} <= set(STAGES)
