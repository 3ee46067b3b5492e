"""Frames and masks that are on the GPU already: taken and given without a copy, ordered after their own streams."""

import gc

import numpy as np
import pytest

from runtime import reference
from runtime.arrays import on_gpu
from runtime.backend import open_backend
from runtime.backends import tensorrt_places
from runtime.errors import FrameError
from runtime.kernels.graph import NON_BLOCKING
from runtime.labels import CAMVID, palette
from runtime.lanes import open_lanes
from tests.helpers import gpu_arrays
from tests.helpers.engines import built_engine
from tests.helpers.gpu_arrays import Dlpack, Interface

# The network is no matter here: the stand-in is on any GPU.
pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("backend", ["stand-in"], indirect=True)]

SIZES = ((32, 64), (1, 1), (17, 31))


def frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def empty(height, width):
    return np.full((height, width), 77, np.uint8)


@pytest.fixture
def path(tmp_path, backend):
    return built_engine(tmp_path, backend=backend, precision="fp16")


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_a_frame_on_the_gpu_gives_the_mask_that_it_gives_from_the_host(path, driver, kind):
    with open_backend(path) as engine:
        for size in SIZES:
            for seed in range(3):
                expected = engine.segment(frame(*size, seed))
                out = kind(driver, empty(*size))
                assert engine.segment(kind(driver, frame(*size, seed)), out) is out
                np.testing.assert_array_equal(out.read(), expected)
                assert list(engine.stages_ms) == ["preprocess", "network", "postprocess"]


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_a_confidence_stays_on_the_gpu_or_goes_where_it_is_asked_for(path, driver, kind):
    with open_backend(path) as engine:
        for size in SIZES:
            mask, found = engine.confidence(frame(*size))
            expected = reference.segment_confidence(engine.logits(frame(*size)), engine.spec, size)
            np.testing.assert_array_equal(found, expected)
            out, sure = kind(driver, empty(*size)), kind(driver, empty(*size))
            host = empty(*size)
            assert engine.confidence(kind(driver, frame(*size)), out, sure) == (out, sure)
            assert engine.confidence(frame(*size), out, host)[1] is host
            made = engine.confidence(kind(driver, frame(*size)))
            for one, wanted in ((out, mask), (sure, found)):
                np.testing.assert_array_equal(one.read(), wanted)
            np.testing.assert_array_equal(host, found)
            for one, wanted in zip(made, (mask, found), strict=True):
                copied = np.empty(one.shape, np.uint8)
                driver.memcpy_dtoh(copied, one.address)
                np.testing.assert_array_equal(copied, wanted)
        with pytest.raises(ValueError, match="confidence_out: it would be written over the mask"):
            engine.confidence(frame(*size), out, out)


@pytest.mark.parametrize("kind", [Interface, Dlpack])
def test_what_is_enqueued_on_the_caller_s_stream_is_waited_for(path, driver, kind):
    with open_backend(path) as engine:
        expected = engine.segment(frame(20, 30))
        mine, others = driver.Stream(NON_BLOCKING), driver.Stream(NON_BLOCKING)
        image, out = kind(driver, frame(20, 30), mine), kind(driver, empty(20, 30), others)
        engine.segment(image, out)
        np.testing.assert_array_equal(out.read(), expected)
        for array in (image, out):
            if kind is Dlpack:
                array.close()


def test_nothing_is_copied_between_host_and_gpu(path, driver):
    with open_backend(path) as engine:
        image, out = Interface(driver, frame(20, 30)), Interface(driver, empty(20, 30))
        engine.segment(image, out)
        gpu_arrays.ran()
        engine.segment(image, out)
        done = gpu_arrays.ran()
    if done is not None:  # on the imitated driver
        assert "wait" in done and not [name for name in done if name.startswith(("htod", "dtoh", "upload", "dtod"))]


def test_a_mask_of_a_frame_on_the_gpu_is_there_and_outlives_the_engine(path, driver):
    free = driver.mem_get_info()[0]
    with open_backend(path) as engine:
        expected = engine.segment(frame(20, 30))
        image = Interface(driver, frame(20, 30))
        first, second = engine.segment(image), engine.segment(image)
        assert first.address != second.address and on_gpu(first) and first.shape == (20, 30)
        again = engine.segment(frame(20, 30), first)  # it is taken as any other is
        assert again is first
    found = np.empty((20, 30), np.uint8)
    for mask in (first, second):
        driver.memcpy_dtoh(found, mask.__cuda_array_interface__["data"][0])
        np.testing.assert_array_equal(found, expected)
    del first, second, again, mask, image
    gc.collect()
    assert free - driver.mem_get_info()[0] <= 4 << 20


def test_a_mask_on_the_gpu_is_handed_out_by_dlpack_and_lives_until_it_is_given_back(path, driver):
    with open_backend(path) as engine:
        expected, image = engine.segment(frame(20, 30)), Interface(driver, frame(20, 30))
        mask = engine.segment(image)
        taken = gpu_arrays.Taken(driver, mask.__dlpack__(stream=engine._stream.handle, max_version=(1, 0)))
        assert (taken.device, taken.kind) == (mask.__dlpack_device__(), (1, 8, 1)) and taken.address == mask.address
        assert (taken.shape, taken.strides) == ([20, 30], [30, 1])
        untaken = mask.__dlpack__()
        del mask
    np.testing.assert_array_equal(taken.read(), expected)
    del untaken
    np.testing.assert_array_equal(taken.read(), expected)
    before = driver.mem_get_info()[0]
    taken.give_back()
    if gpu_arrays.ran() is not None:  # to the byte on the imitated driver
        assert driver.mem_get_info()[0] == before + 20 * 30


def test_a_capsule_that_nobody_takes_gives_the_mask_back(path, driver):
    with open_backend(path) as engine:
        mask = engine.segment(Interface(driver, frame(20, 30)))
        before = driver.mem_get_info()[0]
        capsule = mask.__dlpack__()
        del mask
        assert driver.mem_get_info()[0] == before
        del capsule
        if gpu_arrays.ran() is not None:
            assert driver.mem_get_info()[0] == before + 20 * 30


def test_what_dlpack_cannot_be_asked_for_is_refused_by_the_array_api_s_errors(path, driver):
    with open_backend(path) as engine:
        mask = engine.segment(Interface(driver, frame(4, 6)))
        for stream in (None, -1, 1, 2, engine._stream.handle):
            assert mask.__dlpack__(stream=stream, dl_device=(2, 0), copy=False)
        for error, asked in (
            (ValueError, {"stream": 0}),
            (ValueError, {"stream": -2}),
            (TypeError, {"stream": "1"}),
            (TypeError, {"stream": True}),
            (BufferError, {"copy": True}),
            (BufferError, {"dl_device": (1, 0)}),
            (BufferError, {"dl_device": (2, 1)}),
        ):
            with pytest.raises(error):
                mask.__dlpack__(**asked)


def test_one_of_both_may_be_on_the_host(path, driver):
    with open_backend(path) as engine:
        expected = engine.segment(frame(20, 30))
        here, there = empty(20, 30), Interface(driver, empty(20, 30))
        assert engine.segment(Interface(driver, frame(20, 30)), here) is here
        assert engine.segment(frame(20, 30), there) is there
        np.testing.assert_array_equal(here, expected)
        np.testing.assert_array_equal(there.read(), expected)


def test_lanes_take_what_is_on_the_gpu(path, driver):
    with open_lanes(path, 2) as lanes:
        expected, out = lanes.segment(frame(20, 30)), Interface(driver, empty(20, 30))
        assert lanes.segment(Interface(driver, frame(20, 30)), out) is out
        np.testing.assert_array_equal(out.read(), expected)
        lanes.warm_up(Interface(driver, frame(20, 30)), 2)


BAD = [
    (lambda d: Interface(d, frame(4, 6).astype(np.float32)), r"a frame is uint8, got float32 \(4, 6, 3\)"),
    (lambda d: Interface(d, frame(4, 6)[..., 0]), r"a frame is uint8 \(height, width, 3\) RGB, got uint8 \(4, 6\)"),
    (lambda d: Interface(d, frame(4, 6).transpose(2, 0, 1).copy()), r"RGB, got uint8 \(3, 4, 6\) on a GPU"),
    (lambda d: Interface(d, frame(4, 6), strides=(18, 3, -1)), r"contiguous, got strides \(18, 3, -1\)"),
    (lambda d: Interface(d, frame(4, 6), strides=(36, 3, 1)), r"is contiguous, got strides \(36, 3, 1\)"),
    (lambda d: Interface(d, frame(4, 6), mask=1), "uint8 with a mask"),
    (lambda d: Interface(d, frame(4, 6), stream=0), "names the stream 0, which is none"),
    (lambda d: Interface(d, frame(4, 6), data=(64, False)), "at an address that the driver does not know"),
    (lambda d: Interface(d, frame(4, 6), data=None), "cannot be read where it lies"),
    (lambda d: Interface(d, frame(4, 6), shape=(0, 6, 3)), r"got uint8 \(0, 6, 3\) on a GPU"),
    (lambda d: Dlpack(d, frame(4, 6), device=1), "lies on GPU 1, the engine on GPU 0"),
    (lambda d: Dlpack(d, frame(4, 6), code=0), "a type of code 0, 8 bits"),
    (lambda d: Dlpack(d, frame(4, 6), bits=16), "a type of code 1, 16 bits"),
    (lambda d: Dlpack(d, frame(4, 6), strides=(1, 4, 24)), r"contiguous, got strides \(1, 4, 24\)"),
]


def test_what_is_no_frame_on_this_gpu_is_one_line_and_the_next_frame_is_as_ever(path, driver):
    with open_backend(path) as engine:
        expected = engine.segment(frame(20, 30))
        for make, told in BAD:
            with pytest.raises(FrameError, match=told) as refused:
                engine.segment(make(driver))
            assert "\n" not in str(refused.value)
            np.testing.assert_array_equal(engine.segment(frame(20, 30)), expected)


def test_page_locked_memory_that_says_it_is_the_gpu_s_and_another_context_are_refused(path, driver, monkeypatch):
    pinned = driver.pagelocked_empty((4, 6, 3), np.uint8)
    with open_backend(path) as engine:
        with pytest.raises(FrameError, match="the driver that it lies in the host's memory"):
            engine.segment(Interface(driver, frame(4, 6), data=(pinned.ctypes.data, False)))
        monkeypatch.setattr(tensorrt_places, "current_context", lambda: 1)
        with pytest.raises(FrameError, match="made in another CUDA context"):
            engine.segment(Interface(driver, frame(4, 6)))


def test_where_a_mask_cannot_be_written_on_the_gpu_is_refused_and_left(path, driver):
    with open_backend(path) as engine:
        image = Interface(driver, frame(4, 6))
        over = Interface(driver, empty(4, 6), data=(int(image.memory) + 8, False))
        told = [
            (Interface(driver, empty(6, 4)), ValueError, r"written to uint8 \(4, 6\), got uint8 \(6, 4\)"),
            (Interface(driver, empty(4, 6), data=(1, True)), ValueError, "read-only"),
            (over, ValueError, "over its frame"),
            (Interface(driver, empty(4, 6).astype(np.int32)), FrameError, "a mask is uint8, got int32"),
            (np.zeros((6, 4), np.uint8), ValueError, r"uint8 \(4, 6\), got uint8 \(6, 4\)"),
        ]
        for out, kind, words in told:
            with pytest.raises(kind, match=words):
                engine.segment(image, out)
        np.testing.assert_array_equal(image.read(), frame(4, 6))


def test_an_overlay_and_logits_want_a_frame_of_the_host(path, driver):
    with open_backend(path) as engine:
        image = Interface(driver, frame(4, 6))
        for call in (lambda: engine.overlay(image, palette(CAMVID), 0.5), lambda: engine.logits(image)):
            with pytest.raises(FrameError, match=r"the frame lies on a GPU .*Interface.*: copy it"):
                call()
