"""Pairs as one quantizer each, and sums inside of convolutions: the values are those of the graph in float."""

from collections import Counter

import numpy as np
import openvino
import pytest
from openvino import opset13

from engines.openvino_layout import is_constant
from engines.openvino_pairs import LEVELS, drop_relus, fuse_sums, merge_pairs
from engines.openvino_sums import sums_saturate
from runtime.backends.openvino import DEVICE, compile_options, core
from tests.engines.test_openvino_sums import EXACT, LAYERS, STEP, UNPADDED, model_of, off, pair, relu, result, weight

ROUNDED = (
    0.01  # of the outputs' deviation: half a step of the graph, which is what 255 codes for 127 may move a value by
)

SUMMED = 2e-3  # likewise: sums within 1 / 256 of a step of where the other code begins


@pytest.fixture(autouse=True)
def only_where_sums_are_kept():
    if sums_saturate():
        pytest.skip("merged pairs alone saturate on this CPU: test_openvino_sums has what is made of them")


@pytest.mark.parametrize("layer", LAYERS)
def test_of_what_may_be_negative_no_value_changes(layer):
    assert off(layer, pair, merge_pairs) < EXACT


@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_never_negative_is_rounded_to_half_steps_of_the_same_range(layer):
    assert off(layer, relu, merge_pairs) < ROUNDED


def test_half_steps_are_nearer_to_what_is_not_quantized():
    unquantized = result(model_of("convolution", lambda x: opset13.clamp(x, 0, 127 * STEP).output(0)))
    merged = model_of("convolution", relu)
    merge_pairs(merged)
    graph = result(model_of("convolution", relu), LP_TRANSFORMS_MODE="NO")
    errors = [float(np.abs(found - unquantized).mean()) for found in (result(merged), graph)]
    assert errors[0] < 0.6 * errors[1]


def test_a_pair_is_one_quantizer():
    model = model_of("convolution", pair)
    merge_pairs(model)
    kinds = Counter(node.get_type_name() for node in model.get_ordered_ops())
    assert (kinds["FakeQuantize"], kinds["Subtract"]) == (1, 0)


def another_scale(x):
    ends = [opset13.constant(np.float32(end)) for end in (-128 * STEP, 127 * STEP, -128, 127)]
    codes = opset13.convert(opset13.fake_quantize(x, *ends, 256), "i8")
    return opset13.multiply(opset13.convert(codes, "f32"), np.float32(2 * STEP)).output(0)


@pytest.mark.parametrize("before", [lambda x: pair(x, zero=3), another_scale], ids=["zero point", "other scale"])
def test_codes_of_other_values_are_left_as_they_are(before):
    model = model_of("convolution", before)
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    merge_pairs(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == names


def convolved(x, channels=64):
    return opset13.convolution(x, weight((channels, x.get_shape()[1], 1, 1)), *UNPADDED).output(0)


def prelu(x):
    return opset13.prelu(x, opset13.constant(np.linspace(-0.2, 0.6, x.get_shape()[1], dtype=np.float32)))


def residual(skip_of=lambda x: x, after=lambda x: pair(x, 10.0), activation=opset13.relu):
    """Two quantized convolutions, their sum with what the first reads, what is done to it, and a layer behind."""

    def before(x):
        first = pair(opset13.relu(convolved(pair(x), 64)).output(0), 0.5)
        inner = pair(opset13.relu(convolved(first, 16)).output(0), 2.0)
        summed = activation(opset13.add(skip_of(first), convolved(inner, 64)).output(0)).output(0)
        return convolved(after(summed), 16)

    return model_of("convolution", before)


def fused(model, *, prelus=False):
    merge_pairs(model)
    fuse_sums(model, prelus=prelus)
    levels = [
        node.get_attributes()["levels"] for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"
    ]
    return levels.count(LEVELS)


EITHER = pytest.mark.parametrize("activation", [opset13.relu, prelu], ids=["ReLU", "PReLU"])


# Codes of what may be negative are twice as far apart.
@pytest.mark.parametrize(("activation", "apart"), [(opset13.relu, SUMMED), (prelu, 2 * SUMMED)], ids=["ReLU", "PReLU"])
def test_a_residual_sum_keeps_its_values(activation, apart):
    merged, model = residual(activation=activation), residual(activation=activation)
    merge_pairs(merged)
    assert fused(model, prelus=True) == 1
    expected = result(merged)
    assert np.sqrt(np.mean((result(model) - expected) ** 2)) < apart * expected.std()


@EITHER
def test_a_residual_sum_is_part_of_its_convolution(activation):
    def elementwise(model):
        graph = core().compile_model(model, DEVICE, compile_options("f32")).get_runtime_model()
        kinds = Counter(node.get_rt_info()["layerType"].astype(str) for node in graph.get_ops())
        return kinds["Subgraph"] + kinds["Eltwise"]

    merged, model = residual(activation=activation), residual(activation=activation)
    merge_pairs(merged)
    assert fused(model, prelus=True) == 1
    assert elementwise(model) == elementwise(merged) - 1


@pytest.mark.parametrize(
    "model",
    [
        residual(after=lambda x: x),
        residual(skip_of=lambda x: opset13.reduce_mean(x, [2, 3], True).output(0)),
        residual(after=lambda x: pair(opset13.multiply(x, np.float32(2)).output(0))),
        residual(activation=prelu),
    ],
    ids=["read unquantized", "broadcast", "scaled in between", "PReLU where a pass is faster"],
)
def test_a_sum_that_is_read_otherwise_is_left_as_it_is(model):
    assert fused(model) == 0


def test_a_sum_of_two_convolutions_is_fused_without_help():
    def before(x):
        first = pair(x)
        skip = pair(convolved(first, 64))
        return pair(opset13.relu(opset13.add(skip, convolved(first, 64))).output(0))

    x = opset13.parameter([1, 16, 12, 12], np.float32)
    assert fused(openvino.Model([convolved(before(x.output(0)), 16)], [x])) == 0


@pytest.mark.parametrize(("is_rounded", "count"), [(False, 1), (True, 3)])
def test_a_convolution_is_not_quantized_for_a_sum_that_is_not(is_rounded, count):
    x = opset13.parameter([1, 16, 12, 12], np.float32)
    first = pair(x.output(0))
    summed = opset13.add(pair(convolved(first)), convolved(first))
    after = pair(opset13.relu(summed).output(0)) if is_rounded else opset13.multiply(summed, np.float32(2)).output(0)
    model = openvino.Model([convolved(after, 16)], [x])
    assert fused(model) == 0
    quantizers = [node for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    assert sum(not is_constant(node.input_value(0)) for node in quantizers) == count


def relus(model):
    merge_pairs(model)
    drop_relus(model)
    return sum(node.get_type_name() == "Relu" for node in model.get_ordered_ops())


def test_what_is_quantized_from_zero_on_needs_no_activation_before_and_has_the_same_values():
    dropped, kept = model_of("convolution", relu), model_of("convolution", relu)
    merge_pairs(kept)
    assert (relus(dropped), relus(model_of("convolution", lambda x: opset13.relu(x).output(0)))) == (0, 1)
    np.testing.assert_array_equal(result(dropped), result(kept))


def read_twice(x):
    activated = opset13.relu(x).output(0)
    return opset13.add(pair(activated), opset13.multiply(activated, np.float32(0.5))).output(0)


def signed(x):
    ends = [opset13.constant(np.float32(end)) for end in (-128 * STEP, 127 * STEP) * 2]
    return opset13.fake_quantize(opset13.relu(x), *ends, 256).output(0)


@pytest.mark.parametrize("layer", [read_twice, signed])
def test_an_activation_that_changes_what_follows_stays(layer):
    assert relus(model_of("convolution", layer)) == 1
