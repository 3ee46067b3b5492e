"""OpenVINO's plan of a graph on this CPU: its execution graph, with the time that each layer took for one frame."""

import math
from typing import Any

import numpy as np
import openvino

from engines.openvino_build import fastest_model
from engines.planned import Kernel, Map, Plan
from runtime.backends.openvino import TYPE_NAMES, core
from runtime.backends.openvino_layers import frame_nodes, layer_of
from runtime.errors import EngineError
from runtime.libraries import refusing
from runtime.spec import ModelSpec, Precision

RUNS = 5  # the fastest of them is told: the first ones also make buffers


def plan(onnx: bytes, name: str, spec: ModelSpec, precision: Precision) -> Plan:
    """What OpenVINO makes of a graph of ours, and how long each kernel took for a frame of zeros.

    Raises:
        EngineError: OpenVINO refuses the graph.
    """
    with refusing(EngineError, f"OpenVINO refuses the graph {name}", line=-1):
        model, _ = fastest_model(core().read_model(onnx, b""), spec, precision, {"PERF_COUNT": "YES"})
        times = _times_ms(model)
        graph = model.get_runtime_model()
        nodes = frame_nodes(graph)
        maps = {node.get_friendly_name() for node in (*nodes, graph.inputs[0].get_node())}
        kernels = [_kernel(node, maps, times) for node in nodes]
    return Plan(name, f"openvino {openvino.get_version().split('-')[0]}", tuple(each for each in kernels if each))


def _times_ms(model: Any) -> dict[str, float]:
    request = model.create_infer_request()
    frame = np.zeros(tuple(model.inputs[0].shape), np.uint8)
    fastest: dict[str, float] = {}
    for _ in range(RUNS):
        request.infer([frame])
        for each in request.get_profiling_info():
            ms = each.real_time.total_seconds() * 1e3
            fastest[each.node_name] = min(ms, fastest.get(each.node_name, math.inf))
    return fastest


def _kernel(node: Any, names: set[str], times: dict[str, float]) -> Kernel | None:
    # None where it only renames memory; `names` are the maps that depend on the frame, the other inputs are weights.
    role = layer_of(node).role
    if role == "view":
        return None
    sources = [port.get_source_output() for port in node.inputs()]
    maps = [_map(each) for each in sources]
    weights = sum(each.nbytes for each in maps if each.name not in names)
    writes = tuple(map(_map, node.outputs()))
    name = node.get_friendly_name()
    kind = node.get_rt_info()["layerType"].astype(str)
    reads = tuple(each for each in maps if each.name in names)
    nodes = tuple(node.get_rt_info()["originalLayersNames"].astype(str).split(","))
    return Kernel(name, kind, role, reads, writes, weights, times.get(name), nodes)


def _map(source: Any) -> Map:
    kind, shape = source.get_element_type(), tuple(int(side) for side in source.get_shape())
    word = TYPE_NAMES.get(kind.get_type_name(), kind.get_type_name())
    return Map(source.get_node().get_friendly_name(), shape, word, math.prod(shape) * kind.bitwidth // 8)
