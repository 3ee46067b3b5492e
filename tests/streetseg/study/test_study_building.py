"""What the study's engines are made of."""

import pytest

from calib.graphs import load_graph
from export import registry
from export.checkpoints.weights import read_weights
from export.models.icnet import FULL_WIDTH, ICNet
from streetseg.study import building, networks
from streetseg.study.points import KERNELS, Point
from tests.helpers.networks import parameters

SMALL = (64, 128)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(building, "FOLDER", tmp_path / "study")
    return tmp_path


def test_a_cost_is_of_what_runs_for_a_frame():
    icnet = building.cost_of("icnet", (1024, 2048))
    assert icnet.parameters == 6_699_987  # without the classifiers of its training
    assert building.cost_of("icnet", (1024, 2048), FULL_WIDTH).parameters == parameters(
        ICNet(19, width=FULL_WIDTH), "conv6_sub4", "conv6_sub2"
    )
    full, quarter = (building.cost_of("pspnet50-sum", size) for size in ((1024, 2048), (256, 512)))
    assert full.parameters == quarter.parameters and 15.9 < full.gmac / quarter.gmac < 16.1


def test_the_file_of_random_weights_has_the_width_that_was_asked(here):
    path = building.random_weights("icnet", 3)
    entry = registry.find("icnet")
    weights = read_weights(path, entry.build)
    assert entry.width_of(weights.tensors) == 3 and len(weights.classes) == 19
    before = path.stat().st_mtime_ns
    assert building.random_weights("icnet", 3).stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_point_is_built_once_and_told_without_a_proof_of_random_weights(here):
    point = Point(KERNELS, "1/4", "pspnet50-sum-quarter", SMALL)
    built = building.built_point(point)
    assert built["trained"] is False and built["size"] == [64, 128] and built["published"] is None
    spec = load_graph(here / built["graph"], "fp16")[1]
    assert spec.source.endswith("random weights") and spec.name == "pspnet50-sum-quarter"
    assert building.built_point(point) == built


@pytest.mark.slow
def test_an_int8_graph_of_random_weights_has_pairs(here):
    path = building.int8_of("pspnet50-sum-quarter", SMALL, SMALL)
    operators = [node.op_type for node in networks_graph(path).node]
    assert operators.count("QuantizeLinear") > 40 and path == building.int8_of("pspnet50-sum-quarter", SMALL, SMALL)


def test_an_int8_graph_is_of_its_table(here, monkeypatch):
    graph, table, made = here / "g.onnx", here / "table.json", []
    monkeypatch.setattr(building, "graph_of", lambda *_: graph)
    monkeypatch.setattr(building, "is_sealed", lambda path: made.append(path.name) or True)
    monkeypatch.setattr("calib.ranges.calibrate", lambda *_: table)
    for content in (b"1", b"2", b"1"):
        graph.write_bytes(b"graph")
        table.write_bytes(content)
        building.int8_of("pidnet-s", SMALL, SMALL)
    assert made[0] == made[2] != made[1]


def networks_graph(path):
    import onnx

    return onnx.load(path).graph


@pytest.mark.slow
def test_engines_logits_are_pytorchs(here, monkeypatch):
    engines = {kind: networks.engine_of("fast-scnn", kind, SMALL, SMALL) for kind in networks.PRECISIONS}
    found = networks.logits_beside_torch("fast-scnn", SMALL, engines)
    assert found["graph"] > 0.9999 and found["fp16"] > 0.9 and list(found) == ["graph", "fp16", "int8"]


def test_every_registered_network_is_known_to_the_table():
    assert set(registry.names()) == set(networks.KNOWN)
