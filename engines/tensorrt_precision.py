"""Proof of what a TensorRT engine computes in: TensorRT 11 takes an FP32 graph for FP16, warns once and succeeds."""

import json
from collections import Counter
from typing import Any

from engines.built import INT8_SHARE
from runtime.commands import command
from runtime.errors import EngineError
from runtime.spec import Precision

NAMES_SHOWN = 5
NETWORK = "the typed network"
CONTRADICTION = f"{NETWORK}, which the engine contradicts"
# How the inspector spells a type: by itself, or inside "Row major linear FP16 format".
SPELLINGS = {"int8": "int8", "half": "fp16", "fp16": "fp16", "bf16": "bf16", "bfloat16": "bf16", "fp8": "fp8"}
SPELLINGS |= {"float": "fp32", "fp32": "fp32"}
# What the libraries call kernels that multiply by weights; the last three are TensorRT-RTX's.
WEIGHTED = ("conv", "gemm", "matmul", "matrixmultiply", "matrix_multiply", "correlation", "deconv", "runtime_fusion")
TYPE_KEYS = ("datatype", "format/datatype", "format")  # of a tensor, in lower case: each release spells its own


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
    types = {str(layer.get("Name", i)): _inspected_type(layer) for i, layer in enumerate(layers) if _is_weighted(layer)}
    return {name: found for name, found in types.items() if found is not None}


def engine_beside_network(executed: dict[str, int], information: str) -> str:
    """What a finished engine tells of its types, beside what its typed network proves; a sentence for the manifest.

    The network's types bind the builder. So an engine that tells nothing, or in names that are not known here, takes
    nothing from that proof; and one that tells other types is worth a look, but may be read wrongly.

    Args:
        executed: counts by type, of the typed network.
        information: the engine inspector's JSON.

    Returns:
        `NETWORK` and what the engine tells; begins a `CONTRADICTION` where that differs.
    """
    try:
        types = inspected_types(information)
    except (EngineError, ValueError, AttributeError, TypeError) as error:
        return f"{NETWORK}; the engine does not tell its types ({error})"
    if not types:
        return f"{NETWORK}; the engine tells no type of a layer with weights"
    told = dict(sorted(Counter(types.values()).items()))
    others = sorted(set(told) - set(executed))
    if others or _share(told) < INT8_SHARE * _share(executed):
        return f"{CONTRADICTION}: its network is {_listed(executed)}, it tells {_listed(told)}"
    return f"{NETWORK}; the engine tells the same of {len(types)} kernels: {_listed(told)}"


def _share(counts: dict[str, int]) -> float:
    # Of weighted layers, how many are INT8, 0..1.
    return counts.get("int8", 0) / sum(counts.values())


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


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
        found = _listed(counts) or "none"
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
    weights = layer.get("Weights")
    described = [weights.get("Type", "")] if isinstance(weights, dict) else []
    for tensor in layer.get("Inputs", [])[:1]:
        spelled = {key.lower(): value for key, value in tensor.items()}
        described += [spelled.get(key, "") for key in TYPE_KEYS]
    words = " ".join(map(str, described)).lower().replace("-", " ").replace("_", " ").split()
    return next((SPELLINGS[word] for word in words if word in SPELLINGS), None)
