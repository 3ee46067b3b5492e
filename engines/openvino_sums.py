"""An INT8 graph that keeps its values where OpenVINO adds products of 8 bits in 16.

Without VNNI the plugin multiplies unsigned activations by signed weights and adds the products of two neighbouring
channels in 16 bits, which saturate: 2 * 255 * 127 becomes 32767. Nothing is said, the sum is wrong. Either helps:

- `hold_weights`: the sum of two neighbouring weights is held to 128 (`engines.small_pairs`). Activations have all 255
  codes then, and pairs and sums are as on every CPU (`engines.openvino_pairs`).
- `hold_codes`: no weight changes. A tensor that is never negative, such as what follows a ReLU, is kept in codes
  0..127, of which no two products saturate; a layer that reads others runs in float. Every convolution cuts its outputs
  off for it, which takes longer: it is for graphs of which the former is not proven.

Source: Intel's instruction `vpmaddubsw`; VNNI's `vpdpbusd` is its form without saturation.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import openvino
from openvino import opset13

from engines.openvino_nodes import KEEPS_BYTES, fake_quantize, is_constant, values_of
from engines.openvino_signs import never_negative, port
from engines.small_pairs import LEVELS, small_pairs
from runtime.backends.openvino import DEVICE, compile_options, core
from runtime.cli import log

BYTE = 255
BYTES = np.zeros(()), np.full((), BYTE)
SIGNED = (-128.0, 127.0)
# Of what is quantized before these and after, the plugin keeps codes in between.
CARRIES = (
    *KEEPS_BYTES,
    "AvgPool", "Relu", "Clamp", "Split", "VariadicSplit", "StridedSlice", "Squeeze", "Unsqueeze", "DepthToSpace",
    "SpaceToDepth", "Interpolate", "ReduceMax", "ReduceMin", "Gather", "Broadcast", "Tile",
)  # fmt: skip
# What was done to a layer.
AS_IT_IS, SMALLER, IN_FLOAT = "keep their values", "have some weights a little smaller", "run in float"
# How weights are turned to (groups,) outputs, channels, kh, kw.
WEIGHTED: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "Convolution": lambda _: (0, 1, 2, 3),
    "GroupConvolution": lambda _: (0, 1, 2, 3, 4),
    "ConvolutionBackpropData": lambda _: (1, 0, 2, 3),
    "GroupConvolutionBackpropData": lambda _: (0, 2, 1, 3, 4),
    "MatMul": lambda node: (0, 1) if node.get_attributes()["transpose_b"] else (1, 0),
}


@cache
def sums_saturate() -> bool:
    """Whether OpenVINO adds products of 8 bits in 16 here: asked of it by one small convolution.

    The CPU's flags do not tell: the library may be held to fewer units than the CPU has (ONEDNN_MAX_CPU_ISA).
    """
    x, weight = opset13.parameter([1, 8, 4, 4], np.float32), np.full((8, 8, 1, 1), LEVELS, np.float32)
    pixels = fake_quantize(x.output(0), np.zeros(()), np.full((), BYTE), BYTE + 1)
    codes = opset13.constant(weight).output(0)
    codes = fake_quantize(codes, np.full((), -LEVELS), np.full((), LEVELS), 2 * LEVELS + 1)
    model = openvino.Model([opset13.convolution(pixels, codes, [1, 1], [0, 0], [0, 0], [1, 1])], [x])
    engine = core().compile_model(model, DEVICE, compile_options("f32"))
    found = engine([np.full((1, 8, 4, 4), BYTE, np.float32)])[0]
    return bool(found.min() < 0.99 * 8 * BYTE * LEVELS)


def hold_weights(model: Any) -> None:
    """Make weights smaller until no sum of two products leaves 16 bits.

    Args:
        model: an openvino.Model whose pairs are merged (`engines.openvino_pairs.merge_pairs`); it is changed.
    """
    _hold(model, set(), smaller=True)


def hold_codes(model: Any) -> None:
    """Keep what is never negative in codes of 7 bits, and run in float what reads other bytes.

    Args:
        model: an openvino.Model whose frame is quantized (`engines.openvino_frame.quantize_frame`); it is changed.
    """
    _hold(model, _make_unsigned(model), smaller=False)


def _hold(model: Any, unsigned: set[str | None], *, smaller: bool) -> None:
    done: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        if node.get_type_name() in WEIGHTED:
            done[_held(node, unsigned, smaller=smaller)] += 1
    others = (f", {done[kind]} {kind}" for kind in (SMALLER, IN_FLOAT) if done[kind])
    log(f"this CPU adds products of 8 bits in 16: of its layers {done[AS_IT_IS]} {AS_IT_IS}{''.join(others)}")
    model.validate_nodes_and_infer_types()


class Pair(NamedTuple):
    """FakeQuantize to codes, Convert to int8: the first half of ONNX's Q/DQ as OpenVINO reads it."""

    quantize: Any
    convert: Any
    high: float  # the value of code 127


def _make_unsigned(model: Any) -> set[str | None]:
    # The names of the quantizers whose codes are 0..127 by now; those of the others are 0..255 with zero point 128.
    positive = never_negative(model)
    pairs = {pair.quantize.get_name(): pair for pair in signed_pairs(model)}
    sources = {name: _behind(pair.quantize.input_value(0), CARRIES) for name, pair in pairs.items()}
    chosen = {name for name, pair in pairs.items() if port(pair.quantize.input_value(0)) in positive}
    joins = [_behind(node.output(0)) for node in model.get_ordered_ops() if node.get_type_name() == "Concat"]

    def of_other_codes(name: str) -> bool:
        # The plugin may cut off, not round, when it makes codes from zero of such codes of another step.
        before = sources[name]
        return None not in before and not (
            before <= chosen and {pairs[each].high for each in before if each} == {pairs[name].high}
        )

    # What is joined has codes of one kind, or it is not joined as bytes.
    while wrong := {name for name in chosen if of_other_codes(name)}.union(
        *(join & chosen for join in joins if None not in join and not join <= chosen)
    ):
        chosen -= wrong
    for name in pairs.keys() - chosen:
        _from_128(pairs[name])
    return {_from_0(pair, is_moved=None not in sources[name]) for name, pair in pairs.items() if name in chosen}


def signed_pairs(model: Any) -> Iterator[Pair]:
    """Each pair of int8 codes with zero point 0 and one step for the whole tensor."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize" or is_constant(node.input_value(0)):
            continue
        ends = [values_of(node.input_value(index)).ravel() for index in range(1, 5)]
        after = readers(node)
        if [len(end) for end in ends] != [1] * 4 or tuple(float(end[0]) for end in ends[2:]) != SIGNED:
            continue
        if [reader.get_type_name() for reader in after] == ["Convert"] and _zero_is_0(after[0]):
            yield Pair(node, after[0], float(ends[1][0]))


def _zero_is_0(convert: Any) -> bool:
    # Of codes -> Convert -> (Subtract ->) Multiply.
    if convert.get_output_element_type(0) != openvino.Type.i8:
        return False
    steps = [step for reader in readers(convert) for step in readers(reader)]
    subtracted = [step for step in steps if step.get_type_name() == "Subtract"]
    return not any(values_of(step.input_value(1)).any() for step in subtracted)


def _from_0(pair: Pair, *, is_moved: bool) -> str:
    # Of the range of -128..127 steps that of 0..255 has the same step; the clamp keeps it to 0..127. What is moved was.
    source = pair.quantize.input_value(0)
    low, high = (values_of(pair.quantize.input_value(index)).reshape(()) for index in (1, 2))
    clamped = source if is_moved else opset13.clamp(source, 0.0, pair.high).output(0)
    quantize = fake_quantize(clamped, np.zeros(()), high - low, BYTE + 1, BYTES)
    pair.convert.output(0).replace(opset13.convert(quantize, "u8").output(0))
    name: str = quantize.get_node().get_name()
    return name


def _from_128(pair: Pair) -> None:
    # As the plugin keeps such codes itself; where maps are joined it takes signed ones for others.
    low, high = (values_of(pair.quantize.input_value(index)).reshape(()) for index in (1, 2))
    codes = opset13.convert(fake_quantize(pair.quantize.input_value(0), low, high, BYTE + 1, BYTES), "u8")
    for reader in readers(pair.convert):
        kind = reader.get_output_element_type(0)
        zero = opset13.constant(np.full((), -SIGNED[0]), dtype=kind)
        reader.output(0).replace(opset13.subtract(opset13.convert(codes, kind.to_string()), zero).output(0))


def _behind(source: Any, passes: tuple[str, ...] = KEEPS_BYTES) -> set[str | None]:
    # The quantizers whose codes arrive here, moved or the largest of some; None for what is not quantized.
    node = source.get_node()
    kind = node.get_type_name()
    if kind == "FakeQuantize":
        return {node.get_name()}
    if kind in ("Concat", "Maximum"):
        return set().union(*(_behind(value, passes) for value in node.input_values()))
    is_scale = kind in ("Subtract", "Multiply") and is_constant(node.input_value(1))
    return _behind(node.input_value(0), passes) if is_scale or kind in passes else {None}


def _held(node: Any, unsigned: set[str | None], *, smaller: bool) -> str:
    # What was done to a layer. Where bytes may arrive past a sum or a mean they are taken to.
    read = _behind(node.input_value(0), CARRIES)
    if read == {None} or read <= unsigned or (_behind(node.input_value(1)) == {None} and _weights(node) is None):
        return AS_IT_IS
    if (weights := _weights(node)) is None:
        return _run_in_float(node)
    turned = weights.codes.transpose(weights.axes)
    flat = turned.reshape(-1, *(turned.shape[-3:] if turned.ndim > 2 else (turned.shape[1], 1, 1)))
    small, wider = small_pairs(flat, _inputs(node.input_value(0), flat.shape[1]))
    if np.array_equal(small, flat):
        return AS_IT_IS
    if not smaller:
        return _run_in_float(node)
    back = np.argsort(weights.axes)
    codes = small.reshape(turned.shape).transpose(back)
    wider = wider.reshape(*turned.shape[: 2 if turned.ndim == 5 else 1], *[1] * (turned.ndim - 1 - (turned.ndim == 5)))
    source = node.input_value(1)
    write = _as_quantizer if source.get_node().get_type_name() == "FakeQuantize" else _as_codes
    node.input(1).replace_source_output(write(codes, weights.scale * wider.transpose(back), source))
    return SMALLER


def _run_in_float(node: Any) -> str:
    # The values stay what they are; the plugin does not take codes past a minimum.
    source = node.input_value(0)
    kind = source.get_element_type()
    most = opset13.constant(np.array(np.finfo(kind.to_dtype()).max), dtype=kind)
    node.input(0).replace_source_output(opset13.minimum(source, most).output(0))
    return IN_FLOAT


def _inputs(source: Any, channels: int) -> int:
    # Of a frame whose columns were folded into channels as many as it has colours.
    node = source.get_node()
    while node.get_type_name() in (*KEEPS_BYTES, "FakeQuantize", "Concat"):
        # Of a frame that is joined to its border the border is constant.
        joined = [value for value in node.input_values() if not is_constant(value)]
        node = joined[0].get_node()
    if node.get_type_name() != "Parameter":
        return channels
    colours = int(node.get_output_shape(0)[-1])
    return colours if channels % colours == 0 else channels


class _Weights(NamedTuple):
    codes: np.ndarray  # int8, as they are stored
    scale: np.ndarray  # of as many dimensions
    axes: tuple[int, ...]  # that turn them to (groups,) outputs, channels, kh, kw


def _weights(node: Any) -> _Weights | None:
    # None where they are no constant, or of a form that is not known.
    axes = WEIGHTED[node.get_type_name()](node)
    read = _from_quantizer(node.input_value(1)) or _from_codes(node.input_value(1))
    if read is None or read[0].ndim != len(axes):
        return None
    return _Weights(*read, axes)


def _from_quantizer(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    node = source.get_node()
    if node.get_type_name() != "FakeQuantize" or not is_constant(node.input_value(0)):
        return None
    values, low, high = (values_of(node.input_value(index)) for index in range(3))
    if node.get_attributes()["levels"] != 2 * LEVELS + 1 or not np.array_equal(low, -high):
        return None
    scale = np.broadcast_to(high / LEVELS, np.broadcast_shapes(high.shape, (1,) * values.ndim))
    return np.rint(values / scale).astype(np.int8), scale


def _as_quantizer(codes: np.ndarray, scale: np.ndarray, source: Any) -> Any:
    constant = opset13.constant(codes * scale, dtype=source.get_element_type()).output(0)
    return fake_quantize(constant, -scale * LEVELS, scale * LEVELS, 2 * LEVELS + 1)


def _from_codes(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    # Constant of int8 -> Convert -> (Subtract 0 ->) Multiply by the scales
    node = source.get_node()
    if node.get_type_name() != "Multiply":
        return None
    by, node = node.input_value(1), node.input_value(0).get_node()
    if node.get_type_name() == "Subtract" and not values_of(node.input_value(1)).any():
        node = node.input_value(0).get_node()
    constant = node.input_value(0).get_node() if node.get_type_name() == "Convert" else node
    if constant.get_type_name() != "Constant" or constant.get_output_element_type(0) != openvino.Type.i8:
        return None
    codes, scale = np.asarray(constant.data), values_of(by)
    return codes, scale.reshape(np.broadcast_shapes(by.get_shape(), (1,) * codes.ndim))


def _as_codes(codes: np.ndarray, scale: np.ndarray, source: Any) -> Any:
    kind = source.get_element_type()
    converted = opset13.convert(opset13.constant(codes), kind.to_string())
    return opset13.multiply(converted, opset13.constant(scale, dtype=kind)).output(0)


def readers(node: Any) -> list[Any]:
    """The nodes that read a node's outputs, as often as they do."""
    return [put.get_node() for output in node.outputs() for put in output.get_target_inputs()]
