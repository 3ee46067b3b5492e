"""MobileNetV2: Sandler et al. 2018, arXiv:1801.04381, as VainF/DeepLabV3Plus-Pytorch (MIT) has it behind DeepLabV3+."""

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN

# Expansion, channels, blocks, stride of the first.
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FIRST, LOW_BLOCKS = 32, 3  # channels of the first convolution; blocks up to 1/4, whose output a decoder reads


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 of each by itself, 1x1 back; a sum where the shape stays. Activations end at 6.

    The zeros around a map are added before the first 1x1 convolution, whose biases make other values of them.
    """

    def __init__(self, cin: int, cout: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        inner = cin * expansion
        self.expand = ConvBN(cin, inner, 1, relu=False) if expansion > 1 else None
        self.depthwise = ConvBN(inner, inner, 3, stride=stride, dilation=dilation, groups=inner, relu=False)
        self.depthwise.conv.padding = (0, 0)
        self.project = ConvBN(inner, cout, 1, relu=False)
        self.residual, self.margin = stride == 1 and cin == cout, dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        y = F.pad(x, (self.margin,) * 4)
        if self.expand is not None:
            y = F.relu6(self.expand(y))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The backbone, whose strides end at `output_stride` (16 or 8); later ones become dilations."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.first = ConvBN(3, FIRST, 3, stride=2, relu=False)
        blocks, channels, reached, dilation = [], FIRST, 2, 1
        for expansion, width, count, stride in TABLE:
            before = dilation
            if reached == output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            for i in range(count):
                form = (1, dilation) if i else (stride, before)
                blocks.append(InvertedResidual(channels, width, expansion, *form))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.channels, self.low_channels = channels, TABLE[1][1]

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> the decoder's map at 1/4, and the last one."""
        x = low = F.relu6(self.first(x))
        for i, block in enumerate(self.blocks, 1):
            x = block(x)
            low = x if i == LOW_BLOCKS else low
        return low, x
