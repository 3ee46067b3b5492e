"""The tensors of published PIDNet-S files -> our names."""

import torch

from export.models.ddrnet import POOLS
from export.models.pidnet import BLOCKS

Tensors = dict[str, torch.Tensor]
AVERAGES = len(POOLS) + 1
BRANCHES = {"": "context", "_": "detail", "_d": "boundary"}
STAGES = {"layer1": 2, "layer2": 2} | {
    f"{branch}{i}": n for i in (3, 4) for branch, n in (("context", BLOCKS), ("detail", 2))
}
BOUNDARY = ("seghead_d.", "decode_head.d_head.", "decode_head.d_cls_seg.")  # a loss' of its own, deployed nowhere


def without_boundary(tensors: Tensors) -> Tensors:
    """Without the classifier of boundaries."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(BOUNDARY)}


def blocks() -> dict[str, int]:
    """Our residual blocks, and how many convolutions each has."""
    found = {f"{stage}.{i}": 2 for stage, count in STAGES.items() for i in range(count)}
    found |= {"boundary3": 2, "context5.0": 3, "context5.1": 3}
    return found | dict.fromkeys(("detail5", "boundary4", "boundary5"), 3)


def authors_modules() -> dict[str, str]:
    """The authors' modules -> ours.

    Source: XuJiacong/PIDNet, models/{pidnet,model_utils}.py, MIT.
    """
    modules = {f"conv1.{i}": f"conv1.{i // 3}.{i % 3}" for i in (0, 1, 3, 4)}
    for ours, count in blocks().items():
        theirs = _authors_block(ours)
        for i in range(1, count + 1):
            modules |= {f"{theirs}.conv{i}": f"{ours}.conv{i}.conv", f"{theirs}.bn{i}": f"{ours}.conv{i}.bn"}
        modules |= {f"{theirs}.downsample.0": f"{ours}.project.conv", f"{theirs}.downsample.1": f"{ours}.project.bn"}
    units: dict[str, str] = {}
    for i in (3, 4):
        units |= {f"compression{i}": f"compression{i}", f"diff{i}": f"difference{i}"}
        units |= {f"pag{i}.f_x": f"guided{i}.of_detail", f"pag{i}.f_y": f"guided{i}.of_context"}
    units |= {"dfm.conv_p": "fusion.of_detail", "dfm.conv_i": "fusion.of_context"}
    modules |= {f"{k}.{i}": f"{v}.{part}" for k, v in units.items() for i, part in enumerate(("conv", "bn"))}
    before = {"scale0": "scale.0", "scale_process": "process", "compression": "compression", "shortcut": "shortcut"}
    modules |= {
        f"spp.{k}.{i}": f"pyramid.{v}.{part}" for k, v in before.items() for i, part in ((0, "bn"), (2, "conv"))
    }
    for n in range(1, AVERAGES + 1):  # a pooling stands before these
        modules |= {f"spp.scale{n}.{i}": f"pyramid.scale.{n}.{part}" for i, part in ((1, "bn"), (3, "conv"))}
    for theirs, ours in (("final_layer", "head"), ("seghead_p", "auxiliary")):
        modules |= {f"{theirs}.bn1": f"{ours}.conv.bn", f"{theirs}.conv1": f"{ours}.conv.conv"}
        modules |= {f"{theirs}.bn2": f"{ours}.bn", f"{theirs}.conv2": f"{ours}.classifier"}
    return modules


def _authors_block(ours: str) -> str:
    stage, dot, index = ours.partition(".")
    branch = next((suffix for suffix, name in BRANCHES.items() if stage.startswith(name)), None)
    if branch is None:
        return ours
    lone = not dot and stage != "boundary3"  # a stage of one block, which stands in a sequence
    return f"layer{stage[-1]}{branch}{dot}{index}" + (".0" if lone else "")


def mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules -> ours.

    Source: mmseg/models/backbones/pidnet.py, decode_heads/pid_head.py, utils/ppm.py, Apache-2.0.
    """
    modules = {f"stem.{i}.{part}": f"conv1.{i}.{j}" for i in (0, 1) for j, part in ((0, "conv"), (1, "bn"))}
    units: dict[str, str] = {}
    for ours, count in blocks().items():
        theirs = _mmseg_block(ours)
        units |= {f"{theirs}.conv{i}": f"{ours}.conv{i}" for i in range(1, count + 1)}
        units[f"{theirs}.downsample"] = f"{ours}.project"
    for i in (1, 2):
        units |= {f"compression_{i}": f"compression{i + 2}", f"diff_{i}": f"difference{i + 2}"}
        units |= {f"pag_{i}.f_p": f"guided{i + 2}.of_detail", f"pag_{i}.f_i": f"guided{i + 2}.of_context"}
    units |= {"dfm.f_p": "fusion.of_detail", "dfm.f_i": "fusion.of_context", "spp.scales.0": "pyramid.scale.0"}
    units |= {f"spp.scales.{n}.1": f"pyramid.scale.{n}" for n in range(1, AVERAGES + 1)}
    units |= {"spp.processes": "pyramid.process"} | {f"spp.{k}": f"pyramid.{k}" for k in ("compression", "shortcut")}
    modules |= {f"{k}.{part}": f"{v}.{part}" for k, v in units.items() for part in ("conv", "bn")}
    modules = {f"backbone.{theirs}": ours for theirs, ours in modules.items()}
    for theirs, ours, classifier in (("i_head", "head", "conv_seg"), ("p_head", "auxiliary", "p_cls_seg")):
        modules |= {f"decode_head.{theirs}.conv.{part}": f"{ours}.conv.{part}" for part in ("conv", "bn")}
        modules |= {f"decode_head.{theirs}.norm": f"{ours}.bn", f"decode_head.{classifier}": f"{ours}.classifier"}
    return modules


def _mmseg_block(ours: str) -> str:
    stage, dot, index = ours.partition(".")
    if stage in ("layer1", "layer2"):
        return f"stem.{2 * int(stage[-1])}.{index}"
    branch = {"context": "i", "detail": "p", "boundary": "d"}[stage[:-1]]
    lone = not dot and stage != "boundary3"
    return f"{branch}_branch_layers.{int(stage[-1]) - 3}{dot}{index}" + (".0" if lone else "")
