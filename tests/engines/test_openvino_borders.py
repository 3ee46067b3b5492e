import numpy as np
import openvino
import pytest
from openvino import opset13

from engines.openvino_borders import paste_borders
from tests.helpers.openvino_models import compiled, result, values

HEIGHT, WIDTH, ABOVE, BELOW, LEFT, RIGHT = 10, 14, 2, 1, 3, 2
STEP = 0.05
SIGNED, UNSIGNED = (-128 * STEP, 127 * STEP), (0.0, 255 * STEP)


def convolved(source, channels=4, seed=0):
    return opset13.convolution(source, values((channels, 3, 1, 1), seed), [1, 1], [0, 0], [0, 0], [1, 1])


def cut(source, rows, columns, step=1):
    ends = [np.array(each) for each in ((rows[0], columns[0]), (rows[1], columns[1]), (1, step), (2, 3))]
    return opset13.slice(source, *ends)


def quantized(source, ends, levels=256):
    if ends is None:
        return source
    low, high = (np.float32(end) for end in ends)
    return opset13.fake_quantize(source, low, high, low, high, levels)


def framed(ends=None, *, piece=lambda source, ends: quantized(source, ends), start=(ABOVE, LEFT), n=1, after=None):
    """A map with borders of other convolutions, added to another; `piece` quantizes each of the five."""
    x = opset13.parameter([n, 3, HEIGHT, WIDTH], np.float32)
    maps = [convolved(x, seed=seed) for seed in range(6)]
    rows, columns = (ABOVE, HEIGHT - BELOW), (LEFT, WIDTH - RIGHT)
    where = (
        ((0, ABOVE), (0, WIDTH)), ((HEIGHT - BELOW, HEIGHT), (0, WIDTH)), (rows, (0, LEFT)),
        (rows, (WIDTH - RIGHT, WIDTH)),
    )  # fmt: skip
    above, below, left, right = (
        piece(convolved(cut(x, *place), seed=seed), ends) for seed, place in enumerate(where, 1)
    )
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    inside = cut(piece(maps[0], ends), (start[0], start[0] + height), (start[1], start[1] + width))
    middle = quantized(opset13.concat([left, inside, right], 3), ends)
    whole = quantized(opset13.concat([above, middle, below], 2), ends)
    whole = after(whole) if after else whole
    return openvino.Model([opset13.relu(opset13.add(whole, maps[5])), opset13.abs(opset13.add(whole, maps[4]))], [x])


@pytest.mark.parametrize("codes", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_pasted_is_read_as_it_is_by_an_int8_convolution_and_by_who_else_reads_the_map(codes, first):
    """Behind it a convolution in INT8; the map that it is pasted over is read elsewhere, too, before or after."""

    def behind(whole):
        weights = np.random.default_rng(7).integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
        scaled = opset13.multiply(opset13.convert(weights, "f32"), np.float32(0.01))
        return opset13.convolution(whole, scaled, [1, 1], [1, 1], [1, 1], [1, 1])

    x = opset13.parameter([1, 3, HEIGHT, WIDTH], np.float32)
    rows, columns = (ABOVE, HEIGHT - BELOW), (LEFT, WIDTH - RIGHT)
    own = quantized(convolved(x), codes)
    sides = (
        cut(own, (1, 1 + ABOVE), (0, WIDTH)), cut(own, (HEIGHT - BELOW, HEIGHT), (0, WIDTH)),
        cut(own, rows, (0, LEFT)), cut(own, rows, (1, 1 + RIGHT)),
    )  # fmt: skip
    above, below, left, right = (quantized(side, codes) for side in sides)
    middle = quantized(opset13.concat([left, cut(own, rows, columns), right], 3), codes)
    whole = quantized(opset13.concat([above, middle, below], 2), codes)
    outputs = [behind(whole), opset13.relu(own)]
    model = openvino.Model(outputs if first else outputs[::-1], [x])
    expected = result(model)
    paste_borders(model)
    assert pastes(model) == (codes is UNSIGNED)  # signed ones cost weights their last bit without VNNI
    assert all(np.allclose(*pair, rtol=0, atol=1e-3) for pair in zip(result(model), expected, strict=True))


def test_maps_of_other_types_are_cast_first():
    model = framed(piece=lambda source, _: opset13.convert(opset13.convert(source, "f16"), "f32"))
    expected = result(model)
    paste_borders(model)
    assert pastes(model) == 1
    assert all(np.allclose(*pair, rtol=0, atol=1e-2) for pair in zip(result(model), expected, strict=True))


@pytest.mark.parametrize("piece", [
    lambda source, _: opset13.convert(opset13.convert(source, "i32"), "f32"),
    lambda source, _: quantized(source, (0.0, 0.0)),
], ids=["whole numbers", "no range"])  # fmt: skip
def test_casts_to_whole_numbers_and_quantizers_of_nothing_stay(piece):
    model = framed(piece=piece)
    expected = result(model)
    paste_borders(model)
    assert all(np.array_equal(*pair) for pair in zip(result(model), expected, strict=True))


def pastes(model):
    return [node.get_type_name() for node in model.get_ops()].count("ScatterNDUpdate")


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("ends", [None, SIGNED, UNSIGNED], ids=["float", "signed", "unsigned"])
def test_borders_are_written_over_and_every_value_stays(ends, n):
    model = framed(ends, n=n)
    expected = result(model)
    paste_borders(model)
    assert pastes(model) == 1
    found = result(model)
    step = 0 if ends is None else 1e-5
    assert all(np.allclose(*pair, rtol=0, atol=step) for pair in zip(found, expected, strict=True))
    layers = [node.get_rt_info()["layerType"].astype(str) for node in compiled(model).get_runtime_model().get_ops()]
    assert "ScatterNDUpdate" in layers


@pytest.mark.parametrize(
    "model",
    [
        lambda: framed(start=(ABOVE + 1, LEFT)),
        lambda: framed(start=(ABOVE, LEFT - 1)),
        lambda: framed(SIGNED, piece=lambda source, ends: source),
        lambda: framed((-1.0, 2.0)),
        lambda: framed(SIGNED, piece=lambda source, ends: quantized(source, UNSIGNED)),
        lambda: framed(SIGNED, piece=lambda source, ends: quantized(source, ends, 16)),
    ],
    ids=["rows of elsewhere", "columns of elsewhere", "float pieces", "no codes", "other codes", "other levels"],
)
def test_what_is_joined_otherwise_stays_as_it_is(model):
    model = model()
    expected = result(model)
    paste_borders(model)
    assert pastes(model) == 0
    assert all(np.array_equal(*pair) for pair in zip(result(model), expected, strict=True))


def test_a_quantizer_of_another_range_behind_stays():
    other = (-64 * STEP, 63.5 * STEP)
    model = framed(SIGNED, after=lambda whole: quantized(whole, other))
    expected = result(model)
    paste_borders(model)
    assert pastes(model) == 1
    assert all(np.allclose(*pair, rtol=0, atol=1e-5) for pair in zip(result(model), expected, strict=True))
