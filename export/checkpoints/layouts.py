"""Published checkpoints: which network a file's keys belong to, and its tensors by that network's own names."""

import re
from collections.abc import Callable
from typing import NamedTuple

import torch

from export.checkpoints import deeplab_layouts, pidnet_layouts, pspnet_layouts
from export.checkpoints.dual_layouts import (
    ddrnet_mmseg_modules,
    ddrnet_modules,
    fast_scnn_mmseg_modules,
    with_biases,
)
from export.models.enet import DECODER, ENCODER
from export.models.icnet import TRUNK
from runtime.commands import option
from runtime.errors import WeightsError

Tensors = dict[str, torch.Tensor]
BATCH_NORM_EPS = 1e-5


class Layout(NamedTuple):
    """How a project outside names its tensors: `remap` gives ours; what it does not know keeps its name."""

    network: str  # the registered network that it is
    key: re.Pattern[str]  # a key that no other layout has
    remap: Callable[[Tensors], Tensors]
    whole: Callable[[Tensors], Tensors] | None = None  # the same with all classes, where `remap` leaves one out
    is_of_cityscapes: bool = False  # or of CamVid: its project trains on nothing else, so that a count tells which


def recognised(tensors: Tensors) -> Layout | None:
    """The published layout of a dictionary's keys as they stand; None where they are our own names or nobody's."""
    return next((layout for layout in LAYOUTS if any(layout.key.match(name) for name in tensors)), None)


def _renamed(tensors: Tensors, modules: dict[str, str]) -> Tensors:
    found = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        found[f"{modules[module]}.{leaf}" if module in modules else name] = tensor
    return found


DAVIDTVS_BOTTLENECK = {
    "ext_conv1.0": "project", "ext_conv1.1": "project_bn", "ext_conv1.2": "project_activation",
    "ext_conv2.0": "conv", "ext_conv2.1": "conv_bn", "ext_conv2.2": "conv_activation",
    "ext_conv2.3": "conv_across", "ext_conv2.4": "conv_across_bn", "ext_conv2.5": "conv_across_activation",
    "ext_conv3.0": "expand", "ext_conv3.1": "expand_bn", "ext_conv3.2": "expand_activation",
    "out_activation": "activation",
}  # fmt: skip
DAVIDTVS_UPSAMPLE = {
    "main_conv1.0": "shortcut", "main_conv1.1": "shortcut_bn", "ext_conv1.0": "project", "ext_conv1.1": "project_bn",
    "ext_tconv1": "conv", "ext_tconv1_bnorm": "conv_bn", "ext_conv2.0": "expand", "ext_conv2.1": "expand_bn",
}  # fmt: skip
# Where its class "unlabeled" is, which is not one of ours. The others have the order of their data set's train ids:
# data/cityscapes.py and data/camvid.py of PyTorch-ENet.
DAVIDTVS_UNLABELED = {20: 0, 12: 11}


def davidtvs_modules() -> dict[str, str]:
    """Its modules -> ours. It counts stage 3 from 0, the paper from 1.

    Source: davidtvs/PyTorch-ENet e17d404, models/enet.py.
    """
    modules = {
        "initial_block.main_branch": "initial.conv",
        "initial_block.batch_norm": "initial.bn",
        "initial_block.out_activation": "initial.activation",
        "transposed_conv": "fullconv",
    }
    for name, kind, _, _ in ENCODER + DECODER:
        stage, index = name.split("_")
        theirs = f"{kind}{stage}_{int(index) - (stage == '3')}"
        inner = DAVIDTVS_UPSAMPLE if kind == "upsample" else DAVIDTVS_BOTTLENECK
        modules.update({f"{theirs}.{part}": f"bottleneck{name}.{ours}" for part, ours in inner.items()})
    return modules


def last_outputs(tensors: Tensors) -> int:
    """How many classes PyTorch-ENet's tensors have, with the one that may be "unlabeled"; 0 where they are not its."""
    last = tensors.get("transposed_conv.weight")
    return last.shape[1] if last is not None and last.dim() == 4 else 0


def whole_davidtvs(tensors: Tensors) -> Tensors:
    """PyTorch-ENet's tensors by our names, with every class: of a user's own there is no other."""
    return _renamed(tensors, davidtvs_modules())


def from_davidtvs(tensors: Tensors) -> Tensors:
    """PyTorch-ENet's tensors by our names, without the class "unlabeled".

    Raises:
        WeightsError: not of Cityscapes (20 classes) or CamVid (12), so that nobody knows which class to drop.
    """
    ours = _renamed(tensors, davidtvs_modules())
    last = ours.get("fullconv.weight")
    if last is None or last.dim() != 4:
        return ours
    if last.shape[1] not in DAVIDTVS_UNLABELED:
        raise WeightsError(
            f"the weights are PyTorch-ENet's with {last.shape[1]} classes; expected 20 (Cityscapes) or 12 (CamVid), or "
            f"the names of all: {option('classes')}"
        )
    unlabeled = DAVIDTVS_UNLABELED[last.shape[1]]
    return {**ours, "fullconv.weight": torch.cat((last[:, :unlabeled], last[:, unlabeled + 1 :]), dim=1)}


SCALE = "data_sub1.weights"
TRUNK_OF_CAFFE = re.compile(r"conv[2-5]_\d+_(1x1_(reduce|increase|proj)|3x3)(_bn)?\.")
CAFFE_STATISTICS = {"mean": "running_mean", "variance": "running_var", "scale": "weight", "offset": "bias"}


def caffe_layers() -> dict[str, str]:
    """Caffe's convolutions -> our `ConvBN`.

    Source: hszhao/ICNet, icnet_cityscapes.prototxt; hellochick/ICNet-tensorflow, model.py.
    """
    layers = {
        "conv1_1_3x3_s2": "conv1_1", "conv1_2_3x3": "conv1_2", "conv1_3_3x3": "conv1_3", "conv5_4_k1": "conv5_4",
        "conv_sub4": "fusion_24.conv", "conv3_1_sub2_proj": "fusion_24.project",
        "conv_sub2": "fusion_12.conv", "conv3_sub1_proj": "fusion_12.project",
        "conv1_sub1": "conv1_sub1", "conv2_sub1": "conv2_sub1", "conv3_sub1": "conv3_sub1",
    }  # fmt: skip
    for stage, count, *_ in TRUNK:
        for i in range(1, count + 1):
            parts = {"1x1_reduce": "reduce", "3x3": "conv", "1x1_increase": "increase"}
            parts |= {"1x1_proj": "project"} if i == 1 else {}
            layers.update({f"{stage}_{i}_{theirs}": f"{stage}_{i}.{ours}" for theirs, ours in parts.items()})
    return layers


def released(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """The tensors of the released ICNet's or PSPNet's own layers, and the names of the other layers.

    A .caffemodel holds what its training had, such as the auxiliary classifiers conv6_sub4 and conv6_sub2. Caffe
    itself takes the layers that its network has and passes over the others (Net::CopyTrainedLayersFrom). The layer
    data_sub1, which scales the input, may be left out where it scales by 1.
    """
    is_pspnet = any(name.startswith(f"{pspnet_layouts.DEEPEST}_pool") for name in tensors)
    last, layers = ("conv6", pspnet_layouts.caffe_layers()) if is_pspnet else ("conv6_cls", caffe_layers())
    own = {last, *(name for layer in layers for name in (layer, f"{layer}_bn"))}
    own |= {
        name.rpartition(".")[0] for name in tensors if TRUNK_OF_CAFFE.match(name)
    }  # of a deeper one: it must not fit
    if SCALE in tensors and bool((tensors[SCALE] != 1).any()):
        own.add("data_sub1")
    kept = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] in own}
    return kept, sorted({name.rpartition(".")[0] for name in tensors} - own)


def from_caffe(
    tensors: Tensors, layers: dict[str, str] | None = None, last: tuple[str, str] = ("conv6_cls", "conv6_cls")
) -> Tensors:
    """The tensors of .npy and .caffemodel files, `layer.parameter`, by our names, normalisation merged or not.

    A merged layer is a convolution with a bias: its normalisation here is the identity plus that bias.

    Args:
        tensors: as read.
        layers: the file's convolutions and our `ConvBN`; by default ICNet's.
        last: what the file calls the classifier, and we.
    """
    (classifier, our_classifier), ours = last, Tensors()
    layers = layers or caffe_layers()
    statistics = _in_their_place({k: v.flatten() for k, v in tensors.items() if k.partition(".")[0].endswith("_bn")})
    for name, tensor in {**tensors, **statistics}.items():
        layer, _, leaf = name.rpartition(".")
        conv, merged = layers.get(layer.removesuffix("_bn")), f"{layer}_bn.scale" not in tensors
        if leaf == "weights" and tensor.dim() == 4 and (conv or layer == classifier):
            ours[f"{conv}.conv.weight" if conv else f"{our_classifier}.weight"] = tensor.permute(
                3, 2, 0, 1
            ).contiguous()
        elif name == f"{classifier}.biases":
            ours[f"{our_classifier}.bias"] = tensor
        elif conv and leaf == "biases" and merged:
            ours.update({f"{conv}.bn.{key}": value for key, value in _identity(tensor).items()})
        elif conv and layer.endswith("_bn") and leaf in CAFFE_STATISTICS:
            ours[f"{conv}.bn.{CAFFE_STATISTICS[leaf]}"] = tensor
        else:
            ours[name] = tensor
    return ours


def _identity(bias: torch.Tensor) -> Tensors:
    ones = torch.ones_like(bias)
    return {"weight": ones, "bias": bias, "running_mean": 0 * ones, "running_var": ones - BATCH_NORM_EPS}


def _in_their_place(statistics: Tensors) -> Tensors:
    """The first files of hellochick's hold slope, offset, mean and variance under each other's names.

    A variance below zero shows it: that is the offset. Source: its translate_npy.ipynb, which puts them right.
    """
    if not any(bool((v < 0).any()) for k, v in statistics.items() if k.endswith(".variance")):
        return statistics
    right = {"mean": "scale", "variance": "offset", "scale": "mean", "offset": "variance"}
    renamed = {}
    for name, tensor in statistics.items():
        layer, _, leaf = name.rpartition(".")
        renamed[f"{layer}.{right.get(leaf, leaf)}"] = tensor
    return renamed


def mmseg_modules() -> dict[str, str]:
    """mmsegmentation's modules -> ours, of the deepest network; a shallower one has fewer of them.

    Source: mmseg/models/backbones/{icnet,resnet}.py, necks/ic_neck.py, decode_heads/fcn_head.py.
    """
    convolutions = {
        "backbone.psp_bottleneck": "pyramid_bottleneck", "backbone.conv_sub2": "conv_sub2",
        "backbone.conv_sub4": "conv_sub4", "decode_head.convs.0": "head.conv",
        "auxiliary_head.0.convs.0": "auxiliary_sub4.conv", "auxiliary_head.1.convs.0": "auxiliary_sub24.conv",
        **{f"backbone.psp_modules.{i}.1": f"pyramid.{i}" for i in range(4)},
        **{f"backbone.conv_sub1.{i}": f"conv_sub1.{i}" for i in range(3)},
        **{
            f"neck.cff_{fusion}.conv_{theirs}": f"fusion_{fusion}.{ours}"
            for fusion in ("24", "12") for theirs, ours in (("low", "conv"), ("high", "project"))
        },
    }  # fmt: skip
    modules = {f"{k}.{part}": f"{v}.{part}" for k, v in convolutions.items() for part in ("conv", "bn")}
    modules["decode_head.conv_seg"] = "head.classifier"
    modules["auxiliary_head.0.conv_seg"] = "auxiliary_sub4.classifier"
    modules["auxiliary_head.1.conv_seg"] = "auxiliary_sub24.classifier"
    trunk = "backbone.backbone."
    return modules | pspnet_layouts.stem_modules(f"{trunk}stem") | pspnet_layouts.resnet_modules(trunk)


def from_mmseg(tensors: Tensors) -> Tensors:
    """mmsegmentation's tensors by our names."""
    return _renamed(tensors, mmseg_modules())


def from_pspnet_caffe(tensors: Tensors) -> Tensors:
    """The tensors of PSPNet's .caffemodel by our names."""
    ours = from_caffe(tensors, pspnet_layouts.caffe_layers(), ("conv6", "classifier"))
    return pspnet_layouts.in_our_order(ours)


LAYOUTS = (
    Layout(
        "enet-davidtvs",
        re.compile(r"(initial_block|(down|up)sample\d_\d|asymmetric\d_\d)\."),
        from_davidtvs,
        whole_davidtvs,
        is_of_cityscapes=True,
    ),
    Layout("pspnet50-caffe", re.compile(r"conv5_3_pool\d_conv"), from_pspnet_caffe),
    Layout("icnet-caffe", re.compile(r"conv\d_\d_(1x1_|3x3)"), from_caffe, is_of_cityscapes=True),
    # Only ResNet-50 has a third convolution in a block; deeper ones than that have blocks that nothing here knows.
    Layout("icnet-mmseg-r50", re.compile(r"backbone\.backbone\.layer\d\.\d+\.conv3\."), from_mmseg),
    Layout("icnet-mmseg-r18", re.compile(r"backbone\.backbone\."), from_mmseg),
    *(
        Layout(f"deeplabv3plus-xception{depth}", re.compile(rf"xception_{depth}/"), deeplab_layouts.from_tensorflow)
        for depth in (41, 65, 71)
    ),
    Layout(
        "deeplabv3plus-mobilenetv2",
        re.compile(r"backbone\.(low|high)_level_features\.\d+\.conv\."),
        lambda t: _renamed(t, deeplab_layouts.vainf_modules()),
    ),
    Layout(
        "deeplabv3plus-mmseg-r50",
        re.compile(r"decode_head\.sep_bottleneck\."),
        lambda t: _renamed(t, deeplab_layouts.mmseg_modules()),
    ),
    Layout("pspnet50", re.compile(r"ppm\.features\."), lambda t: _renamed(t, pspnet_layouts.semseg_modules())),
    Layout(
        "pspnet50-mmseg",
        re.compile(r"decode_head\.psp_modules\."),
        lambda t: _renamed(t, pspnet_layouts.mmseg_modules()),
    ),
    Layout(
        "pidnet-s",
        re.compile(r"pag3\.f_[xy]\."),
        lambda t: _renamed(pidnet_layouts.without_boundary(t), pidnet_layouts.authors_modules()),
    ),
    Layout(
        "pidnet-s",
        re.compile(r"backbone\.pag_1\.f_[ip]\."),
        lambda t: with_biases(_renamed(pidnet_layouts.without_boundary(t), pidnet_layouts.mmseg_modules())),
    ),
    Layout("ddrnet23-slim", re.compile(r"(spp\.scale\d|final_layer\.bn1)\."), lambda t: _renamed(t, ddrnet_modules())),
    Layout(
        "ddrnet23-slim",
        re.compile(r"backbone\.(context|spatial)_branch_layers\."),
        lambda t: with_biases(_renamed(t, ddrnet_mmseg_modules())),
    ),
    Layout(
        "fast-scnn-mmseg",
        re.compile(r"backbone\.learning_to_downsample\."),
        lambda t: _renamed(t, fast_scnn_mmseg_modules()),
    ),
)
