"""The page that adds a network: its file and its lines for the registry, run as they stand there."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import streetseg
from export import registry
from export.check import FP16_MASK, FP32_LOGITS, FP32_MASK
from export.to_onnx import SPEC_KEY, Request, check_request, deployed, export
from runtime.errors import GraphError, ModelError
from runtime.labels import CITYSCAPES
from runtime.spec import ModelSpec, from_json
from tests.helpers.labelled import write_pair
from tests.helpers.networks import seeded, write_weights

PAGE = Path(__file__).parents[2] / "docs/adding-a-network.md"
OWN, MODULE, LINES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
NAME = "tinyseg"
SIZE = (64, 128)
# Sums in another order; float32 rounds at 6e-8, four layers deepen it.
ALGEBRA = 1e-5


@pytest.fixture
def tinyseg(monkeypatch):
    """The page's module, and its network in a registry that is forgotten afterwards."""
    module = types.ModuleType("export.models.tinyseg")
    exec(MODULE, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    exec(LINES, dict(vars(registry)))
    return module


@pytest.fixture
def weights(tinyseg, tmp_path):
    return write_weights(tmp_path / "tinyseg.safetensors", seeded(tinyseg.TinySeg(len(CITYSCAPES))))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_pages_network_is_exported_and_equal_to_pytorch(weights, tmp_path, capsys, precision):
    path = export(Request(NAME, precision, *SIZE), weights, tmp_path)
    assert "checking it against PyTorch" in capsys.readouterr().err
    graph = onnx.load(path)
    (entry,) = graph.metadata_props
    spec = from_json(ModelSpec, entry.value)
    assert entry.key == SPEC_KEY and (spec.name, spec.output_stride, spec.block) == (NAME, 8, 1)
    assert "an example of the documentation" in spec.source
    shape = [dim.dim_value for dim in graph.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [1, len(CITYSCAPES), SIZE[0] // 8, SIZE[1] // 8]


def test_the_pages_deployed_form_takes_pixels_that_are_not_scaled(tinyseg):
    entry = registry.find(NAME)
    network, pixels = seeded(tinyseg.TinySeg(3)), torch.rand(1, 3, *SIZE) * 255
    norm = entry.normalization
    gain = torch.tensor([norm.scale / std for std in norm.std]).reshape(1, 3, 1, 1)
    with torch.inference_mode():
        expected, found = network(pixels * gain), deployed(entry, network)(pixels)
    assert float((found - expected).abs().max() / (expected.max() - expected.min())) < ALGEBRA


def test_a_deployed_form_that_forgets_the_gain_is_refused(tinyseg, weights, tmp_path):
    entry = registry._NETWORKS[NAME]
    registry._NETWORKS[NAME] = entry._replace(deploy=lambda network, gain: network)
    with pytest.raises(GraphError, match="the graph of tinyseg is not its network"):
        export(Request(NAME, "fp32", *SIZE), weights, tmp_path)
    assert list(tmp_path.glob("*.onnx")) == []


@pytest.mark.parametrize("size", [(60, 128), (64, 100)])
def test_a_size_that_the_page_rules_out_is_refused_with_the_nearest(tinyseg, size):
    with pytest.raises(ModelError, match="tinyseg takes heights and widths that are multiples of 8"):
        check_request(Request(NAME, "fp32", *size))


def test_the_pages_network_of_ones_own_is_trained_and_exported_from_its_file(tmp_path, capsys):
    (tmp_path / "street_net.py").write_text(OWN)
    model, rng = f"{tmp_path}/street_net.py:build", np.random.default_rng(0)
    for split in ("train", "val"):
        write_pair(tmp_path, "a", rng.integers(0, 256, (32, 64, 3)), rng.integers(0, 2, (32, 64)), split=split)
    rows = [{"name": name, "color": [i, 0, 0]} for i, name in enumerate(("rail", "tram"))]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": rows}))
    streetseg.train(model, dataset="own", data=tmp_path, out=tmp_path / "out", epochs=1, crop=(32, 64), wide=0)
    weights = next((tmp_path / "out").glob("street_net-*.safetensors"))
    graph = onnx.load(streetseg.export(model, weights=weights, size=(32, 64), folder=tmp_path))
    spec = from_json(ModelSpec, graph.metadata_props[0].value)
    assert (spec.name, spec.output_stride, [label.name for label in spec.classes]) == (
        "street_net",
        8,
        ["rail", "tram"],
    )
    assert spec.preprocess.mean == (0.485, 0.456, 0.406) and spec.preprocess.scale == pytest.approx(1 / 255)


def test_a_second_network_of_that_name_is_refused(tinyseg):
    with pytest.raises(ValueError, match="already registered"):
        exec(LINES, dict(vars(registry)))


def test_the_page_names_every_field_of_a_network_and_the_bounds_of_the_check():
    text = PAGE.read_text()
    rows = set(re.findall(r"^\| `?(\w+)`? \|", text, re.M))
    assert set(registry.Network._fields) - {"size_offset", "width_of"} <= rows
    assert f"| FP32 | {FP32_LOGITS:.4f} | {FP32_MASK:.2%}".replace("%", " %") in text
    assert f"| FP16 | not held | {FP16_MASK:.1%}".replace("%", " %") in text
