import warnings

import numpy as np
import pytest

from runtime.accuracy.metrics import confusion, confusion_by_confidence, iou, mean_iou, pixel_accuracy
from runtime.labels import IGNORED

# Class 0: 3 right of 4, and one of class 1 taken for it. Class 2: only in the masks. Class 3: nowhere.
MATRIX = np.array([[3, 0, 1, 0], [1, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_confusion_has_labels_in_rows_and_masks_in_columns():
    label = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)
    mask = np.array([[0, 1, 1], [1, 2, 0]], np.uint8)
    found = confusion(mask, label, 3)
    assert found.dtype == np.int64
    assert found.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_pixels_whose_label_does_not_count_are_left_out():
    label = np.array([[0, IGNORED, IGNORED]], np.uint8)
    assert confusion(np.array([[1, 0, 1]], np.uint8), label, 2).tolist() == [[0, 1], [0, 0]]


def test_the_confidences_of_all_pixels_that_count_add_up_to_the_confusion():
    random = np.random.default_rng(0)
    mask, label = random.integers(0, 3, (2, 9, 11), np.uint8)
    label[:, 3] = IGNORED
    confidence = random.integers(0, 256, (9, 11), np.uint8)
    found = confusion_by_confidence(mask, label, confidence, 3)
    assert found.shape == (256, 3, 3) and np.array_equal(found.sum(0), confusion(mask, label, 3))
    sure = np.where(confidence < 100, np.uint8(IGNORED), label)
    assert np.array_equal(found[100:].sum(0), confusion(mask, sure, 3))


def test_as_many_classes_as_a_mask_can_hold_are_counted():
    label = np.arange(256, dtype=np.uint8)[None]
    mask = np.where(label == IGNORED, 0, label)
    assert np.array_equal(confusion(mask, label, IGNORED), np.eye(IGNORED, dtype=np.int64))


@pytest.mark.parametrize(("mask", "message"), [([[0, 2]], "holds 2, there are 2 classes"), ([[0], [0]], "its label")])
def test_a_mask_that_does_not_belong_to_the_label_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        confusion(np.array(mask, np.uint8), np.zeros((1, 2), np.uint8), 2)


def test_a_class_that_is_nowhere_has_no_iou_and_one_only_in_masks_has_zero():
    np.testing.assert_array_equal(iou(MATRIX), [3 / 5, 5 / 6, 0, np.nan])


def test_the_mean_leaves_out_classes_without_iou():
    assert mean_iou(MATRIX) == pytest.approx((3 / 5 + 5 / 6 + 0) / 3)


def test_pixel_accuracy_is_the_share_on_the_diagonal():
    assert pixel_accuracy(MATRIX) == 8 / 10


def test_without_a_counted_pixel_every_figure_is_nan_and_nothing_warns():
    nothing = np.zeros((2, 2), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan([*iou(nothing), mean_iou(nothing), pixel_accuracy(nothing)]).all()
