"""Every kind of layer that multiplies bytes, beside the same graph computed in float."""

import os
import subprocess
import sys

import numpy as np
import openvino
import pytest
from openvino import opset13

from engines.openvino_pairs import fuse_sums, merge_pairs
from engines.openvino_sums import hold_codes, hold_weights, sums_saturate
from runtime.backends.openvino import BELOW_AVX512, DEVICE, compile_options, core
from runtime.cpu import cpu_features, max_isa

STEP = 0.05
EXACT = 1e-5  # of the outputs' deviation: float32 sums in another order
ROUNDED = 0.015  # likewise: weights made smaller by a rounding; what saturates is off by 0.2 and more
# With AVX-512 and no VNNI a deconvolution of signed codes has its weights halved by the plugin: none of its sums
# saturates, and what that rounds comes on top of ours.
HALVED = 0.013
AVX512 = "avx512f" in cpu_features() and max_isa() not in BELOW_AVX512


def pair(source, step=STEP, zero=0):
    """Q/DQ of int8 as ONNX's are read."""
    ends = [opset13.constant(np.float32(end)) for end in (-128 * step, 127 * step, -128, 127)]
    codes = opset13.convert(opset13.fake_quantize(source, *ends, 256), "i8")
    moved = opset13.subtract(opset13.convert(codes, "f32"), np.float32(zero))
    return opset13.multiply(moved, np.float32(step)).output(0)


def weight(shape, axes=(0,)):
    """A constant of int8 with a scale for each index of these axes."""
    random = np.random.default_rng(0)
    codes = np.clip(np.rint(random.laplace(0, 50, shape)), -127, 127).astype(np.int8)
    scale = random.uniform(0.01, 0.02, [length if axis in axes else 1 for axis, length in enumerate(shape)])
    return opset13.multiply(opset13.convert(opset13.constant(codes), "f32"), np.float32(scale)).output(0)


UNPADDED = [1, 1], [0, 0], [0, 0], [1, 1]
LAYERS = {
    "convolution": lambda x: opset13.convolution(x, weight((32, 16, 3, 3)), *UNPADDED),
    "grouped": lambda x: opset13.group_convolution(x, weight((4, 8, 4, 3, 3), (0, 1)), *UNPADDED),
    "depthwise": lambda x: opset13.group_convolution(x, weight((16, 1, 1, 3, 3)), *UNPADDED),
    "deconvolution": lambda x: opset13.convolution_backprop_data(x, weight((16, 8, 2, 2), (1,)), [2, 2]),
    "dense": lambda x: opset13.matmul(x, weight((12, 20), (1,)), False, False),
    "dense, transposed": lambda x: opset13.matmul(x, weight((20, 12)), False, True),
    "two maps": lambda x: opset13.matmul(x, x, False, True),
}


def model_of(layer, before):
    x = opset13.parameter([1, 16, 12, 12], np.float32)
    return openvino.Model([LAYERS[layer](before(x.output(0)))], [x])


def kinds(model):
    return [node.get_type_name() for node in model.get_ordered_ops()]


def result(model, **options):
    x = np.random.default_rng(1).normal(2, 2, (1, 16, 12, 12)).astype(np.float32)
    compiled = core().compile_model(model, DEVICE, compile_options("f32") | options)
    return compiled([x])[0]


def relu(x):
    return pair(opset13.relu(x).output(0))


def held(model):
    """As a build does it for such a CPU, the weights being made smaller."""
    merge_pairs(model)
    fuse_sums(model)
    hold_weights(model)


def off(layer, before, keep):
    """How far a layer of quantized inputs is from the same in float, in deviations of its output."""
    expected, model = result(model_of(layer, before), LP_TRANSFORMS_MODE="NO"), model_of(layer, before)
    keep(model)
    return float(np.sqrt(np.mean((result(model) - expected) ** 2)) / expected.std())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("before", [relu, pair])
def test_where_codes_are_held_no_value_changes(layer, before):
    assert off(layer, before, hold_codes) < EXACT


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("before", [relu, pair])
def test_where_weights_are_held_they_are_rounded_at_most(layer, before):
    found = off(layer, before, held)
    most = ROUNDED + HALVED * (layer == "deconvolution" and AVX512)
    assert found < (EXACT if before is pair and layer in ("depthwise", "two maps") else most)


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "depthwise"])
@pytest.mark.parametrize("before", [relu, pair])
def test_where_sums_saturate_those_layers_are_wrong_as_they_are(layer, before):
    found = off(layer, before, lambda model: None)
    if layer == "deconvolution" and sums_saturate() and AVX512:
        assert EXACT < found < HALVED
    else:
        assert (found > 10 * ROUNDED) == sums_saturate()


def pooled(x):
    return pair(opset13.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0))


def averaged(x, step=STEP):
    return pair(opset13.avg_pool(x, [1, 1], [0, 0], [0, 0], [3, 3], False).output(0), step)


def joined(x):
    return pair(opset13.concat([x, x], 2).output(0))


def other_step(x):
    return pair(opset13.max_pool(x, [1, 1], [1, 1], [0, 0], [0, 0], [2, 2]).output(0), 0.66 * STEP)


def summed(x):
    return pair(opset13.add(x, opset13.relu(x)).output(0), 2 * STEP)


@pytest.mark.parametrize("after", [pooled, averaged, joined, summed])
def test_what_is_made_of_tensors_that_are_never_negative_is_none_either(after):
    assert off("convolution", lambda x: after(relu(x)), hold_codes) < EXACT
    assert off("convolution", lambda x: after(relu(x)), held) < ROUNDED
    model = model_of("convolution", lambda x: after(relu(x)))
    hold_codes(model)
    converted = [
        node.get_output_element_type(0) for node in model.get_ordered_ops() if node.get_type_name() == "Convert"
    ]
    assert converted.count(openvino.Type.u8) == 2


def test_where_codes_are_held_a_layer_of_others_runs_in_float(capsys):
    # Of codes that may be negative: two neighbouring weights are held to half of their range, or none is.
    hold_codes(model_of("convolution", pair))
    assert "0 keep their values, 1 run in float" in capsys.readouterr().err
    held(model_of("convolution", pair))
    assert "0 keep their values, 1 have some weights a little smaller" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [hold_codes, held])
def test_codes_of_other_codes_are_rounded_and_not_cut_off(keep):
    # Unsigned codes that the plugin makes of unsigned codes of another step are cut off: signed ones stay signed.
    assert off("convolution", lambda x: other_step(relu(x)), keep) < ROUNDED
    assert off("convolution", lambda x: averaged(relu(x), STEP / 2), keep) < ROUNDED


@pytest.mark.parametrize("keep", [hold_codes, held])
def test_what_is_joined_of_both_kinds_keeps_one_kind_of_codes(keep):
    def mixed(x):
        return pair(opset13.concat([relu(x), pair(x)], 2).output(0))

    assert off("convolution", mixed, keep) < ROUNDED


def mean(x):
    return opset13.avg_pool(x, [1, 1], [0, 0], [0, 0], [3, 3], False).output(0)


def largest(x):
    return opset13.reduce_max(x, np.array([2]), True).output(0)


def resized(x):
    size, axes = np.array([24, 24]), np.array([2, 3])
    return opset13.interpolate(x, size, "nearest", "sizes", axes=axes).output(0)


@pytest.mark.parametrize("after", [mean, largest, resized])
@pytest.mark.parametrize("before", [relu, pair])
@pytest.mark.parametrize("keep", [hold_codes, held])
def test_what_reads_codes_past_a_mean_keeps_its_sums_too(after, before, keep):
    # No quantizer in between: whether the plugin keeps bytes there is its own choice.
    layer = "convolution" if after is not largest else "dense, transposed"
    assert off(layer, lambda x: after(before(x)), keep) < ROUNDED


def test_a_zero_point_other_than_0_is_not_moved():
    model = model_of("convolution", lambda x: pair(opset13.relu(x).output(0), zero=-128))
    expected = result(model, LP_TRANSFORMS_MODE="NO")
    hold_codes(model)
    assert "Clamp" not in kinds(model)
    assert np.sqrt(np.mean((result(model) - expected) ** 2)) < ROUNDED * expected.std()


def test_weights_of_a_form_that_is_not_known_are_multiplied_in_float():
    codes = np.random.default_rng(0).integers(0, 256, (32, 16, 3, 3)).astype(np.uint8)
    x = opset13.parameter([1, 16, 12, 12], np.float32)
    shifted = opset13.subtract(opset13.convert(opset13.constant(codes), "f32"), np.float32(128))
    scaled = opset13.multiply(shifted, np.float32(0.01))
    model = openvino.Model([opset13.convolution(pair(x.output(0)), scaled, *UNPADDED).output(0)], [x])
    expected = result(model, LP_TRANSFORMS_MODE="NO")
    held(model)
    np.testing.assert_allclose(result(model), expected, atol=EXACT * expected.std(), rtol=0)


@pytest.mark.parametrize(("first", "positive"), [("Relu", True), ("Sigmoid", True), ("Swish", False), ("Tanh", False)])
def test_only_what_is_proven_is_taken_for_never_negative(first, positive):
    make = {"Relu": opset13.relu, "Sigmoid": opset13.sigmoid, "Swish": opset13.swish, "Tanh": opset13.tanh}[first]
    model = model_of("convolution", lambda x: pair(make(x).output(0)))
    hold_codes(model)
    assert ("Clamp" in kinds(model)) == positive


@pytest.mark.parametrize(("mode", "kept"), [("linear", 1), ("cubic", 0)])
def test_a_cubic_resize_may_leave_the_range(mode, kept, capsys):
    def resized(x):
        size, axes = np.array([24, 24]), np.array([2, 3])
        return pair(opset13.interpolate(relu(x), size, mode, "sizes", axes=axes).output(0))

    hold_codes(model_of("convolution", resized))
    assert f"of its layers {kept} keep their values" in capsys.readouterr().err


@pytest.mark.parametrize(("cap", "saturates"), [("AVX2", True), ("SSE41", True)])
def test_the_library_is_asked_and_not_the_cpu(cap, saturates):
    code = "from engines.openvino_sums import sums_saturate; print(sums_saturate())"
    given = os.environ | {"ONEDNN_MAX_CPU_ISA": cap}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(saturates)
