import numpy as np
import openvino
import pytest
from openvino import opset13

from engines import openvino_frame
from engines.openvino_frame import lanes_of, quantize_frame, read_in_blocks, take_off_means
from engines.openvino_sums import hold_weights, sums_saturate
from tests.helpers.openvino_models import WIDTH, convolution, less_a_mean, on_frame, result, values

LANES = 64  # so many that columns are folded wherever they can be
# Folded columns are summed in another order: a part of the largest sum of 108 products of float32.
ORDER_OF_SUMMATION = 1e-6
IMAGENET = (123.675, 116.28, 103.53)


def shapes_of_weights(model):
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [tuple(node.get_input_shape(1)) for node in nodes]


@pytest.mark.parametrize(
    ("kernel", "step", "padding", "folded"),
    [
        *((3, 2, 1, (6, 2)), (6, 4, 2, (12, 2)), (7, 2, 3, (6, 4)), (5, 3, 4, (9, 3))),
        *((3, 2, 0, (6, 2)), (2, 2, 0, (6, 1)), (1, 2, 0, (6, 1))),
    ],
)
def test_a_strided_convolution_reads_columns_of_the_frame_as_channels(kernel, step, padding, folded):
    weight = values((5, 3, kernel, kernel))
    model = on_frame(lambda frame: convolution(frame, weight, step, padding))
    (expected,) = result(model)
    read_in_blocks(model, LANES)
    assert shapes_of_weights(model) == [(5, folded[0], kernel, folded[1])]
    (found,) = result(model)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected).max())


@pytest.mark.parametrize(
    ("width", "options"), [(WIDTH, (1, 1)), (WIDTH + 1, (2, 1)), (WIDTH, (2, 2, 2))], ids=["step", "width", "dilation"]
)
def test_a_convolution_that_no_blocks_fit_stays(width, options):
    model = on_frame(lambda frame: convolution(frame, values((5, 3, 3, 3)), *options), width)
    read_in_blocks(model, LANES)
    assert shapes_of_weights(model) == [(5, 3, 3, 3)]
    assert np.isfinite(result(model)[0]).all()


@pytest.mark.parametrize(
    ("kernel", "step", "padding", "lanes", "folds"),
    [
        (3, 2, 1, 4, False),  # 9 x 1 products of four channels, in blocks 6 x 2
        (3, 2, 1, 64, True),
        (6, 4, 2, 4, True),  # 36 x 1, in blocks 12 x 3
        (7, 2, 3, 4, False),  # 49 x 1, in blocks 28 x 2
    ],
)
def test_columns_are_not_folded_where_more_is_multiplied_then(kernel, step, padding, lanes, folds):
    model = on_frame(lambda frame: convolution(frame, values((5, 3, kernel, kernel)), step, padding))
    read_in_blocks(model, lanes)
    assert (shapes_of_weights(model) != [(5, 3, kernel, kernel)]) == folds


@pytest.mark.parametrize(
    ("features", "cap", "lanes"),
    [
        (("avx2",), "", 4),
        (("avx512f", "avx512_vnni"), "", 4),
        (("amx_int8", "avx512f"), "", 64),
        (("amx_int8", "avx512f"), "avx512_core_vnni", 4),
        (("amx_int8", "avx512f"), "avx512_core_amx", 64),
    ],
)
def test_as_many_bytes_are_multiplied_at_once_as_the_units_take(monkeypatch, features, cap, lanes):
    monkeypatch.setattr(openvino_frame, "cpu_features", lambda: features)
    monkeypatch.setattr(openvino_frame, "max_isa", lambda: cap)
    assert (lanes_of("int8"), lanes_of("fp16")) == (lanes, 64)


def test_a_frame_less_a_mean_is_read_in_blocks_too():
    model = less_a_mean(lambda image: convolution(image, values((5, 3, 3, 3)), 2, 1), IMAGENET)
    (expected,) = result(model)
    read_in_blocks(model, LANES)
    assert shapes_of_weights(model) == [(5, 6, 3, 2)]
    np.testing.assert_allclose(result(model)[0], expected, rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected).max())


def test_what_reads_a_frame_that_was_shifted_otherwise_stays():
    def shifted(frame):
        return convolution(opset13.subtract(frame, np.float32(127)), values((5, 3, 3, 3)), 2, 1)

    model = on_frame(shifted)
    expected = result(model)
    read_in_blocks(model, LANES)
    quantize_frame(model)
    assert shapes_of_weights(model) == [(5, 3, 3, 3)]
    assert np.array_equal(result(model), expected)


def pooled(frame, kernel=2, begin=0, end=0, dilation=1, rounding="floor"):
    options = [dilation, dilation], [begin, begin], [end, end], [kernel, kernel], rounding
    return opset13.max_pool(frame, [2, 2], *options).output(0)


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_a_pooled_frame_is_pooled_as_bytes(kernel, padding, seed):
    weight = np.eye(4, 3, dtype=np.float32).reshape(4, 3, 1, 1)
    model = on_frame(lambda frame: convolution(pooled(frame, kernel, padding, padding), weight))
    (expected,) = result(model, seed)
    read_in_blocks(model, LANES)
    pools = [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]
    assert [node.get_output_element_type(0) for node in pools] == [openvino.Type.u8]
    assert shapes_of_weights(model) == [(4, 6, 1, 1)]
    assert np.array_equal(result(model, seed)[0], expected) and expected[:, :3].std() > 0


POINTWISE = values((4, 3, 1, 1))


@pytest.mark.parametrize(
    "read",
    [
        lambda frame: convolution(pooled(frame), values((4, 3, 3, 3)), 1, 1),
        lambda frame: convolution(pooled(frame), POINTWISE, 2),
        lambda frame: convolution(pooled(frame), POINTWISE, 1, 1),
        lambda frame: opset13.concat([opset13.relu(pooled(frame)), convolution(frame, values((4, 3, 2, 2)), 2)], 1),
        lambda frame: convolution(pooled(frame, 3), POINTWISE),
        lambda frame: convolution(pooled(frame, 3, rounding="ceil"), POINTWISE),
        lambda frame: convolution(pooled(frame, 2, 0, 1, dilation=2), POINTWISE),
        lambda frame: convolution(opset13.transpose(frame, np.array([0, 1, 3, 2])), values((5, 3, 3, 3)), 2, 1),
        lambda frame: convolution(opset13.multiply(frame, np.float32(0.5)), values((5, 3, 3, 3)), 2, 1),
    ],
    ids=[
        "3x3",
        "strided",
        "padded",
        "relu",
        "unpadded pool",
        "rounded up",
        "dilated pool",
        "turned frame",
        "scaled frame",
    ],
)
def test_what_no_blocks_fit_keeps_its_values(read):
    model = on_frame(read)
    expected = result(model)
    read_in_blocks(model, LANES)
    quantize_frame(model)
    (found,) = result(model)
    np.testing.assert_allclose(found, expected[0], rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected[0]).max())


def on_grid(shape):
    """Codes of weights, float32; of no two neighbours the sum saturates."""
    # Without VNNI two neighbours must add up to 128 at most, or they would be made smaller: half of 127 beside nothing.
    most = 64 if sums_saturate() else 127
    codes = np.random.default_rng(0).integers(-most, most + 1, shape).astype(np.float32)
    codes[:, 0, 0, 0], codes[:, 1, 0, 0] = 127, 0
    return codes


@pytest.mark.parametrize("folds", [True, False])
def test_a_frame_and_weights_on_the_grid_are_told_to_have_8_bits_and_lose_none(folds):
    # Without VNNI two neighbours must add up to 128 at most, or they would be made smaller: half of 127 beside nothing.
    most = 64 if sums_saturate() else 127
    codes = np.random.default_rng(0).integers(-most, most + 1, (5, 3, 3, 3)).astype(np.float32)
    codes[..., 0, :] = 0
    codes[:, 0, 0, 0] = 127
    scales = np.array([1, 0.5, 0.25, 2, 1], np.float32).reshape(-1, 1, 1, 1) / 128
    model = on_frame(lambda frame: convolution(frame, codes * scales, 2, 1))
    (expected,) = result(model)
    if folds:
        read_in_blocks(model, LANES)
    quantize_frame(model)
    if sums_saturate():
        hold_weights(model)
    assert [node.get_type_name() for node in model.get_ordered_ops()].count("FakeQuantize") == 2
    np.testing.assert_allclose(result(model)[0], expected, rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected).max())


@pytest.mark.parametrize("mean", [(0, 117, 255), IMAGENET])
@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize(("kernel", "step", "padding"), [(3, 2, 1), (7, 2, 3), (3, 1, 1), (2, 2, 0), (1, 1, 2)])
def test_a_mean_goes_into_the_bias_and_costs_half_a_grey_level_of_the_padding(mean, folds, kernel, step, padding):
    codes = on_grid((5, 3, kernel, kernel))
    model = less_a_mean(lambda image: convolution(image, codes / 128, step, padding), mean)
    (expected,) = result(model)
    if folds:
        read_in_blocks(model, LANES)
    shifted = quantize_frame(model)
    if sums_saturate():
        hold_weights(model)
    take_off_means(shifted)
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("FakeQuantize") == 2 and "Subtract" not in kinds
    order = 4 * ORDER_OF_SUMMATION * 255 * np.abs(codes / 128).sum((1, 2, 3)).max()
    half = 0.5 * np.abs(codes / 128).sum((1, 2, 3)).max() if mean == IMAGENET else 0
    inside = slice(-(-padding // step), -padding or None)
    found = result(model)[0] - expected
    assert np.abs(found).max() <= half + order and np.abs(found[..., inside, inside]).max() <= order
    assert (np.abs(found).max() > order) == bool(half and padding)


@pytest.mark.parametrize("mean", [(-1, 0, 0), (0, 0, 256)])
def test_a_mean_that_no_byte_is_next_to_stays(mean):
    model = less_a_mean(lambda image: convolution(image, on_grid((5, 3, 3, 3)) / 128, 2, 1), mean)
    expected = result(model)
    assert quantize_frame(model) == []
    assert np.array_equal(result(model), expected)


def test_weights_off_the_grid_stay_in_float(capsys):
    model = on_frame(lambda frame: convolution(frame, values((5, 3, 3, 3)), 2, 1))
    read_in_blocks(model, LANES)
    quantize_frame(model)
    assert "FakeQuantize" not in {node.get_type_name() for node in model.get_ordered_ops()}
    assert "reads the frame and was left in FP16" in capsys.readouterr().err
