"""The INT8 graph, with explicit Q/DQ, from the FP16 graph and a calibration table.

`python -m calib.qdq GRAPH.onnx` prints the graph's path; TensorRT, TensorRT-RTX, OpenVINO and onnxruntime all take it.
"""

import dataclasses
import fnmatch
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from calib.graphs import graph_from_bytes, load_graph
from calib.likeness import Likeness, held, tell
from calib.placement import layer_name, layers, place
from calib.table import CalibrationTable, table_for
from calib.thresholds import LEVELS, METHODS, Method
from runtime.arguments import Parser
from runtime.artifacts import is_sealed, key_of, locked, sha256_of, sources_sha256, write_sealed
from runtime.cli import DONE, log, one_of, run, show
from runtime.commands import command
from runtime.errors import GraphError
from runtime.json_values import values_from_json

PROPERTY = "calibration"  # of the graph's metadata


def quantize(model: onnx.ModelProto, table: CalibrationTable, *, correct_bias: bool = True) -> onnx.ModelProto:
    """The graph with Q/DQ pairs where `calib.placement` puts them; everything else keeps its type.

    Symmetric, zero point 0: one scale per tensor for activations, one per output channel for weights, which are stored
    as INT8.

    Args:
        model: FP16 or FP32, as `export.to_onnx` wrote it.
        table: ranges of its tensors, the method and the layers to leave.
        correct_bias: move each bias by what rounding the weights adds on the calibration frames' mean input.

    Raises:
        GraphError: the table lacks a tensor, or names a layer that the graph has not.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    try:
        placement = place(quantized.graph, table.float_layers)
    except ValueError as error:
        raise GraphError(f"the calibration table does not fit the graph: {error}") from None
    writer = _Writer(quantized.graph, table)
    for node in (*placement.weights, *placement.rounded) if correct_bias else ():
        writer.correct_bias(node)
    for node in placement.rounded:
        writer.round_weight(node)
    for node in placement.weights:
        writer.quantize_weight(node)
    for point in placement.points:
        writer.add_pair(point.node, point.input, point.tensor, point.range_of)
    writer.finish()
    onnx.checker.check_model(quantized)
    return quantized


def quantized_graph(
    graph: Path,
    table_path: Path | None = None,
    method: Method | None = None,
    leave: Sequence[str] = (),
    *,
    anyway: bool = False,
) -> Path:
    """The INT8 graph beside an FP16 one, held to it; made only if there is none yet of the same key.

    Args:
        graph: FP16.
        table_path: by default the newest of the same weights, or the one shipped.
        method: by default the table's own.
        leave: layers that stay in FP16, beside those that the table leaves; `*` stands for any characters.
        anyway: write it however far it is from its float graph.

    Raises:
        GraphError: graph or table are missing or do not fit each other, or INT8 is too far from the float graph.
        ModelError: the graph has no layer that one of them names; it tells the closest.
    """
    model, spec = load_graph(graph, "fp16")
    path, table = table_for(spec, table_path)
    if method:
        table = dataclasses.replace(table, method=method)
    names = sorted(set(layers(model.graph).values()))
    left = [name for given in leave for name in fnmatch.filter(names, given) or [one_of(given, names, "layer")]]
    table = dataclasses.replace(table, float_layers=tuple(dict.fromkeys((*table.float_layers, *left))))
    chosen = {"method": table.method, "float_layers": table.float_layers, "anyway": anyway}
    key = key_of({"graph": sha256_of(graph), "table": sha256_of(path), **chosen, "code": code()})
    height, width = spec.preprocess.height, spec.preprocess.width
    made = graph.with_name(f"{spec.name}-int8-{height}x{width}-{key}.onnx")
    with locked(made):
        if is_sealed(made):
            log(f"{made} is up to date")
            found = _likeness_of(made)
        else:
            int8, table, found = held(model, spec, table, path, partial(quantize, model), anyway=anyway)
            write_sealed(made, _described(int8, table, path, found).SerializeToString())
    tell(found, spec.name)
    return made


def weight_scales(weight: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The scale of each output channel, in the type that the graph computes in.

    Args:
        weight: float (out, in / groups, kh, kw).
        kind: float16 or float32.

    Returns:
        `kind` (out,): never so small that the largest weight is clipped, 1 for a channel of zeros.
    """
    largest = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(axis=1)
    return _scale(largest, kind)


def integers(weight: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int8 codes of a weight (out, in / groups, kh, kw) for scales (out,)."""
    codes = np.rint(weight.astype(np.float64) / scales.astype(np.float64).reshape(-1, 1, 1, 1))
    return np.clip(codes, -LEVELS, LEVELS).astype(np.int8)


class _Pair(NamedTuple):
    nodes: tuple[onnx.NodeProto, onnx.NodeProto]
    output: str


class _Writer:
    """Edits one graph; nodes are put in their order by `finish`."""

    def __init__(self, graph: onnx.GraphProto, table: CalibrationTable) -> None:
        self.graph, self.table = graph, table
        self.nodes = list(graph.node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type))
        self.pairs: dict[tuple[str, str], _Pair] = {}
        self.dequantized: dict[str, onnx.NodeProto] = {}
        self.before: dict[int, list[onnx.NodeProto]] = {}

    def quantize_weight(self, node: int) -> None:
        name = self.nodes[node].input[1]
        if name not in self.dequantized:
            weight = self._array(name)
            scales = weight_scales(weight, self.kind)
            inputs = [
                self._constant(f"{name}.codes", integers(weight, scales)),
                self._constant(f"{name}.scale", scales),
                self._constant(f"{name}.zero", np.zeros(len(scales), np.int8)),
            ]
            output = f"{name}.dequantized"
            self.dequantized[name] = onnx.helper.make_node(
                "DequantizeLinear", inputs, [output], f"{name}.DequantizeLinear", axis=0
            )
            self.before.setdefault(node, []).append(self.dequantized[name])
        self.nodes[node].input[1] = self.dequantized[name].output[0]

    def round_weight(self, node: int) -> None:
        name = self.nodes[node].input[1]
        weight = self._array(name)
        # Scales of full precision: whoever derives the grid from the largest weight of a channel finds the same codes.
        scales = weight_scales(weight, np.dtype(np.float64))
        values = integers(weight, scales) * scales.reshape(-1, 1, 1, 1)
        self.constants[name].CopyFrom(numpy_helper.from_array(values.astype(self.kind), name))

    def correct_bias(self, node: int) -> None:
        convolution = self.nodes[node]
        tensor, name = convolution.input[:2]
        weight = self._array(name)
        scales = weight_scales(weight, self.kind)
        rounding = integers(weight, scales) * scales.astype(np.float64).reshape(-1, 1, 1, 1) - weight
        means = self._means(tensor)
        groups = next((each.i for each in convolution.attribute if each.name == "group"), 1)
        if len(means) != weight.shape[1] * groups:
            raise GraphError(
                f"the calibration table has {len(means)} means of tensor {tensor}, "
                f"{layer_name(convolution)} reads {weight.shape[1] * groups} channels; "
                f"take it again: {command('calib')}"
            )
        # Each output reads the channels of its own group.
        read = means.reshape(groups, -1).repeat(len(weight) // groups, axis=0)
        shift = (rounding.sum(axis=(2, 3)) * read).sum(axis=1)
        if not (bias_name := next(iter(convolution.input[2:]), "")):
            bias = np.zeros(len(weight))
        elif bias_name in self.constants:
            bias = self._array(bias_name)
        else:
            return  # it is computed from something: there is nothing to move
        # Convolutions of one layer share weight and bias, but not always what they read: a bias each.
        corrected = self._constant(f"{convolution.output[0]}.bias", (bias - shift).astype(self.kind))
        del convolution.input[2:]
        convolution.input.append(corrected)

    def add_pair(self, node: int, index: int, tensor: str, range_of: str) -> None:
        key = tensor, range_of
        if key not in self.pairs:
            # A tensor may be read with its own range and, where it is cut, with that of the piece.
            name = tensor if all(tensor != known for known, _ in self.pairs) else f"{tensor}.as.{range_of}"
            self.pairs[key] = self._pair(name, tensor, range_of)
            self.before.setdefault(node, []).extend(self.pairs[key].nodes)
        self.nodes[node].input[index] = self.pairs[key].output

    def finish(self) -> None:
        ordered = [each for i, node in enumerate(self.nodes) for each in (*self.before.get(i, ()), node)]
        used = {name for node in ordered for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        for field, items in ((self.graph.node, ordered), (self.graph.initializer, kept)):
            copies = [type(item).FromString(item.SerializeToString()) for item in items]
            del field[:]
            field.extend(copies)
        del self.graph.value_info[:]

    def _pair(self, name: str, tensor: str, range_of: str) -> _Pair:
        if range_of not in self.table.ranges:
            raise GraphError(
                f"the calibration table has no range of tensor {range_of}; take it again: {command('calib')}"
            )
        scale = _scale(np.array(self.table.ranges[range_of][self.table.method]), self.kind)
        parameters = [
            self._constant(f"{range_of}.scale", scale),
            self._constant(f"{range_of}.zero", np.zeros((), np.int8)),
        ]
        codes, output = f"{name}.codes", f"{name}.dequantized"
        quantize_node = onnx.helper.make_node(
            "QuantizeLinear", [tensor, *parameters], [codes], f"{name}.QuantizeLinear"
        )
        dequantize_node = onnx.helper.make_node(
            "DequantizeLinear", [codes, *parameters], [output], f"{name}.DequantizeLinear"
        )
        return _Pair((quantize_node, dequantize_node), output)

    def _means(self, tensor: str) -> np.ndarray:
        if tensor not in self.table.means:
            raise GraphError(
                f"the calibration table has no means of tensor {tensor}; take it again: {command('calib')}"
            )
        return np.asarray(self.table.means[tensor])

    def _array(self, name: str) -> np.ndarray:
        array: np.ndarray = numpy_helper.to_array(self.constants[name])
        return array

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(values, name)
        return name


def _scale(largest: np.ndarray, kind: np.dtype) -> np.ndarray:
    exact = np.where(largest > 0, largest, LEVELS) / LEVELS
    scale = exact.astype(kind)
    # Rounded down it would clip the largest value.
    return np.where(scale.astype(np.float64) < exact, np.nextafter(scale, kind.type(np.inf)), scale).astype(kind)


def _described(model: onnx.ModelProto, table: CalibrationTable, path: Path, found: Likeness) -> onnx.ModelProto:
    entry = model.metadata_props.add()
    entry.key = PROPERTY
    told = {"method": table.method, "float_layers": table.float_layers, "frames": len(table.frames), "seed": table.seed}
    entry.value = json.dumps({**told, "table_sha256": sha256_of(path), "likeness": found._asdict()})
    return model


def _likeness_of(graph: Path) -> Likeness:
    (told,) = (entry.value for entry in graph_from_bytes(graph.read_bytes()).metadata_props if entry.key == PROPERTY)
    return Likeness(**values_from_json(told)["likeness"])


def code() -> str:
    """A sha256 of the code that makes an INT8 graph of a float one and a table."""
    return sources_sha256(
        *(Path(__file__).with_name(name) for name in ("qdq.py", "likeness.py", "placement.py", "thresholds.py"))
    )


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m calib.qdq", description=__doc__)
    parser.add_argument("graph", type=Path, help="the FP16 graph that export.to_onnx wrote")
    parser.add_argument("--table", type=Path, help="by default the newest of the same weights, or the one shipped")
    parser.add_argument("--method", help=f"{', '.join(METHODS)} (the table's own)")
    parser.add_argument(
        "--leave",
        nargs="+",
        default=[],
        metavar="LAYER",
        help="layers to leave in FP16, such as conv6_cls or bottleneck5_* (none)",
    )
    parser.add_argument("--anyway", action="store_true", help="however far its logits are from the float graph's")
    asked = parser.parse_args(argv)
    method = one_of(asked.method, METHODS, "method") if asked.method else None
    show(quantized_graph(asked.graph, asked.table, method, asked.leave, anyway=asked.anyway))
    return DONE


if __name__ == "__main__":
    run(main)
