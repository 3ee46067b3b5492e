"""Validation, balancing and calibration see a frame of another shape than the network's as inference does."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from calib.ranges import frames_as_inputs
from export.training.balance import _upsampled
from export.training.validate import evaluate
from runtime import reference
from runtime.accuracy.metrics import confusion
from runtime.spec import Preprocess
from tests.helpers.graphs import tiny_spec

FITS = "stretch", "pad", "auto"
CLASSES = 5


def portrait(seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 4, 3)).astype(np.uint8)
    frame = cv2.resize(coarse, (40, 120), interpolation=cv2.INTER_CUBIC)
    return frame, rng.integers(0, CLASSES, (120, 40)).astype(np.uint8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1)).eval()


def spec_of(fit):
    return Preprocess(64, 128, 1 / 255, (0.4, 0.5, 0.3), (0.2, 0.3, 0.2), "RGB", fit)


@pytest.mark.parametrize("upsample", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("fit", FITS)
def test_validation_counts_the_mask_that_inference_gives(fit, upsample):
    (frame, label), net, spec = portrait(), network(), spec_of(fit)
    found = evaluate(net, [(frame, label)], CLASSES, spec, upsample)
    model = dataclasses.replace(tiny_spec(), preprocess=spec, upsample=upsample, block=1)
    with torch.inference_mode():
        logits = net(torch.from_numpy(reference.preprocess(frame, spec))).numpy()
    mask = reference.segment(logits, model, frame.shape)
    assert np.array_equal(found, confusion(mask, label, CLASSES))


def test_the_fits_are_told_apart():
    (frame, label), net = portrait(), network()
    stretched, padded, chosen = (evaluate(net, [(frame, label)], CLASSES, spec_of(fit)) for fit in FITS)
    assert not np.array_equal(stretched, padded) and np.array_equal(chosen, padded)  # 1:3 beside 2:1


@pytest.mark.parametrize("upsample", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("fit", FITS)
def test_the_logits_that_are_balanced_give_the_mask_of_inference(fit, upsample):
    frame, _ = portrait()
    spec = spec_of(fit)
    with torch.inference_mode():
        coarse = network()(torch.from_numpy(reference.preprocess(frame, spec)))[0].numpy()
    wide = _upsampled(coarse, frame.shape[:2], spec, 1, upsample)
    model = dataclasses.replace(tiny_spec(), preprocess=spec, upsample=upsample, block=1)
    assert np.array_equal(wide.argmax(0), reference.segment(coarse[None], model, frame.shape))


@pytest.mark.parametrize(("fit", "lowest"), [("stretch", 1.0), ("pad", 0.0), ("auto", 0.0)])
def test_calibration_meets_the_border_that_inference_gives_a_frame(fit, lowest, tmp_path):
    cv2.imwrite(str(tmp_path / "white.png"), np.full((120, 40, 3), 255, np.uint8))
    spec = Preprocess(64, 128, 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB", fit)
    (values,) = frames_as_inputs([tmp_path / "white.png"], spec, "calibrate")
    assert values.min() == lowest and values.max() == 1.0
    assert np.array_equal(values, reference.preprocess(np.full((120, 40, 3), 255, np.uint8), spec))
