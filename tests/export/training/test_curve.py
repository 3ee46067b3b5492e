import math

import cv2
import numpy as np

from export.training.curve import LOSS_COLOR, MIOU_COLOR, draw_curve, write_curve

ROWS = [
    {"epoch": 1, "loss": "2.0", "miou": "nan"},
    {"epoch": 2, "loss": "1.0", "miou": "0.5"},
    {"epoch": 3, "loss": "0.5", "miou": "0.6"},
]


def columns(picture, color):
    # of the curve alone: the captions stand above it
    return np.unique(np.nonzero((picture[56:-56] == color).all(axis=2))[1])


def test_the_curve_shows_both_figures_and_leaves_out_what_was_not_measured():
    picture = draw_curve(ROWS)
    loss, miou = columns(picture, LOSS_COLOR), columns(picture, MIOU_COLOR)
    assert loss.max() > 700 and miou.max() > 700
    assert miou.min() > loss.min() + 150


def test_a_training_that_was_never_measured_still_has_a_curve():
    assert len(columns(draw_curve([{"epoch": 1, "loss": 1.0, "miou": math.nan}]), MIOU_COLOR)) == 0


def test_the_curve_is_a_picture_on_disk(tmp_path):
    write_curve(tmp_path / "curve.png", ROWS)
    assert np.array_equal(cv2.imread(str(tmp_path / "curve.png")), draw_curve(ROWS))
