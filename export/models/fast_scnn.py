"""Fast-SCNN: Poudel, Liwicki, Cipolla 2019, arXiv:1902.04502."""

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN, Gained, Separable
from export.models.pyramid import PYRAMID_BINS, averages, spread

STEM = (32, 48, 64)  # the learning to downsample, each at half the size
EXPANSION = 6
# Table 1: bottlenecks of the global feature extractor, their output channels, stride of the first.
TRUNK = ((3, 64, 2), (3, 96, 2), (3, 128, 1))
CHANNELS, AUXILIARY = 128, 32  # of the extractor, the fusion and the classifier; of the classifiers for training
FUSION_DILATION = 4  # the factor between the two branches


class InvertedResidual(nn.Module):
    """1x1 to six times the channels, 3x3 of each by itself, 1x1 back; a sum where the shape stays."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        inner = cin * EXPANSION
        self.expand = ConvBN(cin, inner, 1)
        self.depthwise = ConvBN(inner, inner, 3, stride=stride, groups=inner)
        self.project = ConvBN(inner, cout, 1, relu=False)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Pyramid(nn.Module):
    """Averages of 1, 2, 3 and 6 bins a side, each to a quarter of the channels, joined to what they are of."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.bins = nn.ModuleList(ConvBN(channels, channels // len(PYRAMID_BINS), 1) for _ in PYRAMID_BINS)
        self.out = ConvBN(2 * channels, channels, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, h, w) -> the same."""
        maps = [spread(cells, *x.shape[2:], align_corners=False) for cells in averages(x, self.bins)]
        y: torch.Tensor = self.out(torch.cat((x, *maps), dim=1))
        return y


class Fusion(nn.Module):
    """The deep map at the fine one's size, convolved, plus the fine one projected."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.deep = ConvBN(CHANNELS, CHANNELS, 3, dilation=dilation, groups=CHANNELS)
        self.project_deep = ConvBN(CHANNELS, CHANNELS, 1, relu=False)
        self.project_fine = ConvBN(STEM[-1], CHANNELS, 1, relu=False)

    def forward(self, fine: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """float (N, 64, h, w), float (N, 128, h / 4, w / 4) -> float (N, 128, h, w)."""
        deep = F.interpolate(deep, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(self.project_fine(fine) + self.project_deep(self.deep(deep)))


class Head(nn.Sequential):
    """Convolutions, dropout, and a last 1x1 that gives a class's logit a channel."""

    def __init__(self, classes: int, channels: int, *convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*convolutions)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(channels, classes, 1)


class FastSCNN(nn.Module):
    """Fast-SCNN for `classes` classes; in training also logits of both branches, which deploy nothing.

    No ReLU stands inside of a separable convolution (section 3.2 of the paper). `mmseg` builds mmsegmentation's, whose
    pyramid ends in a 3x3 convolution and whose fusion is not dilated.
    """

    def __init__(self, classes: int, *, mmseg: bool = False) -> None:
        super().__init__()
        first, second, fine = STEM
        self.stem = nn.Sequential(
            ConvBN(3, first, 3, stride=2),
            Separable(first, second, stride=2, inside=False),
            Separable(second, fine, stride=2, inside=False),
        )
        blocks, channels = [], fine
        for count, cout, stride in TRUNK:
            for i in range(count):
                blocks.append(InvertedResidual(channels, cout, 1 if i else stride))
                channels = cout
        self.trunk = nn.Sequential(*blocks)
        self.pyramid = Pyramid(channels, 3 if mmseg else 1)
        self.fusion = Fusion(1 if mmseg else FUSION_DILATION)
        self.head = Head(classes, CHANNELS, *(Separable(CHANNELS, CHANNELS, inside=False) for _ in range(2)))
        self.auxiliary_fine = Head(classes, AUXILIARY, ConvBN(fine, AUXILIARY, 3))
        self.auxiliary_deep = Head(classes, AUXILIARY, ConvBN(CHANNELS, AUXILIARY, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """float (N, 3, H, W), multiples of 8 -> logits float (N, classes, H/8, W/8); in training the branches' too."""
        fine = self.stem(x)
        deep = self.pyramid(self.trunk(fine))
        logits: torch.Tensor = self.head(self.fusion(fine, deep))
        return (logits, self.auxiliary_deep(deep), self.auxiliary_fine(fine)) if self.training else logits


def fast_scnn_mmseg(classes: int) -> FastSCNN:
    """mmsegmentation's.

    Source: mmseg 1.2.2, mmseg/models/backbones/fast_scnn.py, configs/fastscnn.
    """
    return FastSCNN(classes, mmseg=True)


def deployed_fast_scnn(net: FastSCNN, gain: torch.Tensor) -> nn.Module:
    """The same function of raw pixels, float (N, 3, H, W)."""
    return Gained(net, gain, "stem.0.conv")
