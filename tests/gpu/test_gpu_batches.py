"""Several frames at once on a GPU."""

import numpy as np
import pytest

from runtime import reference
from runtime.backend import open_backend
from runtime.errors import EngineError
from runtime.lanes import open_lanes
from runtime.manifest import read_manifest
from tests.helpers.engines import built_engine
from tests.helpers.gpu_arrays import Interface
from tests.helpers.graphs import tiny_spec

pytestmark = pytest.mark.gpu

SIZES = ((32, 64), (17, 31), (1, 1), (32, 64), (40, 50))


def frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("block", "free"), [(1, False), (2, False), (2, True)])
def test_masks_of_a_batch_are_those_of_single_frames_wherever_they_lie(tmp_path, library, driver, block, free):
    spec = tiny_spec(batch=3, block=block, batch_free=free)
    path = built_engine(tmp_path, backend=library, precision="fp16", spec=spec)
    assert read_manifest(path).proof.frames >= 1
    frames = [frame(*size, seed) for seed, size in enumerate(SIZES)]
    with open_backend(path) as engine:
        expected = [reference.segment(engine.logits(one), engine.spec, one.shape) for one in frames]
        for _ in range(2):  # a frame by itself, captured too, beside batches
            for alone, one in zip(expected, frames, strict=True):
                np.testing.assert_array_equal(engine.segment(one), alone)
        outs = [np.zeros(size, np.uint8) for size in SIZES]
        on_gpu = [Interface(driver, one) for one in frames]
        places = [Interface(driver, np.zeros(size, np.uint8)) for size in SIZES]
        assert engine.segment_batch(frames, outs)[1] is outs[1]
        engine.segment_batch(on_gpu, places)
        mixed = engine.segment_batch([*frames[:2], *on_gpu[2:]])
        assert list(engine.stages_ms) == ["preprocess", "network", "postprocess"]
        for index, alone in enumerate(expected):
            np.testing.assert_array_equal(outs[index], alone)
            np.testing.assert_array_equal(places[index].read(), alone)
        for mask, alone in zip(mixed[:2], expected, strict=False):
            np.testing.assert_array_equal(mask, alone)
        found = np.empty(SIZES[4], np.uint8)
        driver.memcpy_dtoh(found, mixed[4].address)
        np.testing.assert_array_equal(found, expected[4])
    with open_lanes(path, 2) as lanes:
        for mask, alone in zip(lanes.segment_batch(frames), expected, strict=True):
            np.testing.assert_array_equal(mask, alone)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_backend_s_own_buffers_in_a_batch_give_no_other_frame_s_mask(tmp_path, library, batch):
    path = built_engine(tmp_path, backend=library, precision="fp16", spec=tiny_spec(batch=batch))
    with open_backend(path) as engine:
        first, second = frame(20, 30, 1), frame(20, 30, 2)
        expected = [engine.segment(first), engine.segment(second)]
        buffer = engine.frame_buffer(20, 30)
        buffer[...] = second
        for mask, alone in zip(engine.segment_batch([first, buffer]), expected, strict=True):
            np.testing.assert_array_equal(mask, alone)
        with pytest.raises(ValueError, match="mask_buffer holds one mask"):
            engine.segment_batch([first, second], [engine.mask_buffer(20, 30), np.zeros((20, 30), np.uint8)])


def test_an_open_batch_is_as_large_as_its_frames_and_no_graph_of_another_number_is_launched(tmp_path, library):
    path = built_engine(tmp_path, backend=library, precision="fp16", spec=tiny_spec(batch=4, batch_free=True))
    frames = [frame(32, 64, seed) for seed in range(6)]
    computed = []
    with open_backend(path) as engine:
        take = engine._engine.take
        engine._engine.take = lambda count, stream: computed.append(count) or take(count, stream)
        expected = [reference.segment(engine.logits(one), engine.spec, one.shape) for one in frames]
        computed.clear()
        for one, alone in zip([*frames[:3], frames[0]], [*expected[:3], expected[0]], strict=True):
            np.testing.assert_array_equal(engine.segment(one), alone)
        assert engine.captured
        np.testing.assert_array_equal(engine.segment_batch(frames), expected)
        assert computed == [1, 1, 1, 1, 4, 2] and not engine.captured
        for _ in range(3):
            np.testing.assert_array_equal(engine.segment(frames[5]), expected[5])
        assert engine.captured


def test_lanes_of_an_open_batch_each_have_the_profile(tmp_path, library):
    path = built_engine(tmp_path, backend=library, precision="fp16", spec=tiny_spec(batch=2, batch_free=True))
    frames = [frame(32, 64, seed) for seed in range(5)]
    with open_lanes(path, 3) as lanes:
        for backend in lanes._backends:
            expected = [reference.segment(backend.logits(one), backend.spec, one.shape) for one in frames]
            np.testing.assert_array_equal(backend.segment_batch(frames), expected)


def test_more_frames_than_the_profile_has_are_refused_in_one_line(tmp_path, library):
    path = built_engine(tmp_path, backend=library, precision="fp16", spec=tiny_spec(batch=2, batch_free=True))
    with open_backend(path) as engine:
        with engine._current(), pytest.raises(EngineError, match="takes no 3 frames for the engine of icnet"):
            engine._engine.take(3, engine._stream.handle)
        np.testing.assert_array_equal(*engine.segment_batch([frame(32, 64)] * 2))
