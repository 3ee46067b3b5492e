"""ICNet of mmsegmentation on ResNet-18 and ResNet-50: mmseg/models/backbones/icnet.py, configs/icnet."""

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.models.icnet import PYRAMID_BINS, Guided, pyramid_matrices
from export.models.icnet_deployed import halved_into
from export.models.layers import ConvBN

# configs/_base_/models/icnet_r50-d8.py: stage, inner channels, stride of the first block, dilation of all but the
# first, whose dilation is half of it (contract_dilation).
STAGES = (
    ("layer1", 64, 1, 1),
    ("layer2", 128, 2, 1),
    ("layer3", 256, 1, 2),
    ("layer4", 512, 1, 4),
)
STEM = (32, 32, 64)
SHALLOW = (32, 32, 64)
PYRAMID_CHANNELS, SUB_CHANNELS, FUSION_CHANNELS = 512, 256, 128


class Depth(NamedTuple):
    """A ResNet: blocks of each stage, and how many times its inner channels a block gives."""

    blocks: tuple[int, int, int, int]
    expansion: int  # 1: two 3x3 convolutions a block; 4: a 3x3 between two 1x1


RESNET_18, RESNET_50 = Depth((2, 2, 2, 2), 1), Depth((3, 4, 6, 3), 4)


class Block(nn.Module):
    """Residual block; the stride is on the first 3x3 convolution ("pytorch" style)."""

    def __init__(self, cin: int, inner: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        cout = inner * expansion
        if expansion == 1:
            self.conv1 = ConvBN(cin, inner, 3, stride=stride, dilation=dilation)
            self.conv2 = ConvBN(inner, cout, 3, relu=False)
            self.conv3 = None
        else:
            self.conv1 = ConvBN(cin, inner, 1)
            self.conv2 = ConvBN(inner, inner, 3, stride=stride, dilation=dilation)
            self.conv3 = ConvBN(inner, cout, 1, relu=False)
        self.project = ConvBN(cin, cout, 1, stride=stride, relu=False) if stride > 1 or cin != cout else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, inner * expansion, ceil(h / stride), ceil(w / stride))."""
        shortcut = x if self.project is None else self.project(x)
        x = self.conv2(self.conv1(x))
        return F.relu(shortcut + (x if self.conv3 is None else self.conv3(x)))


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
        self.stem = _chain(3, STEM, strides=(2, 1, 1))
        channels, out = STEM[-1], []
        for (stage, inner, stride, dilation), count in zip(STAGES, depth.blocks, strict=True):
            blocks = []
            for i in range(count):
                first = (stride, max(dilation // 2, 1)) if i == 0 else (1, dilation)
                blocks.append(Block(channels, inner, depth.expansion, *first))
                channels = inner * depth.expansion
            self.add_module(stage, nn.Sequential(*blocks))
            out.append(channels)
        self.pyramid = nn.ModuleList(ConvBN(channels, PYRAMID_CHANNELS, 1) for _ in PYRAMID_BINS)
        pooled = len(PYRAMID_BINS) * PYRAMID_CHANNELS
        self.pyramid_bottleneck = ConvBN(channels + pooled, PYRAMID_CHANNELS, 3)
        self.conv_sub1 = _chain(3, SHALLOW, strides=(2, 2, 2))
        self.conv_sub2 = ConvBN(out[1], SUB_CHANNELS, 1)
        self.conv_sub4 = ConvBN(PYRAMID_CHANNELS, SUB_CHANNELS, 1)
        self.fusion_24 = Fusion(SUB_CHANNELS, SUB_CHANNELS)
        self.fusion_12 = Fusion(FUSION_CHANNELS, SHALLOW[-1])
        self.head = Head(classes)
        self.auxiliary_sub4, self.auxiliary_sub24 = Head(classes), Head(classes)  # used in training alone

    def averages(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The pyramid of float (N, C, h, w), before it is resized.

        Returns:
            For 1, 2, 3 and 6 bins a side: float (N, 512, bins ** 2, 1), the bins' averages convolved; and float
            (bins ** 2, h * w), each average's bilinear share in a cell.
        """
        pool, spread = (matrix.to(x) for matrix in pyramid_matrices(*x.shape[2:], align_corners=False))
        flat, found, spreads, start = x.flatten(2), [], [], 0
        for bins, conv in zip(PYRAMID_BINS, self.pyramid, strict=True):
            cells = slice(start, start + bins**2)  # the exporter computes slices of constants, and leaves splits
            found.append(conv((flat @ pool[:, cells]).unsqueeze(3)))
            spreads.append(spread[cells])
            start += bins**2
        return found, spreads

    def trunk(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image, float (N, 3, H, W) -> layer2 at about 1/16, layer4 at 1/32."""
        half = F.max_pool2d(self.stem(self.halve(x)), 3, stride=2, padding=1, ceil_mode=True)
        fine = self.get_submodule("layer2")(self.get_submodule("layer1")(half))
        return fine, self.get_submodule("layer4")(self.get_submodule("layer3")(F.avg_pool2d(fine, 2)))

    def context(self, deep: torch.Tensor) -> torch.Tensor:
        """layer4 with its pyramid, convolved; float (N, C, h, w) -> float (N, 512, h, w)."""
        pooled = [average.squeeze(3) @ spread for average, spread in zip(*self.averages(deep), strict=True)]
        maps = [values.reshape(*values.shape[:2], *deep.shape[2:]) for values in pooled]
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


def _chain(cin: int, widths: tuple[int, ...], strides: tuple[int, ...]) -> nn.Sequential:
    inputs = (cin, *widths[:-1])
    return nn.Sequential(*(ConvBN(a, b, 3, stride=s) for a, b, s in zip(inputs, widths, strides, strict=True)))


def icnet_mmseg_r18(classes: int) -> ICNetMmseg:
    """On ResNet-18."""
    return ICNetMmseg(classes, RESNET_18)


def icnet_mmseg_r50(classes: int) -> ICNetMmseg:
    """On ResNet-50."""
    return ICNetMmseg(classes, RESNET_50)


class DeployedICNetMmseg(nn.Module):
    """The same function of raw pixels in an equal, cheaper form.

    - The bottleneck's 3x3 convolution of a resized average is a sum, over its nine taps, of that average times the
      tap's weight times a constant: how the resizing spreads it, shifted by the tap. So the pyramid's 2048 channels
      are convolved as the 50 cells that they are, not as maps (a quarter of the network's arithmetic on ResNet-18).
    - The image is halved inside the stem's first convolution (`halved_into`); the normalisation's gain moves into the
      two convolutions that read it.
    """

    def __init__(self, net: ICNetMmseg, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        stem, shallow = (cast(ConvBN, chain[0]) for chain in (self.net.stem, self.net.conv_sub1))
        for first in (stem.conv, shallow.conv):
            first.weight.data *= gain.reshape(1, 3, 1, 1)
        self.net.halve, stem.conv = nn.Identity(), halved_into(stem.conv)
        whole = fuse_conv_bn_eval(self.net.pyramid_bottleneck.conv, self.net.pyramid_bottleneck.bn)
        *pooled, direct = whole.weight.detach().split(
            [PYRAMID_CHANNELS] * len(PYRAMID_BINS) + [whole.in_channels - len(PYRAMID_BINS) * PYRAMID_CHANNELS], dim=1
        )
        self.direct = nn.Conv2d(direct.shape[1], PYRAMID_CHANNELS, 3, padding=1)
        self.direct.weight, self.direct.bias = nn.Parameter(direct), whole.bias
        self.taps = nn.ModuleList(nn.Conv2d(PYRAMID_CHANNELS, 9 * PYRAMID_CHANNELS, 1, bias=False) for _ in pooled)
        for conv, weight in zip(self.taps, pooled, strict=True):
            # Channel `c * 9 + tap`, so that a reshape puts the taps beside the cells.
            cast(nn.Conv2d, conv).weight.data = weight.permute(0, 2, 3, 1).reshape(-1, PYRAMID_CHANNELS, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, H/8, W/8), as the network gives for `x * gain`."""
        fine, deep = self.net.trunk(x)
        return cast(torch.Tensor, self.net.cascade(x, fine, self._context(deep)))

    def _context(self, deep: torch.Tensor) -> torch.Tensor:
        tapped, spreads = [], []
        for averages, spread, taps in zip(*self.net.averages(deep), self.taps, strict=True):
            tapped.append(taps(averages).reshape(deep.shape[0], PYRAMID_CHANNELS, -1))
            spreads.append(_shifted(spread.reshape(-1, *deep.shape[2:])))
        pooled = torch.cat(tapped, dim=2) @ torch.cat(spreads)
        return F.relu(self.direct(deep) + pooled.reshape(deep.shape[0], -1, *deep.shape[2:]))


def _shifted(spread: torch.Tensor) -> torch.Tensor:
    """float (cells, h, w) -> float (9 * cells, h * w): as each tap of a 3x3 convolution with zeros around sees it."""
    padded, (height, width) = F.pad(spread, (1, 1, 1, 1)), spread.shape[1:]
    taps = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.cat(taps).reshape(-1, height * width)
