"""Aligned Xception: Chen et al. 2018, arXiv:1802.02611, as published (tensorflow/models, deeplab/core/xception.py)."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN

EPS = 1e-3  # of every normalisation of the backbone
MIDDLE, EXIT = (728, 728, 728), ((728, 1024, 1024), (1536, 1536, 2048))
STEM = (32, 64)


class Entry(NamedTuple):
    """Channels of a module of the entry flow, and the stride of its last convolution."""

    channels: int
    stride: int


class Depth(NamedTuple):
    """The entry flow, how many modules follow it, and which module of the entry flow the decoder reads."""

    entry: tuple[Entry, ...]
    middle: int
    tap: int


XCEPTION_65 = Depth((Entry(128, 2), Entry(256, 2), Entry(728, 2)), 16, 1)
XCEPTION_41 = XCEPTION_65._replace(middle=8)
XCEPTION_71 = Depth((Entry(128, 2), Entry(256, 1), Entry(256, 2), Entry(728, 1), Entry(728, 2)), 16, 2)


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 of all; each normalised, with ReLUs where `inside`."""

    def __init__(self, cin: int, cout: int, *, stride: int, dilation: int, inside: bool) -> None:
        super().__init__()
        self.depthwise = ConvBN(cin, cin, 3, stride=stride, dilation=dilation, groups=cin, relu=inside, eps=EPS)
        self.pointwise = ConvBN(cin, cout, 1, relu=inside, eps=EPS)
        self.before = not inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        y: torch.Tensor = self.pointwise(self.depthwise(F.relu(x) if self.before else x))
        return y


class Module(nn.Module):
    """Three separable convolutions, and a skip (convolved, as it is, or none) that takes its input before any ReLU."""

    def __init__(
        self,
        cin: int,
        widths: tuple[int, int, int],
        *,
        skip: Literal["conv", "sum", "none"],
        stride: int = 1,
        dilation: int = 1,
        inside: bool = False,
    ) -> None:
        super().__init__()
        inputs, strides = (cin, *widths[:-1]), (1, 1, stride)
        self.convs = nn.ModuleList(
            SeparableConv(a, b, stride=s, dilation=dilation, inside=inside)
            for a, b, s in zip(inputs, widths, strides, strict=True)
        )
        self.skip = skip
        self.shortcut = ConvBN(cin, widths[-1], 1, stride=stride, relu=False, eps=EPS) if skip == "conv" else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, cin, h, w) -> the module's output, and its second convolution's, which a decoder reads."""
        first, second, third = self.convs
        tapped: torch.Tensor = second(first(x))
        y: torch.Tensor = third(tapped)
        if self.skip != "none":
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return y, tapped


class Xception(nn.Module):
    """The backbone, whose strides end at `output_stride` (16 or 8); later ones become dilations."""

    def __init__(self, depth: Depth, output_stride: int) -> None:
        super().__init__()
        first, second = STEM
        self.stem = nn.Sequential(ConvBN(3, first, 3, stride=2, eps=EPS), ConvBN(first, second, 3, eps=EPS))
        self.entry, channels, reached, dilation = nn.ModuleList(), second, 2, 1
        for width, stride in depth.entry:
            if reached == output_stride:
                stride, dilation = 1, dilation * stride
            self.entry.append(Module(channels, (width, width, width), skip="conv", stride=stride))
            channels, reached = width, reached * stride
        self.middle = nn.ModuleList(
            Module(channels, MIDDLE, skip="sum", dilation=dilation) for _ in range(depth.middle)
        )
        self.exit1 = Module(channels, EXIT[0], skip="conv", dilation=dilation)
        self.exit2 = Module(EXIT[0][-1], EXIT[1], skip="none", dilation=2 * dilation, inside=True)
        self.tap = depth.tap
        self.channels, self.low_channels = EXIT[1][-1], depth.entry[depth.tap].channels

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> the decoder's map at 1/4, not yet through a ReLU, and the last one."""
        x, low = self.stem(x), x
        for i, module in enumerate(self.entry):
            x, tapped = module(x)
            low = tapped if i == self.tap else low
        for module in (*self.middle, self.exit1, self.exit2):
            x, _ = module(x)
        return low, x
