"""Several frames in one call."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import infer
from runtime.backend import open_backend
from runtime.cli import batch_from_text
from runtime.errors import EngineError, FrameError
from runtime.lanes import open_lanes
from runtime.manifest import read_manifest
from tests.helpers.engines import built_engine, changed, new_engine
from tests.helpers.graphs import tiny_spec

SIZES = ((32, 64), (1, 1), (17, 31), (32, 64), (40, 50))


def frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def backend(request):
    return request.param


@pytest.fixture(scope="module", params=["1", "2", "4", "1-3"])
def path(request, backend, tmp_path_factory):
    """An engine that takes so many frames at once."""
    least, most = batch_from_text(request.param)
    spec = tiny_spec(batch=most, batch_free=least < most)
    return built_engine(tmp_path_factory.mktemp("engine"), backend=backend, spec=spec)


def test_an_engine_of_a_batch_gives_the_masks_of_one_of_single_frames_and_is_proven(path, backend, tmp_path):
    frames = [frame(*size, seed) for seed, size in enumerate(SIZES)]
    with open_backend(path) as engine, open_backend(built_engine(tmp_path, backend=backend)) as single:
        for mask, one in zip(engine.segment_batch(frames), frames, strict=True):
            np.testing.assert_array_equal(mask, single.segment(one))
        np.testing.assert_array_equal(engine.logits(frames[0]), single.logits(frames[0]))
    assert read_manifest(path).proof.frames >= 1


def test_the_masks_of_a_batch_are_those_of_its_frames_one_by_one_in_their_order(path):
    frames = [frame(*size, seed) for seed, size in enumerate(SIZES)]
    with open_backend(path) as engine, open_lanes(path, 2) as lanes:
        expected = [engine.segment(one) for one in frames]
        for segment_batch in (engine.segment_batch, lanes.segment_batch):
            outs = [np.zeros(size, np.uint8) for size in SIZES]
            for masks in (segment_batch(frames), segment_batch(frames, outs), segment_batch(tuple(frames))):
                for mask, alone in zip(masks, expected, strict=True):
                    np.testing.assert_array_equal(mask, alone)
            for out, alone in zip(outs, expected, strict=True):
                np.testing.assert_array_equal(out, alone)
            stacked = segment_batch(np.stack([frames[0], frames[3]]))
            np.testing.assert_array_equal(stacked, [expected[0], expected[3]])
            assert segment_batch([]) == []


def test_a_batch_with_a_frame_that_is_none_is_refused_whole_and_says_which(path):
    good, outs = frame(4, 6), [np.full((4, 6), 77, np.uint8) for _ in range(2)]
    with open_backend(path) as engine, open_lanes(path, 2) as lanes:
        for segment_batch in (engine.segment_batch, lanes.segment_batch):
            with pytest.raises(FrameError, match=r"^frame 1 of the batch: a frame is a NumPy array.*got None"):
                segment_batch([good, None], outs)
            with pytest.raises(ValueError, match=r"^frame 1 of the batch: the mask of this frame is written to uint8"):
                segment_batch([good, good], [outs[0], np.zeros((6, 4), np.uint8)])
            with pytest.raises(ValueError, match="a batch of 2 frames has as many masks, got 1"):
                segment_batch([good, good], outs[:1])
            for given in (good, None, "img.png", iter([good])):
                with pytest.raises(FrameError, match="a batch is a list of frames, or an array of four dimensions"):
                    segment_batch(given)
            assert all((out == 77).all() for out in outs)


def test_masks_that_would_be_written_over_each_other_or_a_frame_are_refused(path):
    good, wide = frame(4, 6), np.full((4, 6, 2), 77, np.uint8)
    held = np.zeros((2, 4, 6, 3), np.uint8)
    with open_backend(path) as engine, open_lanes(path, 2) as lanes:
        for segment_batch in (engine.segment_batch, lanes.segment_batch):
            for frames, outs in (
                ([good, good], [wide[..., 0], wide[..., 0]]),
                ([good, held[0]], [held[0, ..., 1], wide[..., 0]]),
                ([held[1], good], [wide[..., 0], held[1, ..., 1]]),
            ):
                with pytest.raises(ValueError, match=r"of the batch: its mask would be written over|over its frame"):
                    segment_batch(frames, outs)
            assert (wide == 77).all() and not held.any()
            segment_batch([good, good], [wide[..., 0], wide[..., 1]])  # between each other they may lie
            np.testing.assert_array_equal(wide[..., 0], wide[..., 1])
            wide[...] = 77


def test_a_thread_that_has_all_lanes_does_not_wait_for_itself(path):
    with open_lanes(path, 1) as lanes, lanes.lane(), pytest.raises(EngineError, match="would wait for itself"):
        lanes.segment_batch([frame(4, 6)])


def test_an_open_batch_on_openvino_is_a_loop_and_that_is_said(tmp_path, capsys):
    new_engine(tmp_path, spec=tiny_spec(batch=3, batch_free=True))
    assert "OpenVINO takes one frame at a time: a batch of 1-3 is a loop on this CPU" in capsys.readouterr().err


@pytest.mark.parametrize(("built", "told", "said"), [("1-3", "3", "batch"), ("3", "1-3", "3")])
def test_an_engine_of_another_batch_than_its_manifest_says_is_refused(tmp_path, built, told, said):
    specs = [tiny_spec(batch=3, batch_free="-" in text) for text in (built, told)]
    path = built_engine(tmp_path, backend="onnxruntime", spec=specs[0])
    changed(path, spec=specs[1])
    with pytest.raises(EngineError, match=f"the engine takes {said} frames at once, its manifest says {told}; build"):
        open_backend(path)


def test_lanes_fill_the_batch_of_their_engine(path):
    frames = [frame(*size, seed) for seed, size in enumerate(SIZES)]
    with open_lanes(path, 2) as lanes:
        groups, one = [], lanes._backends[0].segment_batch
        for backend in lanes._backends:
            backend.segment_batch = lambda given, outs, call=backend.segment_batch: (
                groups.append(len(given)) or call(given, outs)
            )
        lanes.segment_batch(frames)
        size = lanes.at_once
        expected = [size] * (len(frames) // size) + [len(frames) % size] * (len(frames) % size > 0)
        assert sorted(groups) == sorted(count for count in expected if count > 1)
        assert one.__self__.at_once == size


def test_many_pictures_go_through_an_engine_of_several_frames_in_their_order(tmp_path, capsys):
    single, several = (built_engine(tmp_path, spec=tiny_spec(batch=size)) for size in (1, 4))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(7):
        cv2.imwrite(str(pictures / f"{seed}.png"), frame(20 + seed, 30, seed))
    written = []
    for name, engine in (("one", single), ("three", several)):
        assert infer.main([str(pictures), "-o", str(tmp_path / name), "--engine", str(engine), "--json"]) == 0
        files = json.loads(capsys.readouterr().out)["files"]
        assert [Path(each["input"]).name for each in files] == [f"{seed}.png" for seed in range(7)]
        written.append([cv2.imread(each["outputs"]["ids"], cv2.IMREAD_UNCHANGED) for each in files])
    for one, other in zip(*written, strict=True):
        np.testing.assert_array_equal(one, other)
