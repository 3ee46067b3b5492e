"""Page-locked frames and masks in the caller's hands."""

import numpy as np
import pytest

from runtime.backends import tensorrt
from runtime.labels import CAMVID, palette
from tests.helpers.imitated_gpu import expected, frame
from tests.helpers.outs import outs


@pytest.fixture
def copied(monkeypatch):
    """How many frames the host copied."""
    count = []
    copy = tensorrt.copy_frame
    monkeypatch.setattr(tensorrt, "copy_frame", lambda *given: count.append(1) or copy(*given))
    return count


def test_a_frame_in_the_backend_s_buffer_is_not_copied_and_the_mask_is_written_in_place(imitated, copied):
    gpu = imitated()
    with gpu.open() as backend:
        buffer, mask = backend.frame_buffer(20, 30), backend.mask_buffer(20, 30)
        for seed in range(4):
            buffer[...] = frame(20, 30, seed)
            assert backend.segment(buffer[:], mask) is mask
            np.testing.assert_array_equal(mask, expected("fp16", 1, frame(20, 30, seed))[1])
            np.testing.assert_array_equal(buffer, frame(20, 30, seed))
            assert backend.frame_buffer(20, 30) is buffer and backend.mask_buffer(20, 30) is mask
        backend.overlay(buffer, palette(CAMVID), 0.5)
        assert backend.frame_buffer(20, 30) is buffer
        backend.logits(buffer)
        assert copied == []
        assert copied == []


def test_another_view_of_the_buffer_is_read_before_it_is_written_over(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        buffer = backend.frame_buffer(20, 30)
        for turn in (np.s_[::-1], np.s_[:, ::-1], np.s_[..., ::-1], np.s_[::-1, ::-1, ::-1]):
            buffer[...] = frame(20, 30)
            np.testing.assert_array_equal(backend.segment(buffer[turn]), expected("fp16", 1, frame(20, 30)[turn])[1])


def test_a_mask_is_written_where_it_is_told(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        wide = np.full((20, 30, 2), 77, np.uint8)
        for out in (np.zeros((20, 30), np.uint8), wide[::-1, :, 0]):
            assert backend.segment(frame(20, 30), out) is out
            np.testing.assert_array_equal(out, expected("fp16", 1, frame(20, 30))[1])
        assert (wide[..., 1] == 77).all()
        for image, out, words in outs():
            with pytest.raises(ValueError, match=words):
                backend.segment(image, out)
        for size in ((0, 4), (4, -1), (2.0, 4)):
            with pytest.raises(ValueError, match="one pixel or more each way"):
                backend.frame_buffer(*size)


def test_buffers_that_are_held_outlive_another_size_and_the_engine(imitated, copied):
    gpu = imitated()
    with gpu.open() as backend:
        buffer, mask = backend.frame_buffer(20, 30), backend.mask_buffer(20, 30)
        buffer[...] = frame(20, 30)
        other = backend.frame_buffer(7, 9)
        other[...] = frame(7, 9)
        np.testing.assert_array_equal(backend.segment(other), expected("fp16", 1, frame(7, 9))[1])
        assert copied == []
        np.testing.assert_array_equal(backend.segment(buffer, mask), expected("fp16", 1, frame(20, 30))[1])
        assert copied == [1]  # no longer the backend's own, an array like any other
    assert gpu.live() == gpu.live("pinned") == 3
    np.testing.assert_array_equal(buffer, frame(20, 30))
    np.testing.assert_array_equal(mask, expected("fp16", 1, frame(20, 30))[1])
    with pytest.raises(ValueError, match="closed"):
        backend.frame_buffer(20, 30)
    del buffer, mask, other
    assert gpu.live() == 0


def test_a_first_frame_copies_nothing_and_its_memory_is_pinned_once(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        buffer = backend.frame_buffer(20, 30)
        pinned = gpu.made
        buffer[...] = 5
        backend.segment(buffer)
        made = gpu.made
        backend.segment(buffer)
        assert gpu.made == made > pinned
