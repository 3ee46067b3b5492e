"""An INT8 graph in the form that OpenVINO's plugin fuses: pairs as one quantizer each, sums inside of convolutions.

As ONNX's pairs are read, a tensor becomes signed codes and values again. The plugin keeps such codes with zero point
128, which every convolution that reads them has to take off again, and passes over maps to change one kind of codes to
the other. Residual sums are a pass of their own. So here:

- A pair is one FakeQuantize. Of a tensor that is never negative it has zero point 0: the 255 codes of a byte over the
  range that ONNX has 127 for, so that values are rounded half as much, never otherwise than to a value of that range.
- A convolution that is added to a quantized skip is rounded, before the sum, to so many levels that nothing is lost.
  The plugin then takes the sum into the convolution, which it does for a convolution, its bias or a quantizer alone.
- A convolution that is quantized for a sum alone, which is not quantized itself, is not: its bytes would be made values
  again in a pass of their own.

Source, of the last: `isSuitableParentForFusingSumActivation` in OpenVINO's
intel_cpu/src/transformations/snippets/x64/pass/snippets_mark_skipped.cpp.
"""

from typing import Any, NamedTuple

import numpy as np
from openvino import Type, opset13

from engines.openvino_nodes import as_type, is_constant, values_of
from engines.openvino_signs import never_negative, port
from engines.openvino_sums import BYTE, Pair, readers, signed_pairs

# Of what is quantized before these codes are left after them: moved, or the largest of some.
MOVES = ("Convert", "Reshape", "Transpose", "Slice", "MaxPool", "Squeeze", "Unsqueeze", "DepthToSpace")
ACTIVATIONS = ("Relu", "Clamp")
# What is added is rounded to so many levels, as many as float32 has integers, over so many times the range of the
# codes: to 1/256 of a step, and cut off where nothing is. An odd number, so that zero is one of them; the plugin makes
# bytes of those numbers alone that it knows, 256 and 65536 among them.
LEVELS, RANGES = 2**24 - 1, 256


def merge_pairs(model: Any) -> None:
    """Write each pair of int8 codes with zero point 0 as one FakeQuantize.

    As pairs, OpenVINO 2026.4 takes signed codes of joined maps for others, on every CPU: the result is off by a third
    of its deviation and more, and nothing is said.

    Args:
        model: an openvino.Model of an INT8 graph; it is changed.
    """
    positive = never_negative(model)
    for pair in list(signed_pairs(model)):
        if ends := _ends(pair):
            _merge(pair, ends, is_positive=port(pair.quantize.input_value(0)) in positive)
    model.validate_nodes_and_infer_types()


def fuse_sums(model: Any, *, prelus: bool = False) -> None:
    """Let convolutions add the quantized skip that they are added to, where what follows is quantized alone.

    Where it is not, a skip that was quantized for the sum is left as it is.

    Args:
        model: an openvino.Model whose pairs are merged; it is changed.
        prelus: sums before a PReLU, too, which not every CPU is faster with.
    """
    activations = (*ACTIVATIONS, "PRelu") if prelus else ACTIVATIONS
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        if not _is_quantized(node, activations):
            _leave(node)
        elif found := _residual(node, activations):
            _round(node, found)
    model.validate_nodes_and_infer_types()


def drop_relus(model: Any) -> None:
    """Leave out activations that change nothing: of what is cut off or quantized from zero on, and is not read else.

    Args:
        model: an openvino.Model whose pairs are merged or whose sums are kept; it is changed.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Relu" and (after := _past_converts(node)) and all(map(_is_from_zero, after)):
            node.output(0).replace(node.input_value(0))
    model.validate_nodes_and_infer_types()


def _is_from_zero(node: Any) -> bool:
    if node.get_type_name() == "Clamp":
        return float(node.get_attributes()["min"]) == 0
    return node.get_type_name() == "FakeQuantize" and not any(
        values_of(node.input_value(index)).any() for index in (1, 3)
    )


def _merge(pair: Pair, ends: list[Any], *, is_positive: bool) -> None:
    step = float(values_of(ends[0].input_value(1)).reshape(()))
    low, high = 0 if is_positive else -(BYTE // 2) - 1, BYTE // 2
    kind = ends[0].get_output_element_type(0)
    quantized = as_type(_quantize(pair.quantize.input_value(0), low * step, high * step, BYTE + 1), kind)
    for end in ends:
        end.output(0).replace(quantized)


def _ends(pair: Pair) -> list[Any]:
    # Of codes -> Convert -> (Subtract ->) Multiply the last; none where they give other values than were quantized.
    steps = [step for convert in readers(pair.convert) for step in readers(convert)]
    ends = [end for step in steps for end in (readers(step) if step.get_type_name() == "Subtract" else [step])]
    return ends if ends and all(_is_scale(end, pair.high) for end in ends) else []


def _is_scale(node: Any, high: float) -> bool:
    if node.get_type_name() != "Multiply" or not is_constant(node.input_value(1)):
        return False
    scale = values_of(node.input_value(1))
    return scale.size == 1 and bool(np.isclose(scale.item() * (BYTE // 2), high, rtol=1e-3))


def _is_quantized(add: Any, activations: tuple[str, ...]) -> bool:
    # Whether a sum, or what an activation makes of it, is read as bytes alone.
    after = _past_converts(add)
    if [node.get_type_name() in activations for node in after] == [True]:
        after = _past_converts(after[0])
    return bool(after) and all(node.get_type_name() == "FakeQuantize" for node in after)


def _leave(add: Any) -> None:
    for index in (0, 1):
        skip = add.input_value(index)
        if _is_convolved(add.input_value(1 - index)) and _is_its_own(skip) and (found := _quantizers(skip)):
            left = as_type(found[0].input_value(0), skip.get_element_type())
            add.input(index).replace_source_output(left)


class _Residual(NamedTuple):
    convolved: int  # which input of the sum
    most: float  # of what is added to it, or made of the sum


def _residual(add: Any, activations: tuple[str, ...]) -> _Residual | None:
    if add.get_input_shape(0) != add.get_input_shape(1):
        return None
    behind = _past_converts(add)
    if [node.get_type_name() in activations for node in behind] != [True]:
        return None
    after = _past_converts(behind[0])
    if not after or any(node.get_type_name() != "FakeQuantize" for node in after):
        return None
    for index in (0, 1):
        skip = _quantizers(add.input_value(1 - index))
        if skip and _is_convolved(add.input_value(index)) and not _is_its_own(add.input_value(1 - index)):
            return _Residual(index, max(_reach(node) for node in (*skip, *after)))
    return None


def _round(add: Any, found: _Residual) -> None:
    source = add.input_value(found.convolved)
    most = RANGES * found.most
    rounded = _quantize(source, -most, most, LEVELS)
    add.input(found.convolved).replace_source_output(as_type(rounded, source.get_element_type()))


def _quantize(source: Any, low: float, high: float, levels: int) -> Any:
    # In float32: of half-precision ends the steps would be others.
    ends = [opset13.constant(np.float32(value)).output(0) for value in (low, high, low, high)]
    return opset13.fake_quantize(as_type(source, Type.f32), *ends, levels).output(0)


def _reach(quantize: Any) -> float:
    return max(float(np.abs(values_of(quantize.input_value(index))).max()) for index in (1, 2))


def _quantizers(source: Any) -> list[Any]:
    # Those whose codes arrive here; none where something else does.
    node = source.get_node()
    if node.get_type_name() == "FakeQuantize":
        return [node]
    if node.get_type_name() == "Concat":
        found = [_quantizers(value) for value in node.input_values()]
        return [each for some in found for each in some] if all(found) else []
    return _quantizers(node.input_value(0)) if node.get_type_name() in MOVES else []


def _is_its_own(skip: Any) -> bool:
    # A quantizer that nothing else reads takes the scale of the sum, which the plugin sees by itself.
    node = skip.get_node()
    while node.get_type_name() in ("Convert", "FakeQuantize"):
        if len(readers(node)) > 1:
            return False
        node = node.input_value(0).get_node()
    return _is_convolved(node.output(0))


def _is_convolved(source: Any) -> bool:
    node = source.get_node()
    if node.get_type_name() == "Add" and any(_is_bias(value) for value in node.input_values()):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Convolution" and len(readers(node)) == 1)


def _is_bias(source: Any) -> bool:
    node = source.get_node()
    return is_constant(source) or (node.get_type_name() == "Reshape" and is_constant(node.input_value(0)))


def _past_converts(node: Any) -> list[Any]:
    return [
        each
        for reader in readers(node)
        for each in (_past_converts(reader) if reader.get_type_name() == "Convert" else [reader])
    ]
