"""A mask and its overlay from one pass of the TensorRT backend."""

import numpy as np
import pytest

from runtime import reference
from runtime.labels import CAMVID, palette
from tests.helpers.imitated_gpu import expected, frame

COLORS = palette(CAMVID)
STEPS = ["htod", "resize_normalize_fp16", "network", "coarse_winner_fp16", "upsample_argmax_fp16", "dtoh", "dtoh"]


@pytest.mark.parametrize("block", [1, 2])
def test_both_are_the_references(imitated, block):
    gpu = imitated(block=block)
    with gpu.open() as backend:
        for size in ((16, 32), (37, 53), (8, 9), (1, 1)):
            for seed in range(3):  # by calls, then captured, then by the graph alone
                image = frame(*size, seed)
                mask, overlay = backend.overlay(image, COLORS, 0.3)
                np.testing.assert_array_equal(mask, expected("fp16", block, image)[1])
                np.testing.assert_array_equal(overlay, reference.overlay(image, mask, COLORS, 0.3))
        assert gpu.ran().count("graph") == 2 * 4
    assert gpu.live() == 0


def test_it_is_one_copy_more_and_no_kernel(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.overlay(frame(20, 30), COLORS, 0.5)
        assert gpu.ran() == ["wait", *STEPS, "wait"]
        assert list(backend.stages_ms) == ["preprocess", "network", "postprocess"]


def test_other_colours_and_masks_alone_take_the_place_of_what_was_made(imitated):
    gpu = imitated()
    image = frame(20, 30)
    _, mask = expected("fp16", 1, image)
    live = set()
    with gpu.open() as backend:
        for colors, alpha in ((COLORS, 0.5), (COLORS, 0.25), (COLORS[::-1].copy(), 0.25)):
            for _ in range(2):
                overlay = backend.overlay(image, colors, alpha)[1]
                np.testing.assert_array_equal(overlay, reference.overlay(image, mask, colors, alpha))
            live.add(gpu.live("device"))
            np.testing.assert_array_equal(backend.segment(image), mask)
    assert len(live) == 1 and gpu.live() == 0


def test_after_the_first_frame_nothing_is_allocated_and_results_belong_to_the_caller(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        kept = [backend.overlay(frame(20, 30, seed), COLORS, 0.5) for seed in range(2)]
        before = gpu.made
        kept += [backend.overlay(frame(20, 30, seed), COLORS, 0.5) for seed in range(2, 4)]
        assert gpu.made == before
    for seed, (mask, overlay) in enumerate(kept):
        image = frame(20, 30, seed)
        np.testing.assert_array_equal(mask, expected("fp16", 1, image)[1])
        np.testing.assert_array_equal(overlay, reference.overlay(image, mask, COLORS, 0.5))
