"""PSPNet50: Zhao, Shi, Qi, Wang, Jia 2017, arXiv:1612.01105, and the forms in which its weights are published."""

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN
from export.models.pyramid import PYRAMID_BINS, TappedPyramid, averages, spread
from export.models.resnet import RESNET_50, Stage, add_stages, chain

POOLED, CONTEXT, AUXILIARY = 512, 512, 256  # channels: of each pyramid level, of what reads it, of the auxiliary head


class Form(NamedTuple):
    """In what the published networks differ."""

    stem: tuple[int, int, int] = (64, 64, 128)
    first: tuple[int, int] = (2, 4)  # dilation of the first block in layer3 and layer4; of all others 2 and 4
    early: bool = False  # a block's stride on its 1x1 convolution
    align_corners: bool = True
    auxiliary: bool = True  # logits of the third stage, in training


SEMSEG, CAFFE = Form(), Form(early=True, auxiliary=False)
MMSEG = Form(stem=(32, 32, 64), first=(1, 2), align_corners=False)


class PSPNet(nn.Module):
    """PSPNet50 for `classes` classes; in training also the auxiliary logits, read at the third stage.

    Source: hszhao/semseg 4f274c3, model/{pspnet,resnet}.py.
    """

    def __init__(self, classes: int, form: Form = SEMSEG) -> None:
        super().__init__()
        self.align_corners = form.align_corners
        self.stem = chain(3, form.stem, (2, 1, 1))
        third, fourth = form.first
        stages = Stage(64, 1, 1, 1), Stage(128, 2, 1, 1), Stage(256, 1, third, 2), Stage(512, 1, fourth, 4)
        *_, middle, channels = add_stages(self, form.stem[-1], stages, RESNET_50, early=form.early)
        self.pyramid = nn.ModuleList(ConvBN(channels, POOLED, 1) for _ in PYRAMID_BINS)
        self.bottleneck = ConvBN(channels + len(PYRAMID_BINS) * POOLED, CONTEXT, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(CONTEXT, classes, 1)
        self.auxiliary = None
        if form.auxiliary:
            last = nn.Conv2d(AUXILIARY, classes, 1)
            self.auxiliary = nn.Sequential(ConvBN(middle, AUXILIARY, 3), nn.Dropout2d(0.1), last)

    def trunk(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, float (N, 3, H, W) -> layer3 and layer4, both at 1/8."""
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        middle = self.get_submodule("layer3")(self.get_submodule("layer2")(self.get_submodule("layer1")(x)))
        return middle, self.get_submodule("layer4")(middle)

    def context(self, deep: torch.Tensor) -> torch.Tensor:
        """layer4 with its pyramid, convolved; float (N, 2048, h, w) -> float (N, 512, h, w)."""
        cells = averages(deep, self.pyramid)
        maps = [spread(average, *deep.shape[2:], align_corners=self.align_corners) for average in cells]
        return cast(torch.Tensor, self.bottleneck(torch.cat((deep, *maps), dim=1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> logits float (N, classes, ceil(H/8), ceil(W/8)); in training the auxiliary too."""
        middle, deep = self.trunk(x)
        logits: torch.Tensor = self.classifier(self.dropout(self.context(deep)))
        return logits if self.auxiliary is None or not self.training else (logits, self.auxiliary(middle))


def pspnet50_caffe(classes: int) -> PSPNet:
    """As the first published one has it: hszhao/PSPNet, pspnet50_ADE20K_473.prototxt."""
    return PSPNet(classes, CAFFE)


def pspnet50_mmseg(classes: int) -> PSPNet:
    """As in mmsegmentation: configs/_base_/models/pspnet_r50-d8.py."""
    return PSPNet(classes, MMSEG)


class DeployedPSPNet(nn.Module):
    """The same function of raw pixels in an equal, cheaper form.

    The pyramid is convolved as the 50 cells that it is (`TappedPyramid`); the normalisation's gain moves into the
    first convolution.
    """

    def __init__(self, net: PSPNet, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        cast(ConvBN, self.net.stem[0]).conv.weight.data *= gain.reshape(1, 3, 1, 1)
        self.context = TappedPyramid(self.net.bottleneck, POOLED, align_corners=net.align_corners, map_first=True)
        del self.net.bottleneck

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits at ceil(H/8) x ceil(W/8), as the network gives for `x * gain`."""
        _, deep = self.net.trunk(x)
        return cast(torch.Tensor, self.net.classifier(self.context(deep, averages(deep, self.net.pyramid))))
