"""PIDNet-S: Xu, Xiong, Bhattacharyya 2023, arXiv:2206.02066, as its authors publish it (XuJiacong/PIDNet, MIT)."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from export.models.ddrnet import POOLS, BasicBlock, BNConv, Bottleneck, Head, biased, resized, stage
from export.models.layers import ConvBN, Gained

PLANES, FINE, CONTEXT = 32, 64, 128  # channels: of the first stage, of the detail branch, of the pyramid
SCALE, ATTENTION, HEAD = 96, 32, 128  # of each of the pyramid's averages, of a fusion's comparison, of the classifier
BLOCKS = 3  # of a stage of the context branch


class Guided(nn.Module):
    """Pag, section 3.2: the detail map takes from the context's where both say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.of_detail, self.of_context = (ConvBN(FINE, ATTENTION, 1, relu=False) for _ in range(2))

    def forward(self, detail: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """float (N, 64, h, w), float (N, 64, smaller) -> float (N, 64, h, w)."""
        likeness = self.of_detail(detail) * resized(self.of_context(context), detail)
        share = torch.sigmoid(likeness.sum(1, keepdim=True))
        return share * resized(context, detail) + (1 - share) * detail


class Pyramid(nn.Module):
    """PAPPM, section 3.3: averages of ever larger windows beside one another, joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        count = len(POOLS) + 1
        self.scale = nn.ModuleList(BNConv(channels, SCALE, 1) for _ in range(1 + count))
        self.process = BNConv(count * SCALE, count * SCALE, 3, groups=count)
        self.compression = BNConv((1 + count) * SCALE, CONTEXT, 1)
        self.shortcut = BNConv(channels, CONTEXT, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, channels, h, w) -> float (N, 128, h, w)."""
        pooled = [F.avg_pool2d(x, kernel, stride, kernel // 2) for kernel, stride in POOLS]
        first, averages = self.scale[0](x), (*pooled, x.mean((2, 3), keepdim=True))
        maps = [resized(scale(average), x) + first for average, scale in zip(averages, self.scale[1:], strict=True)]
        joined = torch.cat((first, self.process(torch.cat(maps, dim=1))), dim=1)
        return cast(torch.Tensor, self.compression(joined) + self.shortcut(x))


class Fusion(nn.Module):
    """Light Bag, section 3.4: at boundaries the detail map, elsewhere the context's."""

    def __init__(self) -> None:
        super().__init__()
        self.of_detail, self.of_context = (ConvBN(CONTEXT, CONTEXT, 1, relu=False) for _ in range(2))

    def forward(self, detail: torch.Tensor, context: torch.Tensor, boundary: torch.Tensor) -> torch.Tensor:
        """Three float (N, 128, h, w) -> one."""
        share = torch.sigmoid(boundary)
        of_detail, of_context = (1 - share) * context + detail, context + share * detail
        return cast(torch.Tensor, self.of_detail(of_detail) + self.of_context(of_context))


class PIDNetS(nn.Module):
    """PIDNet-S for `classes` classes; in training also the detail branch's logits. It has no boundary loss of its own.

    Source: table 1, models/pidnet.py of the authors.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(biased(3, PLANES), biased(PLANES, PLANES))
        self.layer1, self.layer2 = stage(PLANES, PLANES, 1), stage(PLANES, FINE, 2)
        self.context3, self.context4 = stage(FINE, 128, 2, BLOCKS), stage(128, 256, 2, BLOCKS)
        self.context5 = nn.Sequential(Bottleneck(256, 256, 2), Bottleneck(512, 256))
        self.detail3, self.detail4, self.detail5 = stage(FINE, FINE, 1), stage(FINE, FINE, 1), Bottleneck(FINE, FINE)
        self.boundary3, self.boundary4 = BasicBlock(FINE, PLANES, relu=False), Bottleneck(PLANES, PLANES)
        self.boundary5 = Bottleneck(FINE, FINE)
        self.compression3, self.compression4 = (ConvBN(cin, FINE, 1, relu=False) for cin in (128, 256))
        self.guided3, self.guided4 = Guided(), Guided()
        self.difference3, self.difference4 = ConvBN(128, PLANES, 3, relu=False), ConvBN(256, FINE, 3, relu=False)
        self.pyramid, self.fusion = Pyramid(512), Fusion()
        self.head, self.auxiliary = Head(CONTEXT, classes, HEAD), Head(FINE, classes, HEAD)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W), multiples of 8 -> logits float (N, classes, H/8, W/8); in training the auxiliary too."""
        shared = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        context = F.relu(self.context3(shared))
        first = self.guided3(self.detail3(shared), self.compression3(context))
        boundary = self.boundary3(shared) + resized(self.difference3(context), shared)
        context = F.relu(self.context4(context))
        detail = self.guided4(self.detail4(F.relu(first)), self.compression4(context))
        boundary = self.boundary4(F.relu(boundary)) + resized(self.difference4(context), shared)
        detail, boundary = self.detail5(F.relu(detail)), self.boundary5(F.relu(boundary))
        context = resized(self.pyramid(self.context5(context)), detail)
        logits: torch.Tensor = self.head(self.fusion(detail, context, boundary))
        return (logits, self.auxiliary(first)) if self.training else logits


def deployed_pidnet(net: PIDNetS, gain: torch.Tensor) -> nn.Module:
    """The same function of raw pixels, float (N, 3, H, W)."""
    return Gained(net, gain, "conv1.0.0")
