"""The tensors of published DDRNet-23-slim and Fast-SCNN files -> our names."""

import torch

from export.models.ddrnet import POOLS
from export.models.fast_scnn import TRUNK

Tensors = dict[str, torch.Tensor]
SCALES = len(POOLS) + 2  # of the pyramid: its input itself and the whole map too
STAGES = ("low3", "low4", "low5"), ("high3", "high4", "high5")


def ddrnet_modules() -> dict[str, str]:
    """The authors' modules -> ours.

    Source: ydhongHIT/DDRNet, segmentation/DDRNet_23_slim.py, MIT.
    """
    modules = {f"conv1.{i}": f"conv1.{i // 3}.{i % 3}" for i in (0, 1, 3, 4)}
    stages = {"layer1": "layer1", "layer2": "layer2"}
    stages |= {f"layer{i}": f"low{i}" for i in (3, 4, 5)} | {f"layer{i}_": f"high{i}" for i in (3, 4, 5)}
    for theirs, ours in stages.items():
        blocks = {f"{theirs}.0": ours} if ours.endswith("5") else {f"{theirs}.{i}": f"{ours}.{i}" for i in (0, 1)}
        for block, our in blocks.items():
            for i in (1, 2, 3):
                modules |= {f"{block}.conv{i}": f"{our}.conv{i}.conv", f"{block}.bn{i}": f"{our}.conv{i}.bn"}
            modules |= {f"{block}.downsample.0": f"{our}.project.conv", f"{block}.downsample.1": f"{our}.project.bn"}
    for name in ("compression3", "compression4", "down3"):
        modules |= {f"{name}.0": f"{name}.conv", f"{name}.1": f"{name}.bn"}
    modules |= {f"down4.{3 * i + j}": f"down4.{i}.{part}" for i in (0, 1) for j, part in ((0, "conv"), (1, "bn"))}
    parts = {"compression": "compression", "shortcut": "shortcut", "scale0": "scale.0"}
    parts |= {f"process{i + 1}": f"process.{i}" for i in range(SCALES - 1)}
    for theirs, ours in parts.items():
        modules |= {f"spp.{theirs}.0": f"pyramid.{ours}.bn", f"spp.{theirs}.2": f"pyramid.{ours}.conv"}
    for i in range(1, SCALES):  # a pooling stands before these
        modules |= {f"spp.scale{i}.1": f"pyramid.scale.{i}.bn", f"spp.scale{i}.3": f"pyramid.scale.{i}.conv"}
    for theirs, ours in (("final_layer", "head"), ("seghead_extra", "auxiliary")):
        modules |= {f"{theirs}.bn1": f"{ours}.conv.bn", f"{theirs}.conv1": f"{ours}.conv.conv"}
        modules |= {f"{theirs}.bn2": f"{ours}.bn", f"{theirs}.conv2": f"{ours}.classifier"}
    return modules


def ddrnet_mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules of the same network -> ours.

    Source: mmseg/models/backbones/ddrnet.py, decode_heads/ddr_head.py, utils/ppm.py.
    """
    modules = {f"stem.{i}.{part}": f"conv1.{i}.{j}" for i in (0, 1) for j, part in ((0, "conv"), (1, "bn"))}
    blocks = {f"stem.{2 * k}.{i}": f"layer{k}.{i}" for k in (1, 2) for i in (0, 1)}
    for branch, names in zip(("context", "spatial"), STAGES, strict=True):
        for k, name in enumerate(names):
            theirs = f"{branch}_branch_layers.{k}"
            blocks |= {f"{theirs}.0": name} if k == 2 else {f"{theirs}.{i}": f"{name}.{i}" for i in (0, 1)}
    units = {f"{theirs}.conv{i}": f"{ours}.conv{i}" for theirs, ours in blocks.items() for i in (1, 2, 3)}
    for theirs, ours in blocks.items():
        modules |= {f"{theirs}.downsample.0": f"{ours}.project.conv", f"{theirs}.downsample.1": f"{ours}.project.bn"}
    units |= {"compression_1": "compression3", "compression_2": "compression4", "down_1": "down3"}
    units |= {f"down_2.{i}": f"down4.{i}" for i in (0, 1)}
    units |= {"spp.scales.0": "pyramid.scale.0"} | {f"spp.scales.{i}.1": f"pyramid.scale.{i}" for i in range(1, SCALES)}
    units |= {f"spp.processes.{i}": f"pyramid.process.{i}" for i in range(SCALES - 1)}
    units |= {f"spp.{name}": f"pyramid.{name}" for name in ("compression", "shortcut")}
    modules |= {f"{k}.{part}": f"{v}.{part}" for k, v in units.items() for part in ("conv", "bn")}
    modules = {f"backbone.{theirs}": ours for theirs, ours in modules.items()}
    for theirs, ours, classifier in (("head", "head", "conv_seg"), ("aux_head", "auxiliary", "aux_cls_seg")):
        modules |= {f"decode_head.{theirs}.0.{part}": f"{ours}.conv.{part}" for part in ("conv", "bn")}
        modules |= {f"decode_head.{theirs}.1": f"{ours}.bn", f"decode_head.{classifier}": f"{ours}.classifier"}
    return modules


def with_biases(tensors: Tensors) -> Tensors:
    """The first two convolutions have a bias in the authors' files, which mmsegmentation's leave at zero."""
    missing = {}
    for i in (0, 1):
        weight = tensors.get(f"conv1.{i}.0.weight")
        if weight is not None and f"conv1.{i}.0.bias" not in tensors:
            missing[f"conv1.{i}.0.bias"] = torch.zeros_like(weight[:, 0, 0, 0])
    return {**tensors, **missing}


def fast_scnn_mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules -> ours.

    Source: mmseg/models/backbones/fast_scnn.py, decode_heads/sep_fcn_head.py, configs/_base_/models/fast_scnn.py.
    """
    units = {"learning_to_downsample.conv": "stem.0"}
    separable = {f"backbone.learning_to_downsample.dsconv{i}": f"stem.{i}" for i in (1, 2)}
    separable |= {f"decode_head.convs.{i}": f"head.convolutions.{i}" for i in (0, 1)}
    extractor, index = "global_feature_extractor", 0
    for stage, (count, *_) in enumerate(TRUNK, 1):
        for i in range(count):
            for k, part in enumerate(("expand", "depthwise", "project")):
                units[f"{extractor}.bottleneck{stage}.{i}.conv.{k}"] = f"trunk.{index}.{part}"
            index += 1
    units |= {f"{extractor}.ppm.{i}.1": f"pyramid.bins.{i}" for i in range(4)} | {f"{extractor}.out": "pyramid.out"}
    parts = {"dwconv": "deep", "conv_lower_res": "project_deep", "conv_higher_res": "project_fine"}
    units |= {f"feature_fusion.{theirs}": f"fusion.{ours}" for theirs, ours in parts.items()}
    units = {f"backbone.{theirs}": ours for theirs, ours in units.items()}
    for theirs, ours in separable.items():
        units |= {f"{theirs}.depthwise_conv": f"{ours}.0", f"{theirs}.pointwise_conv": f"{ours}.1"}
    units |= {f"auxiliary_head.{i}.convs.0": f"auxiliary_{n}.convolutions.0" for i, n in enumerate(("deep", "fine"))}
    modules = {f"{k}.{part}": f"{v}.{part}" for k, v in units.items() for part in ("conv", "bn")}
    modules |= {f"auxiliary_head.{i}.conv_seg": f"auxiliary_{n}.classifier" for i, n in enumerate(("deep", "fine"))}
    return modules | {"decode_head.conv_seg": "head.classifier"}
