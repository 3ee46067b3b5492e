import numpy as np
import openvino
import pytest
from openvino import opset13

from engines.openvino_colours import read_rgb
from runtime.backends.openvino import DEVICE, compile_options, core

ORDER_OF_SUMMATION = 1e-5


def values(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def convolved(source):
    return opset13.convolution(source, values(5, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1])


def half(source):
    weight = opset13.convert(opset13.constant(values(4, 3, 1, 1), np.float16), "f32")
    return opset13.convolution(source, weight, [1, 1], [0, 0], [0, 0], [1, 1])


def normalised(source):
    less = opset13.subtract(source, opset13.constant(values(1, 3, 1, 1)))
    return convolved(opset13.multiply(opset13.constant(np.float32(0.5)), less))


def every_second(source):
    ends = (np.array([0, 0]), np.array([99, 99]), np.array([2, 2]), np.array([2, -1]))
    return half(opset13.slice(source, *map(opset13.constant, ends)))


def padded(source):
    ends = (np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]))
    return convolved(opset13.pad(source, *map(opset13.constant, ends), "constant", np.float32(0.25)))


def pooled(source):
    return half(opset13.max_pool(source, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0))


def rounded(source):
    ends = [opset13.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (-2, 2, -2, 2)]
    return convolved(opset13.fake_quantize(source, *ends, 256).output(0))


def model_of(*reads):
    frame = opset13.parameter([1, 3, 8, 12], np.float32)
    return openvino.Model([read(frame.output(0)) for read in reads], [frame])


def results(model, frame):
    return [each.copy() for each in core().compile_model(model, DEVICE, compile_options("f32"))([frame]).values()]


@pytest.mark.parametrize(
    "reads",
    [
        (convolved,),
        (half,),
        (normalised,),
        (every_second,),
        (padded,),
        (pooled,),
        (rounded,),
        (convolved, every_second, pooled),
    ],
)
def test_a_model_of_bgr_frames_takes_rgb_ones_for_the_same_outputs(reads):
    frame, model = values(1, 3, 8, 12), model_of(*reads)
    expected = results(model, frame)
    assert read_rgb(model)
    for got, wanted in zip(results(model, frame[:, ::-1]), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=ORDER_OF_SUMMATION)


def grouped(source):
    return opset13.group_convolution(source, values(3, 2, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])


def first_colour(source):
    ends = (np.array([0]), np.array([1]), np.array([1]), np.array([1]))
    return opset13.slice(source, *map(opset13.constant, ends))


def weighted_by_itself(source):
    return opset13.convolution(source, source, [1, 1], [0, 0], [0, 0], [1, 1])


def by_lines(source):
    return opset13.multiply(source, opset13.constant(values(3, 8, 12)))


def rounded_apart(source):
    ends = [opset13.constant(np.full((1, 3, 1, 1), value, np.float32)) for value in (-2, 2, -2, 2)]
    return opset13.fake_quantize(source, *ends, 256)


@pytest.mark.parametrize("other", [rounded_apart, grouped, first_colour, weighted_by_itself, by_lines, opset13.relu])
def test_a_reader_of_another_kind_leaves_the_model_as_it_is(other):
    frame, model = values(1, 3, 8, 12), model_of(convolved, other)
    expected = results(model, frame)
    assert not read_rgb(model)
    for got, wanted in zip(results(model, frame), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
