"""Masks of logits that an engine leaves half as many each way are those of the doubled ones, to the last pixel."""

import dataclasses

import numpy as np
import openvino
import pytest
from openvino import opset13

from runtime import reference
from runtime.doubling import doubled
from runtime.kernels import cpu
from runtime.kernels.cpu import float_from_bits
from tests.helpers import kernel_cases
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import logits_with_ties

SIZES = [((1, 5), (9, 40)), ((4, 1), (8, 2)), ((3, 5), (6, 10)), ((7, 9), (90, 61)), ((17, 30), (23, 7))]


def channels_last(logits):
    return np.ascontiguousarray(logits[0].transpose(1, 2, 0))


def both_kinds(logits):
    """As (what a segmenter takes, the same as float32 NCHW): float32, and the bits of bfloat16."""
    last = channels_last(logits)
    bits = (last.view(np.uint32) >> 16).astype(np.uint16)
    return (last, logits), (bits, float_from_bits(bits).transpose(2, 0, 1)[None])


def test_it_is_what_openvino_does():
    values = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    x = opset13.parameter([2, 3, 5, 7], np.float32)
    how = {"mode": "linear_onnx", "shape_calculation_mode": "sizes", "coordinate_transformation_mode": "half_pixel"}
    made = opset13.interpolate(x, np.array([10, 14]), **how, axes=np.array([2, 3]))
    engine = openvino.Core().compile_model(openvino.Model([made], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.allclose(doubled(values), engine([values])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("upsample", ["half_pixel", "align_corners", "nearest"])
@pytest.mark.parametrize(("coarse", "size"), SIZES)
def test_masks_and_confidences_are_those_of_the_doubled_logits(coarse, size, upsample):
    spec = dataclasses.replace(tiny_spec(), upsample=upsample)
    segmenter = cpu.Segmenter(spec, halved=True)
    for step in (1e-6, 0.5, 2.0):
        for given, exact in both_kinds(logits_with_ties(11, *coarse, 1, step=step)):
            whole = doubled(exact)
            assert np.array_equal(segmenter.doubled(given), channels_last(whole))
            assert np.array_equal(segmenter.segment(given, *size), reference.segment(whole, spec, size))
            expected = reference.segment_confidence(whole, spec, size)
            assert np.array_equal(segmenter.confidence(given, *size), expected)


@pytest.mark.parametrize("sizes", kernel_cases.MASK_SIZES)
def test_values_that_break_kernels(sizes):
    (h, w), (height, width) = sizes
    for classes in kernel_cases.CLASSES:
        for name, values in kernel_cases.logits(classes, 1, h, w, np.float32).items():
            for given, exact in both_kinds(values):
                with np.errstate(all="ignore"):
                    expected = reference.postprocess(doubled(exact), height, width)
                mask = cpu.Segmenter(tiny_spec(), halved=True).segment(given, height, width)
                assert np.array_equal(mask, expected), (name, classes, given.dtype)


@pytest.mark.parametrize("bands", [1, 2, 3, 16])
def test_bands_meet_without_a_seam(bands, monkeypatch):
    monkeypatch.setattr(cpu, "count", lambda: bands)
    for given, exact in both_kinds(logits_with_ties(5, 17, 30, 1)):
        for size in ((34, 60), (136, 77), (23, 200)):
            mask = cpu.Segmenter(tiny_spec(), halved=True).segment(given, *size)
            assert np.array_equal(mask, reference.postprocess(doubled(exact), *size))


def test_without_compiled_loops_the_definition_does_the_work(monkeypatch):
    given, logits = both_kinds(logits_with_ties(11, 5, 8, 1))[1]
    expected = reference.postprocess(doubled(logits), 40, 33)
    monkeypatch.setattr(cpu, "_loops", lambda name: None)
    segmenter = cpu.Segmenter(tiny_spec(), halved=True)
    assert np.array_equal(segmenter.segment(given, 40, 33), expected)
    assert np.array_equal(segmenter.doubled(given), channels_last(doubled(logits)))


def test_where_the_loops_of_tiles_alone_do_not_load_labels_are_the_same(monkeypatch):
    logits = logits_with_ties(11, 5, 8, 2)
    (_, _), (bits, exact) = both_kinds(logits)
    whole = cpu._loops
    monkeypatch.setattr(cpu, "_loops", lambda name: None if name == "tile_loops" else whole(name))
    mask = cpu.Segmenter(tiny_spec(block=2)).segment(bits, 10, 16)
    assert np.array_equal(mask, reference.postprocess(exact, 10, 16, block=2))
