import json

import numpy as np
import pytest
import torch

import streetseg
from export import registry
from export.adopting.options import PRESETS, Given
from export.checkpoints.sources import export_key
from export.own_normalization import agreed, given_from, normalization_of, noted_in, said_by
from export.to_onnx import Request, loaded_network
from export.training.options import parse
from runtime.errors import ModelError, WeightsError
from tests.helpers.labelled import write_pair

SILENT = "from torch import nn\nSIZE_MULTIPLE = 8\ndef build(classes):\n    return nn.Conv2d(3, classes, 3, 8, 1)\n"
MINUS1TO1 = (1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "RGB")
BYTES_BGR = {"scale": 1.0, "mean": (1, 2, 3), "std": (4, 5, 6), "channel_order": "BGR"}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "net.py").write_text(SILENT)
    return f"{tmp_path}/net.py"


def test_the_options_say_it_in_every_spelling_of_an_onnx_file(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(BYTES_BGR))
    assert said_by(Given()) is None and said_by(given_from("minus1to1")) == MINUS1TO1
    bytes_bgr = (1.0, (1, 2, 3), (4, 5, 6), "BGR")
    assert said_by(given_from(tmp_path / "p.json")) == said_by(given_from(BYTES_BGR)) == bytes_bgr
    assert said_by(Given("minus1to1", order="BGR"))[3] == "BGR"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("imagnet", "neither a file nor one of imagenet"),
        ({"mean": (0, 0, 0)}, r"not said \(std and scale\): give --preprocess"),
        ({"scale": 1, "mean": (0, 0, 0), "std": (1, 0, 1)}, "scale and std are above 0"),
        ({"gain": 2}, "preprocess has 'gain', expected some of"),
    ],
)
def test_what_is_said_wrongly_is_one_line(given, said):
    with pytest.raises(ModelError, match=said) as raised:
        said_by(given_from(given))
    assert "\n" not in str(raised.value)


def test_a_network_that_says_nothing_is_exported_as_the_option_says(model, tmp_path):
    with pytest.raises(ModelError, match=r"does not say how frames are normalised: give .*imagenet"):
        streetseg.export(model, size=(32, 64), folder=tmp_path)
    keys = {export_key(Request(model, normalization=said_by(given_from(how)))._asdict(), None) for how in PRESETS}
    assert len(keys) == len(PRESETS)  # no graph is taken for another
    found = [registry.find(model, normalization_of(said_by(given_from(how)))) for how in PRESETS]
    assert len({network.normalization for network in found}) == len(PRESETS)
    assert registry.find(model, normalization_of(MINUS1TO1)).normalization.std == (0.5, 0.5, 0.5)


def test_one_of_ours_normalises_in_its_own_way(tmp_path):
    with pytest.raises(ModelError, match="icnet normalises frames in its own way"):
        streetseg.export("icnet", size=(32, 64), preprocess="minus1to1", folder=tmp_path)


def test_a_graph_holds_its_own(tmp_path):
    with pytest.raises(ModelError, match="preprocess: of a network's name, but a graph was given"):
        streetseg.build(tmp_path / "a.onnx", preprocess="none")


def test_weights_note_what_they_were_trained_on_and_are_deployed_with_nothing_else(model, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        write_pair(tmp_path, "a", rng.integers(0, 256, (32, 64, 3)), rng.integers(0, 2, (32, 64)), split=split)
    rows = [{"name": name, "color": [i, 0, 0]} for i, name in enumerate(("rail", "tram"))]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": rows}))
    how = {"epochs": 1, "crop": (32, 64), "wide": 0, "preprocess": "minus1to1"}
    streetseg.train(model, dataset="own", data=tmp_path, out=tmp_path / "out", **how)
    weights = next((tmp_path / "out").glob("net-*.safetensors"))
    assert noted_in(weights) == MINUS1TO1 == agreed(None, weights)
    assert loaded_network(Request(model, height=32, width=64), weights)[2].preprocess.std == (0.5,) * 3
    with pytest.raises(
        WeightsError, match=r"trained on frames normalised by .*0\.5, 0\.5\], RGB, not by .*leave --pre"
    ):
        streetseg.export(model, weights=weights, size=(32, 64), preprocess="imagenet", folder=tmp_path)
    asked = ["--model", model, "--dataset", "own", "--data", ".", "--out", "o", "--start", str(weights)]
    assert parse(asked)[1].normalization == MINUS1TO1


def test_what_is_noted_in_another_form_is_refused(tmp_path):
    from safetensors.torch import save_file

    for text in ("[]", "{", '[1, [0, 0], [1, 1], "RGB"]', '[1, [0, 0, 0], [1, 1, 1], "GRB"]'):
        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {"normalization": text})
        with pytest.raises(WeightsError, match="in a form that is not read"):
            noted_in(tmp_path / "w.safetensors")
