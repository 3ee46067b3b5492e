"""Engines on a GPU: what they compute, what they cost in memory, and what is left when they close."""

import gc
import resource
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from engines.build import build_engine
from export.to_onnx import Request, export
from runtime import reference
from runtime.backend import open_backend
from runtime.labels import CAMVID, palette
from runtime.lanes import open_lanes
from runtime.manifest import read_manifest
from tests.helpers.engines import built_engine
from tests.helpers.gpu_work import CHANGES, FRAMES, HALF, LARGE, OPENINGS
from tests.helpers.graphs import tiny_spec

pytestmark = pytest.mark.gpu

MIB = 1 << 20
# FP16 has 11 bits of mantissa and its sums run in another order: classes that are nearly equal change places.
MASK_AGREEMENT = 0.995
# Of the range of the logits, for two convolutions.
LOGITS = {"fp32": 1e-4, "fp16": 2e-2}
# The CUDA driver takes device memory in blocks of 2 MiB for its own use whenever it likes.
GROWTH = 4 * MIB
SIZES = ((32, 64), (1, 1), (17, 301), (100, 50))


def frame(height, width, seed=0):
    random = np.random.default_rng(seed)
    return cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (width, height))


def free_bytes(driver):
    gc.collect()
    return driver.mem_get_info()[0]


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_logits_are_those_of_onnxruntime_and_the_mask_is_the_reference_of_them(tmp_path, backend, precision, block):
    spec = tiny_spec(block=block)
    judged = built_engine(tmp_path, backend=backend, precision=precision, spec=spec)
    judge = built_engine(tmp_path, backend="onnxruntime", spec=spec)
    with open_backend(judged) as engine, open_backend(judge) as referee:
        for size in SIZES:
            expected, got = referee.logits(frame(*size)), engine.logits(frame(*size))
            assert np.abs(got - expected).max() <= LOGITS[precision] * np.ptp(expected)
            np.testing.assert_array_equal(engine.segment(frame(*size)), reference.segment(got, spec, (*size, 3)))


@pytest.fixture(scope="module", params=["enet", "icnet"])
def judged(request, tmp_path_factory):
    """A network's graph in fp16, a frame, and its mask by onnxruntime in fp32."""
    half, single = (export(Request(request.param, precision, *HALF)) for precision in ("fp16", "fp32"))
    folder, image = tmp_path_factory.mktemp(request.param), frame(*HALF)
    with open_backend(build_engine(single, "fp32", "onnxruntime", folder, prove=False)) as referee:
        return half, image, referee.segment(image)


@pytest.mark.slow
def test_fp16_masks_agree_with_onnxruntime_in_fp32(tmp_path, library, judged):
    graph, image, expected = judged
    half = build_engine(graph, "fp16", library, tmp_path)
    with open_backend(half) as engine:
        assert (engine.segment(image) == expected).mean() >= MASK_AGREEMENT
    assert set(read_manifest(half).executed) == {"fp16"}


def test_the_copies_are_from_and_to_page_locked_memory(tmp_path, backend, driver):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        engine.segment(frame(40, 50))
        before = engine._frame.frame_pinned, *(pinned for pinned, _ in engine._frame.results)
        engine.segment(frame(40, 50, seed=1))
        assert (engine._frame.frame_pinned, *(pinned for pinned, _ in engine._frame.results)) == before
        assert all(isinstance(array.base, driver.PagelockedHostAllocation) for array in before)


def test_a_frame_is_one_cuda_graph_from_the_second_on_and_its_mask_is_that_of_its_logits(tmp_path, backend):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        for size in SIZES:
            for seed in range(4):
                image = frame(*size, seed)
                expected = reference.segment(engine.logits(image), engine.spec, image.shape)  # enqueued call by call
                np.testing.assert_array_equal(engine.segment(image), expected)
                assert (engine._graph is not None) == (seed > 0)


def test_an_overlay_comes_from_the_pass_of_its_mask(tmp_path, backend):
    colors = palette(CAMVID)
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        for size in SIZES:
            for seed in range(3):
                image = frame(*size, seed)
                mask, overlay = engine.overlay(image, colors, 0.5)
                np.testing.assert_array_equal(overlay, reference.overlay(image, mask, colors, 0.5))
                assert (engine._graph is not None) == (seed > 0)
            np.testing.assert_array_equal(mask, engine.segment(image))


def test_lanes_capture_while_others_run(tmp_path, backend):
    path = built_engine(tmp_path, backend=backend, precision="fp16")
    images = [frame(*size, seed) for size in SIZES for seed in range(12)]
    with open_backend(path) as engine:
        expected = [reference.segment(engine.logits(image), engine.spec, image.shape) for image in images]
    with open_lanes(path, 3) as lanes, ThreadPoolExecutor(3) as pool:
        for mask, alone in zip(pool.map(lanes.segment, images), expected, strict=True):
            np.testing.assert_array_equal(mask, alone)


def test_a_capture_that_is_refused_leaves_an_engine_that_works(tmp_path, backend, monkeypatch, capsys):
    path = built_engine(tmp_path, backend=backend, precision="fp16")
    with open_backend(path) as engine:
        expected = [engine.segment(frame(64, 128, seed)) for seed in range(3)]
    with open_backend(path) as engine:
        enqueue = engine._enqueue

        def waits(buffers, *, captured=False):
            enqueue(buffers, captured=captured)
            if captured:
                engine._stream.synchronize()  # which no stream that captures allows

        monkeypatch.setattr(engine, "_enqueue", waits)
        for seed in range(3):
            np.testing.assert_array_equal(engine.segment(frame(64, 128, seed)), expected[seed])
        assert engine._graph is None
    assert capsys.readouterr().err.count("is no CUDA graph here") == 1


@pytest.mark.slow
def test_frame_after_frame_takes_no_memory(tmp_path, backend, driver):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        for seed in range(10):
            engine.segment(frame(64, 128, seed))
        expected, free, resident = engine.segment(frame(64, 128)), free_bytes(driver), resident_bytes()
        images = [frame(64, 128), frame(64, 128, seed=1)]
        for index in range(FRAMES, -1, -1):
            mask = engine.segment(images[index % 2])
        np.testing.assert_array_equal(mask, expected)
        assert free - free_bytes(driver) <= GROWTH
        assert resident_bytes() - resident <= GROWTH


def test_a_frame_size_that_changes_takes_no_memory(tmp_path, backend, driver):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        expected = {size: engine.segment(frame(*size)) for size in SIZES}
        free = free_bytes(driver)
        for _ in range(CHANGES):
            for size in SIZES:
                engine.segment(frame(*size, seed=1))
                np.testing.assert_array_equal(engine.segment(frame(*size)), expected[size])
        assert free - free_bytes(driver) <= GROWTH


def test_close_frees_what_was_taken(tmp_path, backend, driver):
    path = built_engine(tmp_path, backend=backend, precision="fp16")
    with open_backend(path) as engine:  # the library keeps some memory from its first engine on
        engine.segment(frame(*LARGE))
    free = free_bytes(driver)
    for _ in range(OPENINGS):
        with open_backend(path) as engine:
            engine.segment(frame(*LARGE))
            assert free - free_bytes(driver) >= 4 * LARGE[0] * LARGE[1]
    assert free - free_bytes(driver) <= GROWTH


def test_two_engines_are_open_at_once(tmp_path, backend):
    paths = [built_engine(tmp_path, backend=backend, precision=precision) for precision in ("fp16", "fp32")]
    alone = []
    for path in paths:
        with open_backend(path) as engine:
            alone.append(engine.segment(frame(40, 50)))
    with open_backend(paths[0]) as first, open_backend(paths[1]) as second:
        for _ in range(3):
            np.testing.assert_array_equal(first.segment(frame(40, 50)), alone[0])
            np.testing.assert_array_equal(second.segment(frame(40, 50)), alone[1])


def test_stages_are_timed_by_the_gpu(tmp_path, backend):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        engine.segment(frame(*LARGE))
        engine.segment(frame(*LARGE))
        assert list(engine.stages_ms) == ["preprocess", "network", "postprocess"]
        assert all(ms > 0 for ms in engine.stages_ms.values())


def test_kernels_are_timed_beside_a_copy_of_as_many_bytes(tmp_path, backend, driver):
    with open_backend(built_engine(tmp_path, backend=backend, precision="fp16")) as engine:
        engine.segment(frame(*HALF))
        before = free_bytes(driver)
        found = engine.kernels_alone(frame(*HALF), 5)
        assert [one.kernel for one in found] == [  # those that read and write the layouts of engines.tensorrt_layout
            "resize_normalize_last_fp16",
            "coarse_winner_last_fp16",
            "upsample_argmax_last_fp16",
        ]
        assert all(len(one.ms) == len(one.copy_ms) == 5 and min(*one.ms, *one.copy_ms) > 0 for one in found)
        assert before - free_bytes(driver) <= GROWTH
