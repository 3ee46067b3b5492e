"""A user's own classes through every command, from labelled frames to masks, pictures and tables."""

import copy
import json

import cv2
import numpy as np
import pytest
from torch import nn

from engines import build
from export import registry, to_onnx
from export.training import train as training
from runtime import infer
from runtime.accuracy import evaluate
from runtime.cli import DONE
from runtime.labels import Label
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from tests.helpers.labelled import write_image

CLASSES = (Label("sky", (10, 200, 30)), Label("gravel", (200, 10, 90)), Label("tram, old", (0, 60, 255)))
OTHER = 9  # a value of the labels that classes.json ignores
LOOKS = np.array([[40, 180, 200], [60, 60, 60], [220, 20, 20]])  # RGB of each class in the frames
SIZE = "96x128"
# One class everywhere gives under 0.2, two of the three under 0.6; this network gives about 0.95.
LEARNED_MIOU = 0.7


class Colors(nn.Sequential):
    """Tells colours apart after a few steps, which ENet and ICNet do not."""

    def __init__(self, classes):
        convolution = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, classes, 1))


def scaled(network, gain):
    """The same function of raw pixels."""
    deployed = copy.deepcopy(network)
    deployed[0].weight.data *= gain.reshape(1, 3, 1, 1)
    return deployed


def scene(rng, height, width):
    """A frame and its label: sky over gravel with a tram between, the first rows of neither."""
    label = np.zeros((height, width), np.uint8)
    label[height // 2 :] = 1
    left = rng.integers(0, width - width // 3)
    label[height // 3 : 2 * height // 3, left : left + width // 3] = 2
    frame = LOOKS[label] + rng.normal(0, 8, (height, width, 3))
    label[:4] = OTHER
    return frame.clip(0, 255), label


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a data set of frames of two sizes, JPEG; train in folders of its own, val painted."""
    rng, folders = np.random.default_rng(0), {"train": ["images", "labels"]}
    content = {"classes": [label._asdict() for label in CLASSES], "ignored": [OTHER, [1, 1, 1]], "folders": folders}
    (tmp_path / "tramway").mkdir()
    (tmp_path / "tramway" / "classes.json").write_text(json.dumps(content))
    for folder, labels, count in (("images", "labels", 8), ("val", "valannot", 2)):
        for i in range(count):
            frame, label = scene(rng, *((96, 128), (80, 144))[i % 2])
            write_image(tmp_path / "tramway" / folder / f"{i}.jpg", frame)
            painted = np.array([*(label.color for label in CLASSES), *[(1, 1, 1)] * 7])[label]
            write_image(tmp_path / "tramway" / labels / f"{i}.png", painted if folder == "val" else label)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "export.training.validate.DEPLOYED_SIZE", (96, 128)
    )  # 1024x2048 would be most of the test's time
    monkeypatch.setitem(registry._NETWORKS, "colors", registry.Network("colors", Colors, scaled, 2, 2, 1, "this test"))
    return tmp_path


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_names_and_colours_arrive_in_masks_tables_and_overlays(here, capsys):
    own = ["--dataset", "own", "--data", "tramway"]
    steps = ["--epochs", "15", "--batch", "4", "--crop", "64x64", "--lr", "3e-2", "--validate-every", "15"]
    assert training.main(["--model", "colors", *own, "--out", "trained", *steps]) == DONE
    weights = "trained/colors-tramway.safetensors"
    assert to_onnx.main(["--model", "colors", "--size", SIZE, "--weights", weights]) == DONE
    assert build.main([last_line(capsys), "--backend", "openvino", "--precision", "fp32"]) == DONE
    engine = here / last_line(capsys)
    assert read_manifest(engine).spec.classes == CLASSES

    assert evaluate.main([*own, "--json", "--engine", str(engine)]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == "tramway" and found["frames_in_split"] == 2
    assert [*found["engines"][0]["iou"]] == [label.name for label in CLASSES]
    assert found["engines"][0]["miou"] > LEARNED_MIOU

    assert infer.main(["tramway/val/1.jpg", "--json"]) == DONE
    file = json.loads(capsys.readouterr().out)["files"][0]
    mask = cv2.imread(file["outputs"]["ids"], cv2.IMREAD_UNCHANGED)
    assert mask.shape == (80, 144) and set(np.unique(mask)) == {0, 1, 2}
    assert file["shares"] == {label.name: np.mean(mask == i) for i, label in enumerate(CLASSES)}
    colors = np.array([label.color for label in CLASSES])[mask]
    np.testing.assert_array_equal(read_frame(file["outputs"]["color"]), colors)
    half = (read_frame("tramway/val/1.jpg") + colors) / 2
    assert np.abs(read_frame(file["outputs"]["overlay"]) - half).max() <= 0.5  # halves round either way
