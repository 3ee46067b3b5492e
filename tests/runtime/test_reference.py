"""The definitions, held to other people's implementations of the same operations."""

import hashlib

import cv2
import numpy as np
import pytest

from runtime import reference
from runtime.labels import CITYSCAPES, palette
from runtime.spec import Preprocess
from tests.helpers.resize_cases import RESIZES, logits_with_ties

# OpenCV interpolates 8-bit pictures in 11-bit fixed point.
OPENCV_FIXED_POINT = 1
FLOAT32_SUMS = 1e-5


def brute_force(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """ONNX Resize, linear and half_pixel, from its text, a pixel at a time, in double precision."""
    resized = np.empty((height, width))
    h, w = plane.shape
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            sx = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1, fy, fx = min(y0 + 1, h - 1), min(x0 + 1, w - 1), sy - y0, sx - x0
            top = plane[y0, x0] * (1 - fx) + plane[y0, x1] * fx
            resized[y, x] = top * (1 - fy) + (plane[y1, x0] * (1 - fx) + plane[y1, x1] * fx) * fy
    return resized


@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_resizing_is_the_onnx_operator(h, w, height, width):
    plane = np.random.default_rng(0).standard_normal((h, w)).astype(np.float32)
    down, across = reference.axis_table(h, height), reference.axis_table(w, width)
    wide = plane[:, across.first] * across.weight_first + plane[:, across.second] * across.weight_second
    resized = wide[down.first] * down.weight_first[:, None] + wide[down.second] * down.weight_second[:, None]
    np.testing.assert_allclose(resized, brute_force(plane, height, width), atol=FLOAT32_SUMS)


@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_corners_aligned_are_the_onnx_operators(h, w, height, width):
    for n_in, n_out in ((h, height), (w, width)):
        table = reference.axis_table(n_in, n_out, "align_corners")
        position = table.first * table.weight_first + table.second * table.weight_second
        wanted = np.linspace(0, n_in - 1, n_out) if n_out > 1 else np.zeros(1)
        np.testing.assert_allclose(position, wanted, atol=1e-5 * n_in)


@pytest.mark.parametrize(("h", "w", "height", "width"), RESIZES)
def test_nearest_takes_the_sample_that_the_centre_lies_in(h, w, height, width):
    for n_in, n_out in ((h, height), (w, width)):
        table = reference.axis_table(n_in, n_out, "nearest")
        assert table.first.tolist() == [(2 * i + 1) * n_in // (2 * n_out) for i in range(n_out)]
        assert (table.weight_first == 1).all() and not table.weight_second.any()


def test_resize_at_source_size_is_exact():
    frame = np.random.default_rng(0).integers(0, 256, (33, 65, 3), dtype=np.uint8)
    assert np.array_equal(reference.resize_frame(frame, 33, 65), frame)


@pytest.mark.parametrize(("h", "w", "height", "width"), [(36, 48, 102, 204), (100, 200, 51, 99), (16, 16, 17, 300)])
def test_resized_frames_are_opencvs_but_for_its_fixed_point(h, w, height, width):
    frame = np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(reference.resize_frame(frame, height, width).astype(int) - expected)
    assert difference.max() <= OPENCV_FIXED_POINT


def test_preprocess_normalises_in_the_networks_channel_order():
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[...] = (10, 20, 30)
    spec = Preprocess(4, 4, 0.5, (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), "BGR")
    values = reference.preprocess(frame, spec)
    assert values.shape == (1, 3, 4, 4)
    assert values.dtype == np.float32
    assert values[0, :, 0, 0].tolist() == [(15 - 1) / 2, (10 - 2) / 4, (5 - 3) / 8]


def test_unblock_puts_each_channel_where_the_deconvolution_would():
    blocks = np.arange(2 * 4 * 2 * 3).reshape(1, 8, 2, 3)
    plain = reference.unblock(blocks, 2)
    for c, y, x in np.ndindex(2, 4, 6):
        assert plain[0, c, y, x] == blocks[0, c * 4 + 2 * (y % 2) + x % 2, y // 2, x // 2]
    assert reference.unblock(blocks, 1) is not None
    assert np.array_equal(reference.unblock(blocks, 1), blocks)


def test_ties_go_to_the_lower_class():
    logits = np.zeros((1, 5, 2, 2), np.float32)
    logits[:, 2:4] = 1
    assert np.unique(reference.postprocess(logits, 9, 7)).tolist() == [2]


def test_logits_are_resized_before_the_argmax_and_not_after():
    # Between a certain class 0 and a certain class 1, class 2 that is second at both wins in the middle.
    logits = np.array([[[3, 0]], [[0, 3]], [[2, 2]]], np.float32)[None]
    assert reference.postprocess(logits, 1, 8)[0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("block", [1, 2])
def test_where_a_class_is_largest_at_four_corners_it_is_so_between_them(block):
    logits = logits_with_ties(5, 6, 7, block, seed=3)
    coarse = reference.postprocess(logits, 6 * block, 7 * block, block=block)
    mask = reference.postprocess(logits, 60, 70, block=block)
    down, across = reference.axis_table(6 * block, 60), reference.axis_table(7 * block, 70)
    corners = [
        coarse[np.ix_(rows, columns)] for rows in (down.first, down.second) for columns in (across.first, across.second)
    ]
    uniform = np.all([corner == corners[0] for corner in corners], axis=0)
    assert uniform.any()
    assert np.array_equal(mask[uniform], corners[0][uniform])


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0, [100, 200, 50]), (1, [128, 64, 128]), (0.5, [114, 132, 89]), (0.25, [107, 166, 70])]
)
def test_overlay_blends_by_alpha(alpha, expected):
    frame = np.full((16, 16, 3), (100, 200, 50), np.uint8)
    blended = reference.overlay(frame, np.zeros((16, 16), np.uint8), palette(CITYSCAPES), alpha)
    assert blended.dtype == np.uint8 and (blended == expected).all()


def test_colours_alone_are_the_palettes_and_black_where_no_class_is():
    white = np.full((1, 3, 3), 255, np.uint8)
    colors = reference.overlay(white, np.array([[0, 18, 255]], np.uint8), palette(CITYSCAPES), 1)
    assert colors.tolist() == [[[128, 64, 128], [119, 11, 32], [0, 0, 0]]]
    brightest = reference.overlay(white, np.zeros((1, 3), np.uint8), np.full((256, 3), 255, np.uint8), 0.5)
    assert (brightest == 255).all()


@pytest.mark.parametrize(
    ("colors", "alpha", "said"),
    [
        (np.zeros((11, 3), np.uint8), 0.5, r"a palette is uint8 \(256, 3\), got uint8 \(11, 3\)"),
        (np.zeros((256, 3)), 0.5, "got float64"),
        (np.zeros((256, 3), np.uint8), 1.5, "alpha is from 0 to 1, got 1.5"),
        (np.zeros((256, 3), np.uint8), float("nan"), "alpha is from 0 to 1"),
    ],
)
def test_what_is_no_palette_or_no_share_is_refused(colors, alpha, said):
    with pytest.raises(ValueError, match=said):
        reference.overlay_shades(colors, alpha)


def lead_of(margin: float) -> int:
    return int(reference.confidence(np.float32([0, margin, -9]).reshape(1, 3, 1, 1), 1, 1)[0, 0])


def test_a_confidence_is_the_lead_of_the_best_share_over_the_second():
    margins = np.arange(0, 8, 1 / 64)
    shares = [np.exp([0, margin]) / np.exp([0, margin]).sum() for margin in margins]
    assert [lead_of(margin) for margin in margins] == [round(255 * (q - p)) for p, q in shares]
    assert [lead_of(np.log(odds)) for odds in (1, 2, 3, 9, 1e6)] == [0, 85, 128, 204, 255]


def test_every_byte_is_a_confidence_and_the_steps_are_the_same_on_every_machine():
    assert [lead_of(step) for step in reference.CONFIDENCE_STEPS] == list(range(1, 256))
    digest = hashlib.sha256(reference.CONFIDENCE_STEPS.astype("<f4").tobytes()).hexdigest()
    assert digest.startswith("876ff7ce4972efd5")


def test_a_confidence_is_of_the_upsampled_logits_and_not_of_the_winners():
    # Class 2, second at both ends, wins in the middle: towards each end it is overtaken, and there nothing is ahead.
    logits = np.array([[[3, 0]], [[0, 3]], [[2, 2]]], np.float32)[None]
    found, mask = reference.confidence(logits, 1, 512)[0], reference.postprocess(logits, 1, 512)[0]
    changes = np.flatnonzero(np.diff(mask))
    assert mask[[0, 256, 511]].tolist() == [0, 2, 1]
    assert all(found[[at, at + 1]].max() < 3 for at in changes)
    assert found[[0, 511]].tolist() == [lead_of(1), lead_of(1)]
    assert 50 < found[256] == found.max(initial=0, where=mask == 2) < lead_of(0.5) + 1


@pytest.mark.parametrize("ruin", [np.nan, np.inf, -np.inf])
def test_where_a_logit_is_not_finite_there_is_no_confidence(ruin):
    logits = np.full((1, 2, 1, 3), 9, np.float32)
    logits[0, 1] = 0
    logits[0, 1, 0, 2] = ruin
    assert reference.confidence(logits, 1, 3)[0].tolist() == [255, 255, 0]  # without weight it is not read
    assert reference.confidence(logits, 1, 6)[0].tolist() == [255, 255, 255, 0, 0, 0]


def test_one_class_is_sure_and_a_tie_is_not():
    assert (reference.confidence(np.zeros((1, 1, 2, 2), np.float32), 5, 5) == 255).all()
    assert (reference.confidence(np.zeros((1, 3, 2, 2), np.float32), 5, 5) == 0).all()


def test_what_is_less_than_the_threshold_is_void():
    mask, found = np.array([[1, 2, 3]], np.uint8), np.array([[0, 99, 100]], np.uint8)
    assert reference.voided(mask, found, 100).tolist() == [[255, 255, 3]]
    assert reference.voided(mask, found, 0).tolist() == mask.tolist()
    assert reference.voided(mask, found, 100).dtype == np.uint8
