"""Maps whose borders were computed apart from their middles, put together in OpenVINO's CPU plugin without copies.

`export` leaves the middle of an upsampled map to a convolution before the upsampling, which is a quarter of the work,
and the borders to small convolutions of their own. The pieces are joined in three passes over the map: the middle is
cut out, and joined across and down. Written over the map's own borders they cost next to nothing, as the plugin does
that in place where nothing else reads the map. Codes stay the same codes and float values what they were, but that
casts to fewer bits and back, on the way to where they were joined, are left out.

Source: `ScatterUpdate::initSupportedPrimitiveDescriptors` in OpenVINO's
intel_cpu/src/nodes/scatter_update.cpp.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from openvino import Type, opset13

from engines.openvino_nodes import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    as_type,
    is_constant,
    kind_of,
    replace,
    reshape,
    values_of,
)
from engines.openvino_sums import BYTE, readers

DOWN, ACROSS = 2, 3  # axes of a map (N, C, H, W)
PASSES = ("Convert", "FakeQuantize")
SIGNED, UNSIGNED = (-(BYTE // 2) - 1, BYTE // 2, "i8"), (0, BYTE, "u8")  # the smallest code, the largest, their type


class _Joined(NamedTuple):
    """What a map was joined of: outputs before their quantizers, and those, in the order of the pieces."""

    whole: Any  # the map with borders of its own
    pieces: tuple[Any, ...]  # above, below, left and right of its middle
    quantizers: tuple[list[Any], ...]  # of the map and of each piece, on the way to where they are joined


def paste_borders(model: Any) -> None:
    """Write pieces that are joined around a map's own middle over the map's borders.

    Args:
        model: an openvino.Model in the form that is compiled, with its maps' channels last in memory; it is changed.
    """
    for node in model.get_ordered_ops():
        if joined := _joined(node):
            _paste(node, joined)
    model.validate_nodes_and_infer_types()


def _joined(node: Any) -> _Joined | None:
    row = _three(node, DOWN)
    if row is None:
        return None
    (above, *over), (middle, *between), (below, *under) = row
    columns = _three(middle.get_node(), ACROSS)
    if columns is None:
        return None
    (left, *before), (whole, *inside), (right, *behind) = columns
    starts = {DOWN: 0, ACROSS: 0}
    while whole.get_node().get_type_name() == "Slice":
        cut = whole.get_node()
        for axis, start in _starts(cut):
            if axis not in starts:
                return None
            starts[axis] += start
        whole, *more = _source(cut.input_value(0))
        inside += more
    is_its_own = whole.get_partial_shape() == node.get_output_partial_shape(0)
    if not is_its_own or starts != {DOWN: above.get_shape()[DOWN], ACROSS: left.get_shape()[ACROSS]}:
        return None
    quantizers = inside + between, over, under, before + between, behind + between
    return _Joined(whole, (above, below, left, right), quantizers)


def _three(node: Any, axis: int) -> list[list[Any]] | None:
    # The three that are joined on an axis, each with the quantizers after it; of four dimensions that are known.
    if node.get_type_name() != "Concat" or node.get_input_size() != 3:
        return None
    shape = node.get_output_partial_shape(0)
    if shape.is_dynamic or len(shape) != 4 or node.get_attributes()["axis"] % 4 != axis:
        return None
    return [_source(value) for value in node.input_values()]


def _source(value: Any) -> list[Any]:
    # An output before it was cast and quantized, and the quantizers.
    quantizers = []
    while (node := value.get_node()).get_type_name() in PASSES and node.get_input_element_type(0).is_real():
        if node.get_type_name() == "FakeQuantize":
            quantizers.append(node)
        value = node.input_value(0)
    return [value, *quantizers]


def _starts(cut: Any) -> Iterator[tuple[int, int]]:
    # Of each axis that a Slice cuts; one that is not known, or skips values, cuts an axis that no map has.
    how = cut.input_values()[1:]
    if len(how) < 4 or not all(map(is_constant, how)):
        yield (-1, 0)
        return
    starts, steps, axes = (values_of(how[k]).ravel().tolist() for k in (0, 2, 3))
    for axis, start, step in zip(axes, starts, steps, strict=True):
        yield (int(axis) % 4, int(start)) if step == 1 and start >= 0 else (-1, 0)


def _paste(node: Any, joined: _Joined) -> None:
    ranges = {_range(quantize) for of in joined.quantizers for quantize in of}
    if not ranges:
        pasted = _pasted(joined, lambda value: as_type(value, kind_of(node)))
        replace(node, opset13.transpose(pasted, np.array(CHANNELS_FIRST)))
    elif len(ranges) == 1 and all(joined.quantizers) and (ends := ranges.pop()):
        _paste_codes(node, joined, *ends)


def _paste_codes(node: Any, joined: _Joined, low: float, high: float) -> None:
    if not high > low:
        return
    step = (high - low) / BYTE
    codes = [codes for codes in (SIGNED, UNSIGNED) if np.allclose((low / step, high / step), codes[:2], atol=1e-3)]
    if not codes:
        return
    end = node
    while len(after := readers(end)) == 1 and (
        after[0].get_type_name() == "Convert"
        or (after[0].get_type_name() == "FakeQuantize" and _range(after[0]) == (low, high))
    ):
        end = after[0]
    # A convolution would read signed codes as they are, for which the plugin halves weights on a CPU without VNNI; of
    # its own accord it has them unsigned.
    if codes[0] is SIGNED and any(reader.get_type_name() not in ("Add", "FakeQuantize") for reader in readers(end)):
        return
    pasted = _pasted(joined, lambda value: _codes(value, low, high, *codes[0]))
    # Values again before they are turned: the plugin then takes the codes into the sum that they are read by.
    values = opset13.multiply(opset13.convert(pasted, "f32"), np.float32(step))
    turned = opset13.transpose(values, np.array(CHANNELS_FIRST))
    replace(end, as_type(turned.output(0), kind_of(end)).get_node())


def _range(quantize: Any) -> tuple[float, float] | None:
    # Where values are rounded to 256 of them and stay values; None elsewhere.
    low, high, *others = (values_of(value) for value in quantize.input_values()[1:5])
    same = all(np.array_equal(*pair) for pair in zip((low, high), others, strict=True))
    if low.size > 1 or high.size > 1 or not same or quantize.get_attributes()["levels"] != BYTE + 1:
        return None
    return float(low.item()), float(high.item())


def _codes(value: Any, low: float, high: float, first: int, last: int, kind: str) -> Any:
    ends = [opset13.constant(np.float32(end)).output(0) for end in (low, high, first, last)]
    return opset13.convert(opset13.fake_quantize(as_type(value, Type.f32), *ends, BYTE + 1), kind).output(0)


def _pasted(joined: _Joined, form: Any) -> Any:
    # The map with its channels last, its borders those of the pieces.
    n, channels, height, width = joined.whole.get_shape()
    above, below = (joined.pieces[k].get_shape()[DOWN] for k in (0, 1))
    left, right = (joined.pieces[k].get_shape()[ACROSS] for k in (2, 3))
    rows, columns = np.arange(height), np.arange(width)
    middle = rows[above : height - below]
    places = [
        np.stack(np.meshgrid(np.arange(n), down, across, indexing="ij"), -1).reshape(-1, 3)
        for down, across in (
            (rows[:above], columns),
            (rows[height - below :], columns),
            (middle, columns[:left]),
            (middle, columns[width - right :]),
        )
    ]
    last = [
        opset13.transpose(form(value), np.array(CHANNELS_LAST)).output(0) for value in (joined.whole, *joined.pieces)
    ]
    pieces = opset13.concat([reshape(value, (-1, channels)) for value in last[1:]], 0)
    return opset13.scatter_nd_update(last[0], opset13.constant(np.concatenate(places).astype(np.int32)), pieces)
