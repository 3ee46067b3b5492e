import io

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13
from torch import nn

from engines import openvino_build
from engines.build import read_spec
from engines.openvino_layout import multiply_channels_last, quantize_frame, read_in_blocks, take_off_means, view_windows
from engines.openvino_sums import keep_sums, sums_saturate
from export.half import half_from_float
from export.models.layers import max_pool_2x2, max_unpool_2x2
from runtime.backends.openvino import DEVICE, compile_options, core
from runtime.backends.openvino_layers import frame_layers

HEIGHT, WIDTH = 12, 24
# Folded columns are summed in another order: a part of the largest sum of 108 products of float32.
ORDER_OF_SUMMATION = 1e-6
IMAGENET = (123.675, 116.28, 103.53)


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def on_frame(read, width=WIDTH):
    """A model of uint8 NHWC frames; `read` makes its output of the frame in float32 with the channels first."""
    frame = opset13.parameter([1, HEIGHT, width, 3], np.uint8, name="frame")
    planes = opset13.transpose(opset13.convert(frame, "f32"), np.array([0, 3, 1, 2]))
    return openvino.Model([read(planes)], [frame])


def less_a_mean(read, mean):
    """As `on_frame`, of a frame that a colour was taken off."""
    frame = opset13.parameter([1, HEIGHT, WIDTH, 3], np.uint8, name="frame")
    less = opset13.subtract(opset13.convert(frame, "f32"), np.float32(mean).reshape(1, 1, 1, 3))
    return openvino.Model([read(opset13.transpose(less, np.array([0, 3, 1, 2])))], [frame])


def convolution(source, weight, step=1, padding=0, dilation=1):
    ends = [padding, padding]
    return opset13.convolution(source, weight, [step, step], ends, ends, [dilation, dilation])


def compiled(model):
    return core().compile_model(model, DEVICE, compile_options("f32"))


def result(model, seed=0):
    inputs = []
    for put in model.inputs:
        shape = tuple(put.get_shape())
        is_frame = put.get_element_type() == openvino.Type.u8
        random = np.random.default_rng(seed)
        inputs.append(random.integers(0, 256, shape, np.uint8) if is_frame else values(shape, seed))
    return [output.copy() for output in compiled(model)(inputs).values()]


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
    read_in_blocks(model)
    assert shapes_of_weights(model) == [(5, folded[0], kernel, folded[1])]
    (found,) = result(model)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected).max())


@pytest.mark.parametrize(
    ("width", "options"), [(WIDTH, (1, 1)), (WIDTH + 1, (2, 1)), (WIDTH, (2, 2, 2))], ids=["step", "width", "dilation"]
)
def test_a_convolution_that_no_blocks_fit_stays(width, options):
    model = on_frame(lambda frame: convolution(frame, values((5, 3, 3, 3)), *options), width)
    read_in_blocks(model)
    assert shapes_of_weights(model) == [(5, 3, 3, 3)]
    assert np.isfinite(result(model)[0]).all()


def test_a_frame_less_a_mean_is_read_in_blocks_too():
    model = less_a_mean(lambda image: convolution(image, values((5, 3, 3, 3)), 2, 1), IMAGENET)
    (expected,) = result(model)
    read_in_blocks(model)
    assert shapes_of_weights(model) == [(5, 6, 3, 2)]
    np.testing.assert_allclose(result(model)[0], expected, rtol=0, atol=ORDER_OF_SUMMATION * np.abs(expected).max())


def test_what_reads_a_frame_that_was_shifted_otherwise_stays():
    def shifted(frame):
        return convolution(opset13.subtract(frame, np.float32(127)), values((5, 3, 3, 3)), 2, 1)

    model = on_frame(shifted)
    expected = result(model)
    read_in_blocks(model)
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
    read_in_blocks(model)
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
    read_in_blocks(model)
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
        read_in_blocks(model)
    quantize_frame(model)
    if sums_saturate():
        keep_sums(model)
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
        read_in_blocks(model)
    shifted = quantize_frame(model)
    if sums_saturate():
        keep_sums(model)
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
    read_in_blocks(model)
    quantize_frame(model)
    assert "FakeQuantize" not in {node.get_type_name() for node in model.get_ordered_ops()}
    assert "reads the frame and was left in FP16" in capsys.readouterr().err


class ThereAndBack(nn.Module):
    """A sum of two convolutions, whose maxima come back after two more."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(4))

    def forward(self, x):
        first, second, third, fourth = self.convolutions
        rounded = torch.relu(first(x) + second(x))
        maxima, positions = max_pool_2x2(rounded)
        return rounded, max_unpool_2x2(fourth(third(maxima)), positions)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def windows(request):
    example = (torch.zeros(1, 16, 8, 12),)
    program = torch.onnx.export(ThereAndBack().eval(), example, dynamo=True, opset_version=20, verbose=False)
    graph = program.model_proto
    return (half_from_float(graph) if request.param == "fp16" else graph).SerializeToString()


def shuffled(x):
    """Pixels of four channels side by side: six dimensions, and no windows."""
    six = opset13.reshape(x, np.array([1, 4, 2, 2, 8, 12]), False)
    return opset13.reshape(opset13.transpose(six, np.array([0, 1, 4, 2, 5, 3])), np.array([1, 4, 16, 24]), False)


def averaged(x):
    six = opset13.reshape(x, np.array([1, 16, 4, 2, 6, 2]), False)
    return opset13.reduce_mean(six, np.array([3, 5]))


@pytest.mark.parametrize("make", [shuffled, averaged])
def test_other_maps_of_six_dimensions_stay_as_they_are(make):
    x = opset13.parameter([1, 16, 8, 12], np.float32)
    model = openvino.Model([make(x)], [x])
    expected = result(model)
    view_windows(model)
    assert np.array_equal(result(model), expected)


def moved(engine):
    """How many layers of a frame copy a map to have it in another layout."""
    return [layer.role for layer in frame_layers(engine.get_runtime_model())].count("reorder")


def test_windows_that_are_viewed_with_the_channels_last_hold_the_same_values(windows):
    model = core().read_model(windows, b"")
    expected = result(model)
    view_windows(model)
    found = result(model)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert (expected[0] == 0).any() and 0.1 < (expected[1] != 0).mean() <= 0.25
    pools = [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]
    kind = model.inputs[0].get_element_type()
    assert [node.get_output_element_type(0) for node in pools] == [kind, openvino.Type.u8]


def test_of_equal_maxima_the_first_is_taken(windows):
    model = core().read_model(windows, b"")
    view_windows(model)
    # Of each window the two on one diagonal are the largest: the one in the upper row is the first.
    x = np.zeros((1, 16, 8, 12), model.inputs[0].get_element_type().to_dtype())
    x[..., 0::2, 1::2] = x[..., 1::2, 0::2] = values((16, 1, 1))
    unpooled = list(compiled(model)([x]).values())[1]
    assert unpooled[..., 0::2, 0::2].any() and unpooled[..., 0::2, 1::2].any()
    assert not unpooled[..., 1::2, :].any()


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_no_map_of_a_network_is_copied_to_change_its_layout(name, shipped):
    onnx_bytes = shipped(name, "fp16").read_bytes()
    built = openvino_build.build(onnx_bytes, read_spec(onnx_bytes), "fp16", "openvino")
    engine = core().import_model(io.BytesIO(built.engine), DEVICE, compile_options("f32"))
    assert moved(engine) == (
        2 if name == "icnet" else 0
    )  # to the pyramid's products, which take channels first, and back


def multiplied(transpose_b):
    matrix = opset13.constant(values((5, WIDTH) if transpose_b else (WIDTH, 5), 1))
    weight = opset13.constant(values((64, 3, 3, 3), 2))

    def read(planes):
        maps = opset13.convolution(planes, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        viewed = opset13.reshape(maps, np.array([1, 32, 2 * HEIGHT, WIDTH]), False)
        products = [opset13.matmul(each, matrix, False, transpose_b) for each in (opset13.relu(maps), viewed)]
        return opset13.add(products[0], opset13.reshape(products[1], np.array([1, 64, HEIGHT, 5]), False))

    return on_frame(read)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_maps_with_the_channels_last_are_the_same(transpose_b):
    plain, last = multiplied(transpose_b), multiplied(transpose_b)
    multiply_channels_last(last)
    frame = np.random.default_rng(3).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    engines = [core().compile_model(model, DEVICE, compile_options("f32")) for model in (plain, last)]
    expected, found = (engine([frame])[0] for engine in engines)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))
    read = [node.input_value(1).get_node() for node in last.get_ops() if node.get_type_name() == "MatMul"]
    assert [each.get_type_name() for each in read] == ["Transpose"] * 2


@pytest.mark.parametrize("other", ["a matrix of the frame", "maps turned", "channels last"])
def test_other_products_stay_as_they_are(other):
    def read(planes):
        if other == "channels last":
            maps = opset13.convolution(planes, opset13.constant(values((8, 3, 1, 1))), [1, 1], [0, 0], [0, 0], [1, 1])
            return opset13.matmul(
                opset13.transpose(maps, np.array([0, 2, 3, 1])), opset13.constant(values((8, 5))), False, False
            )
        if other == "maps turned":
            return opset13.matmul(planes, opset13.constant(values((HEIGHT, 5))), True, False)
        return opset13.matmul(planes, opset13.transpose(planes, np.array([0, 1, 3, 2])), False, False)

    model = on_frame(read)
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    multiply_channels_last(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == names
