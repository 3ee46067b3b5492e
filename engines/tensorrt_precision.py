"""Proof of what a TensorRT engine computes in: TensorRT 11 takes an FP32 graph for FP16, warns once and succeeds."""

import json
from collections import Counter
from typing import Any

from runtime.commands import command
from runtime.errors import EngineError
from runtime.spec import Precision

NAMES_SHOWN = 5
# How the inspector spells a type: by itself, or inside "Row major linear FP16 format".
SPELLINGS = {"int8": "int8", "half": "fp16", "fp16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "fp8": "fp8"}
SPELLINGS |= {"float": "fp32", "fp32": "fp32"}
WEIGHTED = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply")


def network_types(trt: Any, network: Any) -> dict[str, str]:
    """What each weighted layer of a strongly typed network is computed in, by its name.

    In such a network the builder may not change a type, so that this holds for any engine built from it.

    Returns:
        "int8" where all inputs are dequantized int8; else the widest type among inputs, weights and output.
    """
    kinds = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producers = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    return {layer.name: _layer_type(trt, layer, producers) for layer in layers if layer.type in kinds}


def inspected_types(information: str) -> dict[str, str]:
    """What each weighted layer of a finished engine is computed in, by its name.

    Args:
        information: the engine inspector's JSON, of an engine built with detailed profiling.

    Returns:
        Only what the inspector tells: a kernel fused from a whole subgraph has no such line, or one without a type.

    Raises:
        EngineError: the JSON names layers without describing them.
    """
    layers = json.loads(information or "{}").get("Layers", [])
    if any(isinstance(layer, str) for layer in layers):
        raise EngineError("the engine does not describe its layers: build it with ProfilingVerbosity.DETAILED")
    types = {layer["Name"]: _inspected_type(layer) for layer in layers if _is_weighted(layer)}
    return {name: found for name, found in types.items() if found is not None}


def prove(types: dict[str, str], precision: Precision, where: str, model: str) -> dict[str, int]:
    """How many layers are of each type, if they are what was asked.

    Args:
        types: of the weighted layers, by name.
        precision: fp32 and fp16 take no other type; int8 takes fp16 and fp32 beside at least one int8 layer.
        where: "graph" or "engine", for the message.
        model: likewise.

    Raises:
        EngineError: they are not; it names the first of them.
    """
    if precision == "int8":
        wrong = [] if "int8" in types.values() else list(types)
    else:
        wrong = [name for name, found in types.items() if found != precision]
    counts = dict(sorted(Counter(types.values()).items()))
    if wrong or not types:
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
        raise EngineError(
            f"the {where} of {model} is not {precision}: its weighted layers are {found}{_shown(wrong)}. "
            f"Build it from a graph of that precision: {command('engine', model=model, precision=precision)}"
        )
    return counts


def _shown(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return f", not as asked {', '.join(names[:NAMES_SHOWN])}{more}" if names else ""


def _layer_type(trt: Any, layer: Any, producers: dict[str, Any]) -> str:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
    sources = [_dequantized(trt, producers.get(tensor.name)) for tensor in inputs if tensor is not None]
    if all(source == trt.DataType.INT8 for source in sources):
        return "int8"
    dtypes = [tensor.dtype for tensor in [*inputs, layer.get_output(0)] if tensor is not None]
    return _widest(trt, dtypes + _weight_types(trt, layer))


def _dequantized(trt: Any, producer: Any) -> Any:
    if producer is None or producer.type != trt.LayerType.DEQUANTIZE:
        return None
    return producer.get_input(0).dtype


def _weight_types(trt: Any, layer: Any) -> list[Any]:
    classes = {
        trt.LayerType.CONVOLUTION: trt.IConvolutionLayer,
        trt.LayerType.DECONVOLUTION: trt.IDeconvolutionLayer,
    }
    if layer.type not in classes:
        return []
    layer.__class__ = classes[layer.type]  # the binding hands out the base class; this is its own way down
    return [{"float32": trt.DataType.FLOAT, "float16": trt.DataType.HALF}.get(str(layer.kernel.dtype))]


def _widest(trt: Any, dtypes: list[Any]) -> str:
    order = {trt.DataType.FLOAT: "fp32", trt.DataType.BF16: "bf16", trt.DataType.HALF: "fp16"}
    return next((name for dtype, name in order.items() if dtype in dtypes), "other")


def _is_weighted(layer: dict[str, Any]) -> bool:
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    return "Weights" in layer or any(word in kind for word in WEIGHTED)


def _inspected_type(layer: dict[str, Any]) -> str | None:
    described = layer.get("Weights", {}).get("Type", "")
    for tensor in layer.get("Inputs", [])[:1] if not described else []:
        described = tensor.get("DataType", tensor.get("Format/Datatype", ""))  # two keys since TensorRT 11
    words = described.lower().replace("-", " ").replace("_", " ").split()
    return next((SPELLINGS[word] for word in words if word in SPELLINGS), None)
