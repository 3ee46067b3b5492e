"""ResNets as segmentation networks have them: three 3x3 convolutions first, and dilation in place of late strides."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN


class Depth(NamedTuple):
    """Blocks of each stage, and how many times its inner channels a block gives."""

    blocks: tuple[int, int, int, int]
    expansion: int  # 1: two 3x3 convolutions a block; 4: a 3x3 between two 1x1


class Stage(NamedTuple):
    """Inner channels of a stage's blocks, the first one's stride and dilation, and the others' dilation."""

    inner: int
    stride: int
    first: int
    dilation: int


RESNET_18, RESNET_50 = Depth((2, 2, 2, 2), 1), Depth((3, 4, 6, 3), 4)


class Block(nn.Module):
    """Residual block; the stride is on the first 3x3 convolution, or where `early` on the 1x1 before it."""

    def __init__(
        self, cin: int, inner: int, expansion: int, stride: int, dilation: int, *, early: bool = False
    ) -> None:
        super().__init__()
        cout = inner * expansion
        if expansion == 1:
            self.conv1 = ConvBN(cin, inner, 3, stride=stride, dilation=dilation)
            self.conv2 = ConvBN(inner, cout, 3, relu=False)
            self.conv3 = None
        else:
            self.conv1 = ConvBN(cin, inner, 1, stride=stride if early else 1)
            self.conv2 = ConvBN(inner, inner, 3, stride=1 if early else stride, dilation=dilation)
            self.conv3 = ConvBN(inner, cout, 1, relu=False)
        self.project = ConvBN(cin, cout, 1, stride=stride, relu=False) if stride > 1 or cin != cout else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, inner * expansion, ceil(h / stride), ceil(w / stride))."""
        shortcut = x if self.project is None else self.project(x)
        x = self.conv2(self.conv1(x))
        return F.relu(shortcut + (x if self.conv3 is None else self.conv3(x)))


def chain(cin: int, widths: Sequence[int], strides: Sequence[int]) -> nn.Sequential:
    """3x3 convolutions one after another."""
    inputs = (cin, *widths[:-1])
    return nn.Sequential(*(ConvBN(a, b, 3, stride=s) for a, b, s in zip(inputs, widths, strides, strict=True)))


def add_stages(
    net: nn.Module, channels: int, stages: Sequence[Stage], depth: Depth, *, early: bool = False
) -> list[int]:
    """Give a network `layer1` to `layer4`, the first of which takes so many channels; returns what each gives."""
    out = []
    for number, (stage, count) in enumerate(zip(stages, depth.blocks, strict=True), 1):
        blocks = []
        for i in range(count):
            stride, dilation = (1, stage.dilation) if i else (stage.stride, stage.first)
            blocks.append(Block(channels, stage.inner, depth.expansion, stride, dilation, early=early))
            channels = stage.inner * depth.expansion
        net.add_module(f"layer{number}", nn.Sequential(*blocks))
        out.append(channels)
    return out
