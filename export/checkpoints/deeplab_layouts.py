"""The tensors of published DeepLabV3+ files -> our names."""

import re

import torch

from export.checkpoints.pspnet_layouts import resnet_modules, stem_modules
from export.models.mobilenetv2 import LOW_BLOCKS, TABLE

Tensors = dict[str, torch.Tensor]
STATISTICS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
LEAVES = ("weights", "depthwise_weights", "biases", *(f"BatchNorm/{leaf}" for leaf in STATISTICS))
PARTS = {"depthwise": "0", "pointwise": "1"}
FLOW, UNIT = r"xception_\d+", "unit_1/xception_module"
# TensorFlow's scopes -> our modules: the first that matches.
SCOPES = (
    (rf"{FLOW}/entry_flow/conv1_(\d)", lambda m: f"backbone.stem.{int(m[1]) - 1}"),
    (rf"{FLOW}/entry_flow/block(\d)/{UNIT}/(.*)", lambda m: f"backbone.entry.{int(m[1]) - 1}.{m[2]}"),
    (
        rf"{FLOW}/middle_flow/block1/unit_(\d+)/xception_module/(.*)",
        lambda m: f"backbone.middle.{int(m[1]) - 1}.{m[2]}",
    ),
    (rf"{FLOW}/exit_flow/block(\d)/{UNIT}/(.*)", r"backbone.exit\1.\2"),
    (r"image_pooling", "pyramid.pooled.conv"),
    (r"aspp0", "pyramid.point"),
    (r"aspp(\d)_(depthwise|pointwise)", lambda m: f"pyramid.dilated.{int(m[1]) - 1}.{PARTS[m[2]]}"),
    (r"concat_projection", "pyramid.project"),
    (r"decoder/feature_projection0", "low"),
    (r"decoder/decoder_conv(\d)_(depthwise|pointwise)", lambda m: f"decoder.{m[1]}.{PARTS[m[2]]}"),
)


def from_tensorflow(tensors: Tensors) -> Tensors:
    """The variables of tensorflow/models' DeepLabV3+ by our names; what belongs to its training is left out.

    Source: tensorflow/models, research/deeplab/{model.py, core/xception.py}, Apache-2.0.
    """
    ours = {}
    for name, tensor in tensors.items():
        leaf = next((leaf for leaf in LEAVES if name.endswith(f"/{leaf}")), None)
        if leaf is None:
            if not re.search(r"(^global_step|/Momentum|/ExponentialMovingAverage)$", name):
                ours[name] = tensor
            continue
        scope = name.removesuffix(f"/{leaf}")
        if scope == "logits/semantic":
            ours["classifier.bias" if leaf == "biases" else "classifier.weight"] = _laid_out(tensor, leaf)
            continue
        module = _module(scope)
        if module is None:
            ours[name] = tensor
        elif leaf.startswith("BatchNorm/"):
            ours[f"{module}.bn.{STATISTICS[leaf.removeprefix('BatchNorm/')]}"] = tensor
        else:
            ours[f"{module}.conv.weight"] = _laid_out(tensor, leaf)
    return ours


def _module(scope: str) -> str | None:
    for pattern, module in SCOPES:
        if re.fullmatch(pattern, scope):
            found = re.sub(pattern, module, scope)
            return re.sub(r"separable_conv(\d)_(depthwise|pointwise)", lambda m: f"convs.{int(m[1]) - 1}.{m[2]}", found)
    return None


def _laid_out(tensor: torch.Tensor, leaf: str) -> torch.Tensor:
    # (height, width, in, out), and of depthwise ones (height, width, channels, 1).
    if tensor.dim() != 4:
        return tensor
    return tensor.permute(*((2, 3, 0, 1) if leaf == "depthwise_weights" else (3, 2, 0, 1))).contiguous()


def vainf_modules() -> dict[str, str]:
    """VainF/DeepLabV3Plus-Pytorch's modules on MobileNetV2 -> ours.

    Source: network/_deeplab.py, network/backbone/mobilenetv2.py, MIT.
    """
    low, high = "backbone.low_level_features", "backbone.high_level_features"
    units, index = {(f"{low}.0.0", f"{low}.0.1"): "backbone.first"}, 0
    for expansion, _, count, _ in TABLE:
        for _ in range(count):
            block = f"{low if index < LOW_BLOCKS else high}.{index + 1}.conv"
            parts = ["expand", "depthwise"] if expansion > 1 else ["depthwise"]
            units |= {(f"{block}.{i}.0", f"{block}.{i}.1"): f"backbone.blocks.{index}.{p}" for i, p in enumerate(parts)}
            i = len(parts)
            units[f"{block}.{i}", f"{block}.{i + 1}"] = f"backbone.blocks.{index}.project"
            index += 1
    head = {"project": "low", "aspp.convs.0": "pyramid.point", "aspp.project": "pyramid.project"}
    head |= {f"aspp.convs.{i + 1}": f"pyramid.dilated.{i}" for i in range(3)} | {"classifier": "decoder.0"}
    units |= {(f"classifier.{theirs}.0", f"classifier.{theirs}.1"): ours for theirs, ours in head.items()}
    units["classifier.aspp.convs.4.1", "classifier.aspp.convs.4.2"] = "pyramid.pooled.conv"
    modules = {theirs: f"{ours}.conv" for (theirs, _), ours in units.items()}
    modules |= {theirs: f"{ours}.bn" for (_, theirs), ours in units.items()}
    return modules | {"classifier.classifier.3": "classifier"}


def mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules on ResNet-50 -> ours.

    Source: mmseg/models/decode_heads/sep_aspp_head.py, configs/_base_/models/deeplabv3plus_r50-d8.py, Apache-2.0.
    """
    units = {"image_pool.1": "pyramid.pooled.conv", "aspp_modules.0": "pyramid.point", "bottleneck": "pyramid.project"}
    separable = {f"aspp_modules.{i + 1}": f"pyramid.dilated.{i}" for i in range(3)}
    separable |= {f"sep_bottleneck.{i}": f"decoder.{i}" for i in (0, 1)}
    for theirs, ours in separable.items():
        units |= {f"{theirs}.depthwise_conv": f"{ours}.0", f"{theirs}.pointwise_conv": f"{ours}.1"}
    units["c1_bottleneck"] = "low"
    units = {f"decode_head.{theirs}": ours for theirs, ours in units.items()}
    units["auxiliary_head.convs.0"] = "auxiliary.0"
    modules = {f"{k}.{part}": f"{v}.{part}" for k, v in units.items() for part in ("conv", "bn")}
    trunk = stem_modules("backbone.stem") | resnet_modules("backbone.")
    modules |= {theirs: f"backbone.{ours}" for theirs, ours in trunk.items()}
    return modules | {"decode_head.conv_seg": "classifier", "auxiliary_head.conv_seg": "auxiliary.2"}
