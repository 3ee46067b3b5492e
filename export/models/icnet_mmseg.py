"""ICNet of mmsegmentation on ResNet-18 and ResNet-50: mmseg/models/backbones/icnet.py, configs/icnet."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from export.models.icnet import Guided
from export.models.icnet_deployed import halved_into
from export.models.layers import ConvBN
from export.models.pyramid import PYRAMID_BINS, TappedPyramid, averages, spread
from export.models.resnet import RESNET_18, RESNET_50, Depth, Stage, add_stages, chain

# configs/_base_/models/icnet_r50-d8.py. The first block's dilation is half of the others' (contract_dilation).
STAGES = (Stage(64, 1, 1, 1), Stage(128, 2, 1, 1), Stage(256, 1, 1, 2), Stage(512, 1, 2, 4))
STEM = (32, 32, 64)
SHALLOW = (32, 32, 64)
PYRAMID_CHANNELS, SUB_CHANNELS, FUSION_CHANNELS = 512, 256, 128


class Fusion(nn.Module):
    """Cascade feature fusion; unlike the paper's, both maps are activated before their sum."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.conv = ConvBN(coarse, FUSION_CHANNELS, 3, dilation=2)
        self.project = ConvBN(fine, FUSION_CHANNELS, 1)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, coarse, h, w), float (N, fine, H, W) -> the sum, and the coarse map's part for its classifier."""
        size = fine.shape[2:]
        coarse = self.conv(F.interpolate(coarse, size=size, mode="bilinear", align_corners=False))
        return coarse + self.project(fine), coarse


class Head(nn.Module):
    """FCNHead of one convolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = ConvBN(FUSION_CHANNELS, FUSION_CHANNELS, 3)
        self.classifier = nn.Conv2d(FUSION_CHANNELS, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 128, h, w) -> logits float (N, classes, h, w)."""
        return self.classifier(self.conv(x))


class ICNetMmseg(nn.Module):
    """mmsegmentation's ICNet for `classes` classes.

    Its max-pool rounds up, so that maps of even height grow by one cell: at 1024x2048 the branches meet at 65x129,
    to which the coarse one of 32x64 is resized.

    Source: mmseg/models/backbones/icnet.py, necks/ic_neck.py, decode_heads/fcn_head.py.
    """

    def __init__(self, classes: int, depth: Depth) -> None:
        super().__init__()
        # With pixel centres at halves, bilinear resizing by 0.5 is the mean of each 2x2; an odd last row is left out.
        self.halve: nn.Module = nn.AvgPool2d(2)
        self.stem = chain(3, STEM, strides=(2, 1, 1))
        *_, channels = out = add_stages(self, STEM[-1], STAGES, depth)
        self.pyramid = nn.ModuleList(ConvBN(channels, PYRAMID_CHANNELS, 1) for _ in PYRAMID_BINS)
        pooled = len(PYRAMID_BINS) * PYRAMID_CHANNELS
        self.pyramid_bottleneck = ConvBN(channels + pooled, PYRAMID_CHANNELS, 3)
        self.conv_sub1 = chain(3, SHALLOW, strides=(2, 2, 2))
        self.conv_sub2 = ConvBN(out[1], SUB_CHANNELS, 1)
        self.conv_sub4 = ConvBN(PYRAMID_CHANNELS, SUB_CHANNELS, 1)
        self.fusion_24 = Fusion(SUB_CHANNELS, SUB_CHANNELS)
        self.fusion_12 = Fusion(FUSION_CHANNELS, SHALLOW[-1])
        self.head = Head(classes)
        self.auxiliary_sub4, self.auxiliary_sub24 = Head(classes), Head(classes)  # used in training alone

    def trunk(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, float (N, 3, H, W) -> layer2 at about 1/16, layer4 at 1/32."""
        half = F.max_pool2d(self.stem(self.halve(x)), 3, stride=2, padding=1, ceil_mode=True)
        fine = self.get_submodule("layer2")(self.get_submodule("layer1")(half))
        return fine, self.get_submodule("layer4")(self.get_submodule("layer3")(F.avg_pool2d(fine, 2)))

    def context(self, deep: torch.Tensor) -> torch.Tensor:
        """layer4 with its pyramid, convolved; float (N, C, h, w) -> float (N, 512, h, w)."""
        cells = averages(deep, self.pyramid)
        maps = [spread(average, *deep.shape[2:], align_corners=False) for average in cells]
        return self.pyramid_bottleneck(torch.cat((*maps, deep), dim=1))

    def cascade(self, x: torch.Tensor, fine: torch.Tensor, context: torch.Tensor) -> torch.Tensor | Guided:
        """The image and both of its coarser maps -> what `forward` returns."""
        sub24, guide_4 = self.fusion_24(self.conv_sub4(context), self.conv_sub2(fine))
        sub124, guide_24 = self.fusion_12(sub24, self.conv_sub1(x))
        logits = self.head(sub124)
        if not self.training:
            return cast(torch.Tensor, logits)
        return Guided(logits, self.auxiliary_sub24(guide_24), self.auxiliary_sub4(guide_4))

    def forward(self, x: torch.Tensor) -> torch.Tensor | Guided:
        """float (N, 3, H, W), H and W multiples of 32 -> logits float (N, classes, H/8, W/8); `Guided` in training."""
        fine, deep = self.trunk(x)
        return self.cascade(x, fine, self.context(deep))


def icnet_mmseg_r18(classes: int) -> ICNetMmseg:
    """On ResNet-18."""
    return ICNetMmseg(classes, RESNET_18)


def icnet_mmseg_r50(classes: int) -> ICNetMmseg:
    """On ResNet-50."""
    return ICNetMmseg(classes, RESNET_50)


class DeployedICNetMmseg(nn.Module):
    """The same function of raw pixels in an equal, cheaper form.

    - The pyramid is convolved as the 50 cells that it is (`TappedPyramid`).
    - The image is halved inside the stem's first convolution (`halved_into`); the normalisation's gain moves into the
      two convolutions that read it.
    """

    def __init__(self, net: ICNetMmseg, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        stem, shallow = (cast(ConvBN, convs[0]) for convs in (self.net.stem, self.net.conv_sub1))
        for first in (stem.conv, shallow.conv):
            first.weight.data *= gain.reshape(1, 3, 1, 1)
        self.net.halve, stem.conv = nn.Identity(), halved_into(stem.conv)
        self.context = TappedPyramid(
            self.net.pyramid_bottleneck, PYRAMID_CHANNELS, align_corners=False, map_first=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, H/8, W/8), as the network gives for `x * gain`."""
        fine, deep = self.net.trunk(x)
        return cast(torch.Tensor, self.net.cascade(x, fine, self.context(deep, averages(deep, self.net.pyramid))))
