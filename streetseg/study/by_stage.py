"""Where a frame's time goes: what OpenVINO says each kernel took, by the stage of the network that it belongs to.

As figure 1 of ICNet's paper has it for PSPNet50. A kernel without weights (pooling, resizing, a sum, a copy) is of the
stage of what it reads.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engines.plan import plan_of
from engines.planned import Kernel

STAGES = ("stem", "conv2", "conv3", "conv4", "conv5", "pyramid", "fusion", "fine branch", "head")
# By the beginning of a layer's name, the longer ones first.
OF_LAYER = {
    "conv1_sub1": "fine branch", "conv2_sub1": "fine branch", "conv3_sub1": "fine branch", "conv1": "stem",
    "conv2": "conv2", "conv3": "conv3", "conv4": "conv4", "conv5_4": "pyramid", "context": "pyramid", "conv5": "conv5",
    "fusion": "fusion", "conv6": "head",
}  # fmt: skip


def stages_of(graph: Path) -> dict[str, Any]:
    """Milliseconds of a frame by stage, of an ICNet's or a `pspnet50-sum`'s graph, as JSON values.

    Raises:
        PipelineError: as `engines.plan.plan_of`.
    """
    import onnx

    from calib.placement import layers

    model = onnx.load(graph)
    # OpenVINO calls the last node by the name of what it gives.
    told = [(model.graph.node[i], layer) for i, layer in layers(model.graph).items()]
    names = {name: layer for node, layer in told for name in (node.name, node.output[0])}
    kernels = plan_of(graph, "openvino").kernels
    found = dict.fromkeys(STAGES, 0.0)
    for kernel, stage in zip(kernels, assigned(kernels, names), strict=True):
        found[stage] += kernel.ms or 0.0
    return {stage: round(ms, 3) for stage, ms in found.items() if ms}


def assigned(kernels: Iterable[Kernel], layer_of: dict[str, str]) -> list[str]:
    """The stage of each kernel, in their order.

    Args:
        kernels: in the order in which they run.
        layer_of: node of the graph -> the layer whose weights it has.
    """
    stages: dict[str, str] = {}  # by the map that is written
    found = []
    for kernel in kernels:
        own = {stage_of(layer_of[name]) for name in kernel.nodes if name in layer_of}
        own = own or {stages[each.name] for each in kernel.reads if each.name in stages}
        found.append(max(own or {STAGES[0]}, key=STAGES.index))
        stages |= {each.name: found[-1] for each in kernel.writes}
    return found


def stage_of(layer: str) -> str:
    """The stage of a layer by its name.

    Raises:
        ValueError: it is of none.
    """
    bare = re.sub(r"^net\.", "", layer)
    for begin, stage in OF_LAYER.items():
        if bare.startswith(begin):
            return stage
    raise ValueError(f"layer {layer} is of no stage")
