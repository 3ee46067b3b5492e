import ctypes
import dataclasses

import numpy as np
import pytest

from runtime import reference
from runtime.kernels.cpu import float_from_bits
from runtime.spec import FITS, ModelSpec
from tests.helpers import kernel_cases
from tests.helpers.cpp_kernels import UPSAMPLES, Kernels
from tests.helpers.graphs import tiny_spec
from tests.helpers.resize_cases import RESIZES, logits_with_ties

pytestmark = pytest.mark.examples


@pytest.fixture(scope="module")
def library(built):
    return ctypes.CDLL(str(built / "libsegment_c.so"))


def spec_of(classes: int, block: int, **fields) -> ModelSpec:
    spec = tiny_spec(block=block)
    labels = (spec.classes * 2)[:classes]
    return dataclasses.replace(spec, classes=labels, **fields)


def channels_last(logits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(logits[0].transpose(1, 2, 0))


def bfloat16(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("step", [1e-6, 0.5, 2.0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize("upsample", UPSAMPLES)
@pytest.mark.parametrize("block", [1, 2, 3])
def test_masks_in_cpp_are_the_references_to_the_last_pixel(library, block, upsample, step):
    for h, w, height, width in RESIZES:
        for classes in (1, 2, 11, 19):
            spec = spec_of(classes, block, upsample=upsample)
            logits = logits_with_ties(classes, h, w, block, step=step)
            mask = Kernels(library, spec).segment(channels_last(logits), height, width)
            expected = reference.postprocess(logits, height, width, block=block, upsample=upsample, box=None)
            assert np.array_equal(mask, expected), (h, w, height, width, classes)


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("sizes", kernel_cases.MASK_SIZES)
def test_masks_in_cpp_of_values_that_break_kernels_are_the_references(library, sizes, block):
    (h, w), (height, width) = sizes
    for classes in kernel_cases.CLASSES:
        for name, values in kernel_cases.logits(classes, block, h, w, np.float32).items():
            kernels = Kernels(library, spec_of(classes, block))
            for last in (channels_last(values), bfloat16(channels_last(values))):
                exact = float_from_bits(last) if last.dtype == np.uint16 else last
                mask = kernels.segment(last, height * block, width * block)
                expected = reference.postprocess(exact.transpose(2, 0, 1)[None], *mask.shape, block=block)
                assert np.array_equal(mask, expected), (name, classes, last.dtype)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("preprocess", [kernel_cases.STREET, kernel_cases.RAW_BGR], ids=["RGB", "BGR"])
def test_frames_in_cpp_are_resized_and_padded_as_the_reference_does(library, preprocess, fit):
    for frame_size, (height, width) in (*kernel_cases.INPUT_SIZES, *kernel_cases.FITTED_SIZES):
        own = dataclasses.replace(preprocess, height=height, width=width, fit=fit)
        kernels = Kernels(library, spec_of(2, 1, preprocess=own))
        for name, frame in kernel_cases.frames(*frame_size).items():
            assert np.array_equal(kernels.resize(frame), reference.fit_frame(frame, own)), (frame_size, own, name)


@pytest.mark.parametrize("upsample", UPSAMPLES)
@pytest.mark.parametrize("block", [1, 2])
def test_masks_in_cpp_of_frames_with_a_border_are_the_references(library, block, upsample):
    for frame_size, (height, width) in kernel_cases.FITTED_SIZES:
        own = dataclasses.replace(kernel_cases.STREET, height=height, width=width, fit="pad")
        spec = spec_of(5, block, preprocess=own, upsample=upsample)
        logits = logits_with_ties(5, height // 8, width // 8, block)
        mask = Kernels(library, spec).segment(channels_last(logits), *frame_size)
        assert np.array_equal(mask, reference.segment(logits, spec, frame_size)), (frame_size, height, width)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("block", [1, 2])
def test_bands_in_cpp_meet_without_a_seam_and_sizes_may_change(library, threads, block):
    kernels = Kernels(library, spec_of(5, block), threads)
    logits = logits_with_ties(5, 17, 30, block)
    for height, width in ((17 * block, 30 * block), (68 * block, 77), (23, 200), (17 * block, 30 * block)):
        mask = kernels.segment(channels_last(logits), height, width)
        assert np.array_equal(mask, reference.postprocess(logits, height, width, block=block))
        frame = kernel_cases.frames(height, width)["noise"]
        assert np.array_equal(kernels.resize(frame), reference.fit_frame(frame, tiny_spec().preprocess))
