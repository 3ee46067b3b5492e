"""DeepLabV3+: Chen, Zhu, Papandreou, Schroff, Adam 2018, arXiv:1802.02611, and two forms that others publish."""

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.models.layers import ConvBN, Separable
from export.models.mobilenetv2 import MobileNetV2
from export.models.resnet import RESNET_50, Stage, add_stages, chain
from export.models.xception import XCEPTION_41, XCEPTION_65, XCEPTION_71, Depth, Xception

LOW = 48  # channels to which the decoder takes the map at 1/4
AUXILIARY = 256


class Form(NamedTuple):
    """In what the published heads differ."""

    rates: tuple[int, int, int]
    width: int = 256  # of every convolution but the decoder's first
    separable: bool = True  # the 3x3 convolutions
    project: int = 1  # kernel of the convolution that joins the pyramid's parts
    pooled_first: bool = True  # the whole map's average among those parts
    low_first: bool = False  # of the decoder's two maps
    align_corners: bool = False


class Pooled(nn.Module):
    """The average of a whole map, convolved."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = ConvBN(cin, cout, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, 1, 1)."""
        return cast(torch.Tensor, self.conv(x.mean((2, 3), keepdim=True)))


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1, three dilated 3x3, and the whole map's average, joined and convolved."""

    def __init__(self, cin: int, form: Form) -> None:
        super().__init__()
        self.point = ConvBN(cin, form.width, 1)
        self.dilated = nn.ModuleList(
            Separable(cin, form.width, dilation=rate) if form.separable else ConvBN(cin, form.width, 3, dilation=rate)
            for rate in form.rates
        )
        self.pooled = Pooled(cin, form.width)
        self.project = ConvBN((2 + len(form.rates)) * form.width, form.width, form.project)
        self.pooled_first = form.pooled_first

    def parts(self, x: torch.Tensor) -> list[torch.Tensor]:
        """All of them but the average, each float (N, width, h, w)."""
        return [self.point(x), *(conv(x) for conv in self.dilated)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, width, h, w)."""
        parts, pooled = self.parts(x), self.pooled(x).expand(-1, -1, *x.shape[2:])
        joined = torch.cat((pooled, *parts) if self.pooled_first else (*parts, pooled), dim=1)
        return cast(torch.Tensor, self.project(joined))


class ResNet(nn.Module):
    """mmsegmentation's ResNet-50 at 1/8: dilated from the third stage on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = chain(3, (32, 32, 64), (2, 1, 1))
        stages = Stage(64, 1, 1, 1), Stage(128, 2, 1, 1), Stage(256, 1, 1, 2), Stage(512, 1, 2, 4)
        self.low_channels, _, self.middle_channels, self.channels = add_stages(self, 64, stages, RESNET_50)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """float (N, 3, H, W) -> the decoder's map at 1/4, the last one, and the third stage's."""
        low = self.get_submodule("layer1")(F.max_pool2d(self.stem(x), 3, stride=2, padding=1))
        middle = self.get_submodule("layer3")(self.get_submodule("layer2")(low))
        return low, self.get_submodule("layer4")(middle), middle


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ for `classes` classes on a backbone that gives its map at 1/4 and its last one."""

    def __init__(self, classes: int, backbone: Xception | MobileNetV2 | ResNet, form: Form) -> None:
        super().__init__()
        self.backbone, self.pyramid = backbone, Pyramid(backbone.channels, form)
        self.low = ConvBN(backbone.low_channels, LOW, 1)
        joined, width = LOW + form.width, form.width
        convs = [Separable(joined, width), Separable(width, width)] if form.separable else [ConvBN(joined, width, 3)]
        self.decoder = nn.Sequential(*convs)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.auxiliary = None
        if isinstance(backbone, ResNet):
            last = nn.Conv2d(AUXILIARY, classes, 1)
            self.auxiliary = nn.Sequential(ConvBN(backbone.middle_channels, AUXILIARY, 3), nn.Dropout(0.1), last)
        self.low_first, self.align_corners = form.low_first, form.align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> logits at ceil(H/4) x ceil(W/4); on ResNet in training the auxiliary ones too."""
        low, deep, *middle = self.backbone(x)
        low, context = self.low(low), self.pyramid(deep)
        wide = F.interpolate(context, low.shape[2:], mode="bilinear", align_corners=self.align_corners)
        joined = torch.cat((low, wide) if self.low_first else (wide, low), dim=1)
        logits: torch.Tensor = self.classifier(self.dropout(self.decoder(joined)))
        return (logits, self.auxiliary(*middle)) if self.auxiliary is not None and self.training else logits


class CheaperPyramid(nn.Module):
    """`Pyramid` with a 1x1 projection, whose share of the average is one value a channel: a bias, never a map."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid, width = pyramid, pyramid.point.conv.out_channels
        whole = fuse_conv_bn_eval(pyramid.project.conv, pyramid.project.bn)
        weight, maps = whole.weight.detach(), whole.in_channels - width
        pooled, rest = (weight[:, :width], weight[:, width:]) if pyramid.pooled_first else (
            weight[:, maps:], weight[:, :maps]
        )  # fmt: skip
        self.of_pooled, self.of_maps = nn.Conv2d(width, width, 1), nn.Conv2d(maps, width, 1, bias=False)
        self.of_pooled.weight, self.of_pooled.bias = nn.Parameter(pooled.contiguous()), whole.bias
        self.of_maps.weight = nn.Parameter(rest.contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, width, h, w)."""
        maps = self.of_maps(torch.cat(self.pyramid.parts(x), dim=1))
        return F.relu(maps + self.of_pooled(self.pyramid.pooled(x)))


def deployed_deeplab(net: DeepLabV3Plus, gain: torch.Tensor) -> nn.Module:
    """The same function of raw pixels, float (N, 3, H, W), in an equal, cheaper form (`CheaperPyramid`)."""
    net = copy.deepcopy(net).eval()
    backbone = net.backbone
    first = backbone.first if isinstance(backbone, MobileNetV2) else cast(ConvBN, backbone.stem[0])
    first.conv.weight.data *= gain.reshape(1, 3, 1, 1)
    if net.pyramid.project.conv.kernel_size == (1, 1):
        net.pyramid = cast(Pyramid, CheaperPyramid(net.pyramid))
    return net


XCEPTION_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def on_xception(classes: int, depth: Depth, output_stride: int = 16) -> DeepLabV3Plus:
    """The authors' (tensorflow/models, research/deeplab)."""
    form = Form(XCEPTION_RATES[output_stride], align_corners=True)
    return DeepLabV3Plus(classes, Xception(depth, output_stride), form)


def deeplab_xception65(classes: int) -> DeepLabV3Plus:
    """On Xception-65 at output stride 16."""
    return on_xception(classes, XCEPTION_65)


def deeplab_xception65_os8(classes: int) -> DeepLabV3Plus:
    """On Xception-65 at output stride 8: the same weights, three times the cost."""
    return on_xception(classes, XCEPTION_65, 8)


def deeplab_xception41(classes: int) -> DeepLabV3Plus:
    """On Xception-41 at output stride 16."""
    return on_xception(classes, XCEPTION_41)


def deeplab_xception41_os8(classes: int) -> DeepLabV3Plus:
    """On Xception-41 at output stride 8."""
    return on_xception(classes, XCEPTION_41, 8)


def deeplab_xception71(classes: int) -> DeepLabV3Plus:
    """On Xception-71 at output stride 16."""
    return on_xception(classes, XCEPTION_71)


def deeplab_xception71_os8(classes: int) -> DeepLabV3Plus:
    """On Xception-71 at output stride 8."""
    return on_xception(classes, XCEPTION_71, 8)


def deeplab_mobilenetv2(classes: int) -> DeepLabV3Plus:
    """On MobileNetV2 at output stride 16, as VainF/DeepLabV3Plus-Pytorch (MIT) has it."""
    return DeepLabV3Plus(
        classes, MobileNetV2(16), Form((6, 12, 18), separable=False, pooled_first=False, low_first=True)
    )


def deeplab_mmseg_r50(classes: int) -> DeepLabV3Plus:
    """On ResNet-50 at output stride 8, as mmsegmentation has it: configs/_base_/models/deeplabv3plus_r50-d8.py."""
    return DeepLabV3Plus(classes, ResNet(), Form((12, 24, 36), width=512, project=3))
