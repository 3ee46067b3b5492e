"""Which kernel of OpenVINO's library each INT8 convolution runs with, by what it takes on this CPU.

The plugin takes the newest kernel that a convolution can have, and that is not everywhere the fastest: of few channels
or of a dilated one an older kernel may be. Sums of INT8 products are the same by each.

A node says which kernel it wants by an attribute that Python cannot set: the graph is written in OpenVINO's own format,
and read with it.

Source: OpenVINO's attribute `PrimitivesPriority`; the names in its intel_cpu/src/onednn/iml_type_mapper.cpp.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import openvino

from engines.openvino_turns import share_of_time, turns
from runtime.backends.openvino import DEVICE, core, keeps_bf16
from runtime.errors import EngineError
from runtime.libraries import refusing

# What a node may want in place of what the plugin takes, on a CPU with AVX-512.
OTHERS = "cpu:jit_avx512", "cpu:brgconv_avx512,cpu:brgconv_avx512_1x1"
CONVOLUTIONS = "Convolution", "GroupConvolution"
WISH = {"name": "primitives_priority", "version": "0"}
ROUNDS = 10
MOST_SHARE = 0.99  # of a kernel's time, beside the plugin's choice


class Fastest(NamedTuple):
    """A model with the kernels that are fastest here, and what is said of them, empty where OpenVINO's choice stays."""

    compiled: Any  # openvino.CompiledModel
    told: str  # what was chosen and what it is worth, or why nothing was


def with_fastest_kernels(model: Any, options: dict[str, str]) -> Fastest:
    """An INT8 model, each of its INT8 convolutions with the kernel that is fastest on this CPU.

    Args:
        model: an openvino.Model of one input, of bytes.
        options: of the plugin.
    """
    plain = core().compile_model(model, DEVICE, options)
    if not keeps_bf16():
        return Fastest(plain, "")
    try:
        with refusing(EngineError, "other kernels than OpenVINO takes were not tried"):
            graph = _Graph(model)
            wishes = _wishes(graph, options | {"PERF_COUNT": "YES"})
            wished = graph.compiled(wishes, options) if wishes else plain
    except EngineError as error:
        return Fastest(plain, str(error))
    own, others = _kernels(plain), _kernels(wished)
    changed = sum(others.get(name) != kernel for name, kernel in own.items())
    share = share_of_time(wished, plain) if changed else 1.0
    if share >= 1:
        return Fastest(plain, "")
    told = f"of {len(own)} convolutions in INT8 {changed} run with another kernel than OpenVINO takes"
    return Fastest(wished, f"{told}: a frame takes {share:.2f} of the time")


class _Graph:
    """A model in OpenVINO's own format, which it is read from with what its nodes want."""

    def __init__(self, model: Any) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.xml"
            openvino.serialize(model, path)
            self.text, self.weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()

    def compiled(self, wishes: Mapping[str, str], options: dict[str, str]) -> Any:
        """With what convolutions of these names want."""
        tree = ElementTree.fromstring(self.text)
        for layer in tree.iter("layer"):
            wish = wishes.get(layer.get("name", ""))
            if wish is None or layer.get("type") not in CONVOLUTIONS:
                continue
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(1, info)  # behind the node's attributes
            ElementTree.SubElement(info, "attribute", WISH | {"value": wish})
        read = core().read_model(ElementTree.tostring(tree), self.weights)
        return core().compile_model(read, DEVICE, options)


def _kernels(compiled: Any) -> dict[str, str]:
    # By an INT8 convolution's name the kernel that it runs with.
    infos = {node.get_friendly_name(): node.get_rt_info() for node in compiled.get_runtime_model().get_ops()}
    kinds = {name: info["primitiveType"].astype(str) for name, info in infos.items() if _is_convolution(info)}
    return {name: kind for name, kind in kinds.items() if kind.endswith("I8")}


def _is_convolution(info: Any) -> bool:
    return bool(info["layerType"].astype(str) == "Convolution")


def _wishes(graph: _Graph, timed: dict[str, str]) -> dict[str, str]:
    # What those convolutions want that are faster with it than with the plugin's choice.
    plain = graph.compiled({}, timed)
    own = _kernels(plain)
    forms = [("", plain)]
    for wish in OTHERS if own else ():
        other = graph.compiled(dict.fromkeys(own, wish), timed)
        # What is no longer in INT8 would be another engine.
        if _kernels(other).keys() == own.keys() and all(_kernels(other) != _kernels(form) for _, form in forms):
            forms.append((wish, other))
    return _fastest(forms, own) if len(forms) > 1 else {}


def _fastest(forms: list[tuple[str, Any]], names: Mapping[str, str]) -> dict[str, str]:
    # The plugin's own choice is the first form.
    shape = tuple(forms[0][1].inputs[0].shape)
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    requests = [form.create_infer_request() for _, form in forms]
    least: list[dict[str, float]] = [{} for _ in forms]
    for counts in turns(ROUNDS):
        for request, times in zip(requests, least, strict=True):
            request.infer([frame])
            if counts:
                _keep_least(times, request)
    found = {}
    for name in names:
        own, *others = (times.get(name, math.inf) for times in least)
        best = min(range(len(others)), key=others.__getitem__)
        if others[best] < MOST_SHARE * own:
            found[name] = forms[1 + best][0]
    return found


def _keep_least(times: dict[str, float], request: Any) -> None:
    for each in request.get_profiling_info():
        seconds = each.real_time.total_seconds()
        times[each.node_name] = min(seconds, times.get(each.node_name, math.inf))
