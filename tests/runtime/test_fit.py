"""Frames of another shape than the network's: where they lie in its input, and their mask's way back."""

import dataclasses

import numpy as np
import pytest

from runtime import reference
from runtime.backend import open_backend
from runtime.fit import FARTHEST, Shapes, Span, box_of, is_far, with_fit
from runtime.lanes import open_lanes
from runtime.spec import FITS, from_json, to_json
from tests.helpers import kernel_cases
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import logits_with_ties


def spec_of(fit, *, height=32, width=64, block=1):
    spec = tiny_spec(height=height, width=width, block=block)
    return dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, fit=fit))


def preprocess_of(fit, height=32, width=64):
    return spec_of(fit, height=height, width=width).preprocess


@pytest.mark.parametrize("fit", FITS)
def test_a_frame_of_the_networks_shape_fills_it_and_has_the_bytes_that_it_had(fit):
    for height, width in ((32, 64), (1024, 2048), (16, 32), (7, 14)):
        frame = kernel_cases.frames(height, width)["noise"]
        assert box_of(preprocess_of(fit), height, width).is_whole
        fitted = reference.fit_frame(frame, preprocess_of(fit))
        assert np.array_equal(fitted, reference.resize_frame(frame, 32, 64))


def test_a_padded_frame_keeps_its_shape_in_the_middle_of_the_mean_colour():
    preprocess = preprocess_of("pad")
    for (height, width), box in {
        (64, 64): (Span(0, 32, 32), Span(16, 32, 64)),
        (20, 160): (Span(12, 8, 32), Span(0, 64, 64)),
        (10_000, 1): (Span(0, 32, 32), Span(31, 1, 64)),
    }.items():
        assert box_of(preprocess, height, width) == box
        frame = kernel_cases.frames(height, width)["noise"]
        fitted = reference.fit_frame(frame, preprocess)
        (top, h, _), (left, w, _) = box
        inside = fitted[top : top + h, left : left + w]
        assert np.array_equal(inside, reference.resize_frame(frame, h, w))
        outside = np.ones((32, 64), bool)
        outside[top : top + h, left : left + w] = False
        assert (fitted[outside] == (10, 20, 30)).all()
        assert not reference.preprocess(frame, preprocess)[0, :, outside].any()  # normalised it is zero


def test_the_border_has_the_frames_order_of_colours():
    bgr = dataclasses.replace(kernel_cases.RAW_BGR, fit="pad")
    assert reference.border(bgr).tolist() == [124, 117, 104]
    assert reference.border(dataclasses.replace(kernel_cases.STREET)).tolist() == [124, 116, 104]


def test_auto_pads_what_is_farther_than_was_measured_either_way():
    preprocess = preprocess_of("auto", 1024, 2048)
    for height, width in ((360, 480), (1080, 1920), (720, 2400)):
        assert not is_far(preprocess, height, width) and box_of(preprocess, height, width).is_whole
    for height, width in ((480, 480), (1920, 1080), (400, 1500)):
        assert is_far(preprocess, height, width) and not box_of(preprocess, height, width).is_whole
    assert 1 < FARTHEST < 2


@pytest.mark.parametrize("upsample", ["half_pixel", "align_corners", "nearest"])
def test_the_mask_is_taken_where_the_frame_lies(upsample):
    # A ramp of logits along each axis says where in the network's input a pixel of the frame was taken from.
    for n_in, n_out, span in ((16, 100, Span(8, 16, 32)), (16, 7, Span(3, 29, 32)), (8, 300, Span(15, 1, 32))):
        table = reference.cut_table(n_in, n_out, span, upsample)
        found = table.first * table.weight_first + table.second * table.weight_second
        in_input = span.start + (np.arange(n_out) + 0.5) * span.length / n_out
        wanted = {
            "half_pixel": in_input * n_in / 32 - 0.5,
            "align_corners": (in_input - 0.5) * (n_in - 1) / 31,
            "nearest": np.floor(in_input * n_in / 32),
        }[upsample]
        np.testing.assert_allclose(found, np.clip(wanted, 0, n_in - 1), atol=1e-4)
        whole = reference.cut_table(n_in, n_out, Span(0, 32, 32), upsample)
        for a, b in zip(whole, reference.axis_table(n_in, n_out, upsample), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("size", [(64, 20), (9, 100), (32, 64)], ids=str)
def test_what_lies_in_the_frame_lies_there_in_the_mask(size):
    # The network's answer is its own input, a class a brightness: the mask is the frame again.
    height, width = size
    spec = spec_of("pad", height=128, width=256)
    classes = (np.arange(height)[:, None] * 4 // height + np.arange(width) * 2 // width).astype(np.uint8)
    fitted = reference.fit_frame(np.repeat(classes[:, :, None] * 40, 3, axis=2), spec.preprocess)[..., 0]
    logits = -np.abs(fitted / 40.0 - np.arange(11)[:, None, None])[None].astype(np.float32)
    assert (reference.segment(logits, spec, size) == classes).mean() > 0.9


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_another_fit_than_the_engines_is_the_references(tmp_path, backend):
    path = built_engine(tmp_path, backend=backend)
    for fit in (None, *FITS):
        with open_backend(path, fit=fit) as engine:
            assert engine.spec.preprocess.fit == (fit or "stretch")
            for size in ((60, 20), (5, 100), (32, 64)):
                frame = kernel_cases.frames(*size)["noise"]
                expected = reference.segment(engine.logits(frame), engine.spec, frame.shape)
                assert np.array_equal(engine.segment(frame), expected)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_open_engine_takes_another_fit_from_the_next_frame_on(tmp_path, backend):
    path, frame = built_engine(tmp_path, backend=backend), kernel_cases.frames(60, 20)["noise"]
    with open_backend(path) as engine:
        for fit in ("pad", "stretch", "auto", "pad"):
            engine.refit(fit)
            assert engine.spec.preprocess.fit == fit
            with open_backend(path, fit=fit) as other:
                assert np.array_equal(engine.segment(frame), other.segment(frame))
                for found, expected in zip(engine.confidence(frame), other.confidence(frame), strict=True):
                    assert np.array_equal(found, expected)
        with pytest.raises(ValueError, match="got 'crop'"):
            engine.refit("crop")


def test_the_fit_of_lanes_is_the_one_asked_and_another_word_is_refused(tmp_path):
    path = built_engine(tmp_path, backend="openvino")
    with open_lanes(path, 2, fit="pad") as lanes:
        assert lanes.spec.preprocess.fit == "pad"
    for opening in (open_backend, open_lanes):
        with pytest.raises(ValueError, match="fit is one of stretch, pad, auto, got 'crop'"):
            opening(path, fit="crop")


@pytest.mark.parametrize("block", [1, 2])
def test_logits_of_the_frames_size_by_chance_are_not_taken_for_its_mask(block):
    from runtime.kernels import cpu

    spec = spec_of("pad", block=block)
    logits = logits_with_ties(11, 32 // block, 64 // block, block, step=0.5)[:, :, :, : 32 // block]
    last = np.ascontiguousarray(logits[0].transpose(1, 2, 0))
    assert np.array_equal(cpu.Segmenter(spec).segment(last, 32, 32), reference.segment(logits, spec, (32, 32)))


def test_a_spec_of_before_stretches_and_one_that_pads_survives_json():
    spec = spec_of("pad")
    assert from_json(type(spec), to_json(spec)) == spec
    before = to_json(spec_of("stretch"))
    assert "fit" not in before
    assert from_json(type(spec), before).preprocess.fit == "stretch"
    with pytest.raises(ValueError, match=r"preprocess\.fit is 'crop', expected one of 'stretch', 'pad', 'auto'"):
        from_json(type(spec), to_json(spec).replace('"pad"', '"crop"'))


def test_frames_far_from_the_networks_shape_are_told_once_with_how_many():
    shapes = Shapes(preprocess_of("stretch"))
    assert shapes.line() == ""
    for size in ((32, 64), (64, 32), (90, 30)):
        shapes.add(*size)
    assert shapes.line().startswith(
        "2 of 3 frames are far from the network's shape, such as 90x30, stretched 6.0 times"
    )
    padded = Shapes(preprocess_of("auto"))
    padded.add(90, 30, 5)
    padded.add(0, 0, 0)
    assert "5 of 5 frames" in padded.line() and "have a border" in padded.line()


def test_no_fit_leaves_a_manifest_as_it_is(tmp_path):
    from runtime.manifest import read_manifest

    manifest = read_manifest(built_engine(tmp_path))
    assert with_fit(manifest, None) == manifest == with_fit(manifest, "stretch")
    assert with_fit(manifest, "pad").spec.preprocess.fit == "pad"
