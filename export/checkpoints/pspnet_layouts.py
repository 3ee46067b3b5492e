"""The tensors of published PSPNet50 files -> our names."""

import torch

from export.models.pspnet import CONTEXT, POOLED
from export.models.pyramid import PYRAMID_BINS
from export.models.resnet import RESNET_50

Tensors = dict[str, torch.Tensor]
CAFFE_ORDER = (6, 3, 2, 1)  # of the pyramid's levels in what Caffe's conv5_4 reads, after the map itself
DEEPEST = "conv5_3"


def resnet_modules(prefix: str) -> dict[str, str]:
    """torchvision's modules of ResNet-50's stages -> ours; both projects below keep their names."""
    modules: dict[str, str] = {}
    for stage, count in enumerate(RESNET_50.blocks, 1):
        for block in (f"layer{stage}.{i}" for i in range(count)):
            modules |= {f"{prefix}{block}.conv{i}": f"{block}.conv{i}.conv" for i in (1, 2, 3)}
            modules |= {f"{prefix}{block}.bn{i}": f"{block}.conv{i}.bn" for i in (1, 2, 3)}
            modules |= {f"{prefix}{block}.downsample.0": f"{block}.project.conv"}
            modules |= {f"{prefix}{block}.downsample.1": f"{block}.project.bn"}
    return modules


def stem_modules(prefix: str) -> dict[str, str]:
    """Three convolutions, each followed by its normalisation and a ReLU, in one nn.Sequential -> ours."""
    parts = ("conv", "bn")
    return {f"{prefix}.{3 * i + j}": f"stem.{i}.{part}" for i in range(3) for j, part in enumerate(parts)}


def semseg_modules() -> dict[str, str]:
    """hszhao/semseg's modules -> ours.

    Source: semseg 4f274c3, model/pspnet.py, MIT.
    """
    modules = stem_modules("layer0") | resnet_modules("")
    for i in range(len(PYRAMID_BINS)):
        modules |= {f"ppm.features.{i}.1": f"pyramid.{i}.conv", f"ppm.features.{i}.2": f"pyramid.{i}.bn"}
    modules |= {"cls.0": "bottleneck.conv", "cls.1": "bottleneck.bn", "cls.4": "classifier"}
    return modules | {"aux.0": "auxiliary.0.conv", "aux.1": "auxiliary.0.bn", "aux.4": "auxiliary.2"}


def mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules -> ours.

    Source: mmseg/models/decode_heads/psp_head.py, configs/_base_/models/pspnet_r50-d8.py, Apache-2.0.
    """
    units = {f"decode_head.psp_modules.{i}.1": f"pyramid.{i}" for i in range(len(PYRAMID_BINS))}
    units |= {"decode_head.bottleneck": "bottleneck", "auxiliary_head.convs.0": "auxiliary.0"}
    modules = {f"{k}.{part}": f"{v}.{part}" for k, v in units.items() for part in ("conv", "bn")}
    modules |= {"decode_head.conv_seg": "classifier", "auxiliary_head.conv_seg": "auxiliary.2"}
    return modules | stem_modules("backbone.stem") | resnet_modules("backbone.")


def caffe_layers() -> dict[str, str]:
    """Caffe's convolutions -> our `ConvBN`.

    Source: hszhao/PSPNet 798bdc9, evaluation/prototxt/pspnet50_ADE20K_473.prototxt.
    """
    layers = {"conv1_1_3x3_s2": "stem.0", "conv1_2_3x3": "stem.1", "conv1_3_3x3": "stem.2", "conv5_4": "bottleneck"}
    parts = {"1x1_reduce": "conv1", "3x3": "conv2", "1x1_increase": "conv3", "1x1_proj": "project"}
    for stage, count in enumerate(RESNET_50.blocks, 1):
        for i in range(count):
            layers |= {f"conv{stage + 1}_{i + 1}_{k}": f"layer{stage}.{i}.{v}" for k, v in parts.items()}
    return layers | {f"{DEEPEST}_pool{bins}_conv": f"pyramid.{i}" for i, bins in enumerate(PYRAMID_BINS)}


def in_our_order(tensors: Tensors) -> Tensors:
    """Caffe's conv5_4 reads the pyramid from its finest level to its coarsest, ours the other way round."""
    weight = tensors.get("bottleneck.conv.weight")
    if weight is None or weight.dim() != 4 or weight.shape[1] != CONTEXT * 4 + POOLED * len(PYRAMID_BINS):
        return tensors
    deep, *levels = weight.split([weight.shape[1] - POOLED * len(PYRAMID_BINS), *(POOLED,) * len(CAFFE_ORDER)], dim=1)
    ours = [levels[CAFFE_ORDER.index(bins)] for bins in PYRAMID_BINS]
    return {**tensors, "bottleneck.conv.weight": torch.cat((deep, *ours), dim=1)}
