"""Our figures against those of the official evaluation, on a set in Cityscapes' layout."""

import contextlib
import dataclasses
import importlib.util
import io
import json

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.accuracy import evaluate
from runtime.accuracy.cityscapes import CITYSCAPES_IDS, CITYSCAPES_LAST_ID
from runtime.labels import CITYSCAPES
from runtime.manifest import read_manifest, write_engine
from tests.helpers import fake_backend
from tests.helpers.fake_backend import expected_mask
from tests.helpers.labelled import write_city_pair

TOLERANCE = 1e-6  # the same integers, divided and averaged in float64 by both
FRAMES = {"aachen_000000_000019": (40, 64), "aachen_000001_000019": (33, 57), "ulm_000000_000019": (16, 90)}
NOWHERE = 13  # car: in no label, and the masks of fake engines hold 0..10
ARGUMENTS = ("--dataset", "cityscapes", "--data", "data", "--save-labels", "out")


@pytest.fixture
def city(tmp_path, monkeypatch):
    """Labels of every id but one, right on about half of the pixels, and an engine of the 19 classes."""
    fake_backend.working_folder(tmp_path, monkeypatch)
    random = np.random.default_rng(0)
    ids = [value for value in range(CITYSCAPES_LAST_ID + 1) if value != CITYSCAPES_IDS[NOWHERE]]
    for name, shape in FRAMES.items():
        frame = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        right = np.array(CITYSCAPES_IDS)[expected_mask(frame)]
        write_city_pair(
            tmp_path / "data", name, frame, np.where(random.random(shape) < 0.5, right, random.choice(ids, shape))
        )
    engine = fake_backend.write_fake_engine(tmp_path, name="ours")
    manifest = read_manifest(engine)
    spec = dataclasses.replace(manifest.spec, classes=CITYSCAPES)
    write_engine(engine, engine.read_bytes(), dataclasses.replace(manifest, spec=spec))
    return tmp_path


def official_figures(root, monkeypatch):
    """What evalPixelLevelSemanticLabeling finds for the masks in out/; it exits where it refuses a file."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    monkeypatch.setenv("CITYSCAPES_RESULTS", str(root / "out"))
    labels = sorted(str(path) for path in root.glob("data/gtFine/val/*/*_gtFine_labelIds.png"))
    settings = official.CArgs()
    # Without instances: their scores need NumPy below 2.4 there, and are no figure of ours.
    changes = {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}
    vars(settings).update(vars(official.args) | changes)
    with contextlib.redirect_stdout(io.StringIO()):
        masks = [official.getPrediction(settings, label) for label in labels]
        return official.evaluateImgLists(masks, labels, settings)


@pytest.mark.skipif(not importlib.util.find_spec("cityscapesscripts"), reason="cityscapesscripts is not installed")
def test_our_figures_are_the_official_ones(city, monkeypatch, capsys):
    assert evaluate.main([*ARGUMENTS, "--engine", "ours.engine", "--json"]) == cli.DONE
    (found,) = json.loads(capsys.readouterr().out)["engines"]
    official = official_figures(city, monkeypatch)
    ours = np.array([np.nan if share is None else share for share in found["iou"].values()])
    expected = [official["classScores"][label.name] for label in CITYSCAPES]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE, equal_nan=True)
    assert found["miou"] == pytest.approx(official["averageScoreClasses"], abs=TOLERANCE)
    counted = np.array(official["confMatrix"])[list(CITYSCAPES_IDS)]
    right = counted[range(len(CITYSCAPES)), CITYSCAPES_IDS].sum()
    assert found["pixel_accuracy"] == pytest.approx(right / counted.sum(), abs=TOLERANCE)
    # All that a class can be is among them: hit and missed, only in labels, nowhere.
    assert (ours > 0.3).sum() == 11 and (ours == 0).sum() == 7 and np.isnan(ours).nonzero()[0] == [NOWHERE]


def test_cityscapes_masks_are_saved_as_label_ids(city, capsys):
    assert evaluate.main([*ARGUMENTS, "--engine", "ours.engine"]) == cli.DONE
    for name in FRAMES:
        frame = cv2.imread(str(city / f"data/leftImg8bit/val/{name.split('_')[0]}/{name}_leftImg8bit.png"))
        saved = cv2.imread(f"out/ours/{name}_leftImg8bit.png", cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(saved, np.array(CITYSCAPES_IDS)[expected_mask(frame)])
