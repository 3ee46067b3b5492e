"""Each kernel by itself, beside a copy of as many bytes."""

import numpy as np
import pytest

from runtime.backends import tensorrt_clock
from runtime.errors import LibraryError
from runtime.kernels import graph
from tests.helpers.imitated_gpu import expected, frame


def test_kernels_are_timed_alone_in_turns_with_a_copy_of_as_many_bytes(imitated, monkeypatch):
    gpu = imitated("tensorrt", "fp16", 2)
    monkeypatch.setattr(graph.Event, "ms_since", lambda *_: 0.25)
    with gpu.open() as backend:
        image = frame(20, 30)
        _, mask = expected("fp16", 2, image)
        np.testing.assert_array_equal(backend.segment(image), mask)
        before = gpu.live()
        gpu.ran()
        resize, winner, upsample = backend.kernels_alone(image, 3)
        done = [name for name in gpu.ran() if name not in ("wait", "graph")]
        assert (gpu.live()) == before
        np.testing.assert_array_equal(backend.segment(image), mask)
    logits, winners = 11 * 4 * 4 * 8 * 2, 8 * 16
    assert resize[:2] == ("resize_normalize_fp16", 20 * 30 * 3 + 3 * 16 * 32 * 2)
    assert winner[:2] == ("coarse_winner_fp16", logits + winners)
    assert upsample[:2] == ("upsample_argmax_fp16", winners + 20 * 30)
    for times in (resize, winner, upsample):
        assert times.ms == times.copy_ms == [0.25 / tensorrt_clock.REPEATS] * 3
        both = [times.kernel, f"dtod {times.nbytes // 2}"]
        turn = [name for name in both for _ in range(tensorrt_clock.REPEATS)]
        first = done.index(both[1]) - 1  # one of each by itself, then four rounds, of which the first is not kept
        assert done[first : first + 2 + 4 * len(turn)] == both + 4 * turn


def test_a_copy_that_does_not_fit_leaves_the_backend_as_it_was(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.segment(frame(20, 30))
        before = gpu.live()
        gpu.leave(3000)  # for one half of 4872 bytes
        with pytest.raises(LibraryError, match="bytes left"):
            backend.kernels_alone(frame(20, 30), 2)
        assert gpu.live() == before


def test_a_measurement_that_is_interrupted_waits_before_its_memory_goes(imitated, monkeypatch):
    gpu = imitated()
    launch = graph.Graph.launch

    def interrupted(self):
        launch(self)
        raise KeyboardInterrupt

    with gpu.open() as backend:
        monkeypatch.setattr(graph.Graph, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):  # the memory itself refuses to go under work that waits
            backend.kernels_alone(frame(20, 30), 2)
    assert gpu.live() == 0
