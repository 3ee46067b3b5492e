import numpy as np
import openvino
import pytest
from openvino import opset13

from engines.openvino_spread import spread_rows
from tests.helpers.openvino_models import result, values

WIDE = 12  # channels that are spread
SLOPES = np.linspace(0, 1, WIDE, dtype=np.float32)


def weights(kind):
    """Of a convolution, float or as the codes and scales of an INT8 graph."""
    if kind == "float":
        return opset13.constant(values((WIDE, 3, 2, 2)))
    codes = np.random.default_rng(0).integers(-127, 128, (WIDE, 3, 2, 2)).astype(np.int8)
    scales = np.linspace(0.01, 0.02, WIDE, dtype=np.float32).reshape(-1, 1, 1, 1)
    zero = np.zeros((WIDE, 1, 1, 1), np.int8)
    less = opset13.subtract(opset13.convert(codes, "f32"), opset13.convert(zero, "f32"))
    return opset13.multiply(less, scales)


def bias(source):
    return opset13.add(source, values((1, WIDE, 1, 1), 1))


def quantized(source):
    low, high = np.float32(-6.4), np.float32(6.35)
    return opset13.fake_quantize(source, low, high, low, high, 256)


PASSES = {
    "none": (),
    "bias": (bias,),
    "as INT8": (bias, quantized),
    "ReLU": (bias, opset13.relu),
    "PReLU": (bias, lambda x: opset13.prelu(x, SLOPES)),
    "PReLU of one slope": (lambda x: opset13.prelu(x, np.float32([0.25])),),
    "PReLU of a map's shape": (lambda x: opset13.prelu(x, SLOPES.reshape(1, -1, 1, 1)),),
    "bias of three dimensions": (lambda x: opset13.add(x, values((WIDE, 1, 1), 1)),),
    "PReLU as torch writes it": (lambda x: opset13.prelu(x, SLOPES.reshape(-1, 1, 1)),),
    "quantizers for each channel": (
        lambda x: opset13.fake_quantize(x, *[SLOPES.reshape(1, -1, 1, 1) * 6 + e for e in (-8, 1, -8, 1)], 256),
    ),
    "what differs along a column": (lambda x: opset13.add(x, values((1, 5, 1), 1)),),
    "what differs along a row": (lambda x: opset13.add(x, values((1, 1, 1, 7), 1)),),
    "casts": (lambda x: opset13.convert(opset13.convert(x, "f16"), "f32"),),
}  # fmt: skip


def spread(passes=(), *, kind="float", mode="depth_first", block=2, also=False, n=2):
    x = opset13.parameter([n, 3, 5, 7], np.float32)
    wide = opset13.convolution(x, weights(kind), [1, 1], [0, 0], [1, 1], [1, 1])
    for each in passes:
        wide = each(wide)
    made = opset13.depth_to_space(wide, mode, block) if block else wide
    return openvino.Model([opset13.abs(made), *([opset13.abs(wide)] if also else [])], [x])


def left(model):
    return [node.get_type_name() for node in model.get_ops()].count("DepthToSpace")


@pytest.mark.parametrize("mode", ["depth_first", "blocks_first"])
@pytest.mark.parametrize("kind", ["float", "codes"])
@pytest.mark.parametrize("passes", PASSES.values(), ids=PASSES)
def test_rows_that_are_computed_apart_hold_the_same_values(passes, kind, mode):
    model = spread(passes, kind=kind, mode=mode)
    (expected,) = result(model)
    spread_rows(model)
    assert left(model) == 0
    (found,) = result(model)
    assert found.shape == (2, 3, 10, 14)
    assert np.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: spread((opset13.sigmoid,)),
        lambda: spread(also=True),
        lambda: spread((lambda x: opset13.max_pool(x, [1, 1], [1, 1], [0, 0], [0, 0], [1, 1]).output(0),)),
    ],
    ids=["another activation", "read elsewhere, too", "no convolution before"],
)
def test_what_cannot_be_halved_or_is_read_else_is_spread_as_it_was(model):
    model = model()
    expected = result(model)
    spread_rows(model)
    found = result(model)
    assert left(model) == 1
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
