"""ENet as davidtvs/PyTorch-ENet trained it: other widths, activations and pooling than the paper's (enet.py)."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from export.models import enet
from export.models.enet import (
    DECODER,
    DROPOUT,
    DROPOUT_STAGE_1,
    ENCODER,
    INITIAL_CHANNELS,
    UPSAMPLING,
    Kind,
    spread_by_shuffling,
)
from export.models.layers import Positions, Subpixels, max_pool_2x2, max_unpool_2x2

# Its bottlenecks are the rows of the paper's table 1; a bottleneck's inner width is a quarter of its input.
PROJECTION = 4


def _activation(*, decoder: bool) -> nn.Module:
    return nn.ReLU() if decoder else nn.PReLU()  # of one weight


def _pool(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 3, stride=2, padding=1)


class Initial(enet.Initial):
    """The paper's, without a bias, with a pool of 3x3 and an activation of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, INITIAL_CHANNELS - 3, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(INITIAL_CHANNELS)
        self.activation = _activation(decoder=False)  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> float (N, 16, h/2, w/2)."""
        return self.activation(self.bn(torch.cat((self.conv(x), _pool(x)), dim=1)))


class Bottleneck(nn.Module):
    """Project, convolve, expand, add the shortcut; the expansion is activated too, but for upsampling ones."""

    def __init__(self, kind: Kind, cin: int, cout: int, dilation: int, dropout: float, *, decoder: bool) -> None:
        super().__init__()
        self.kind = kind
        self.padding_channels = cout - cin
        inner = cin // PROJECTION
        step = 2 if kind == "downsample" else 1
        self.project = nn.Conv2d(cin, inner, step, stride=step, bias=False)
        self.project_bn = nn.BatchNorm2d(inner)
        self.project_activation = _activation(decoder=decoder)
        self.conv: nn.Module
        if kind == "asymmetric":
            self.conv = nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False)
            self.conv_across = nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False)
            self.conv_across_bn = nn.BatchNorm2d(inner)
            self.conv_across_activation = _activation(decoder=decoder)
        elif kind == "upsample":
            self.conv = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
            self.shortcut = nn.Conv2d(cin, cout, 1, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(cout)
        else:
            self.conv = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)
        self.conv_bn = nn.BatchNorm2d(inner)
        self.conv_activation = _activation(decoder=decoder)
        self.expand = nn.Conv2d(inner, cout, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(cout)
        self.expand_activation = nn.Identity() if kind == "upsample" else _activation(decoder=decoder)
        self.dropout = nn.Dropout2d(dropout)
        self.activation = _activation(decoder=decoder)

    def _extension(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project_activation(self.project_bn(self.project(x)))
        x = self.conv_activation(self.conv_bn(self.conv(x)))
        if self.kind == "asymmetric":
            x = self.conv_across_activation(self.conv_across_bn(self.conv_across(x)))
        return self.dropout(self.expand_activation(self.expand_bn(self.expand(x))))

    def forward(self, x: torch.Tensor, positions: Positions | None = None) -> tuple[torch.Tensor, Positions | None]:
        """float (N, cin, h, w) -> float (N, cout, h', w'), and the maxima's positions of a downsampling one."""
        main, kept = x, None
        if self.kind == "downsample":
            main, kept = max_pool_2x2(x)
            main = F.pad(main, (0, 0, 0, 0, 0, self.padding_channels))
        elif self.kind == "upsample":
            assert positions is not None, "an upsampling bottleneck needs the positions of its mirror"
            main = max_unpool_2x2(self.shortcut_bn(self.shortcut(x)), positions)
        return self.activation(main + self._extension(x)), kept


class ENetDavidtvs(nn.Module):
    """PyTorch-ENet for `classes` classes.

    Source: davidtvs/PyTorch-ENet, models/enet.py since 7cd31d4 (2021-03-15), which took the activation from the
    expansion of upsampling bottlenecks. Checkpoints from before have the same keys and give wrong masks here.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.initial: nn.Module = Initial()
        channels = INITIAL_CHANNELS
        for name, kind, cout, dilation in ENCODER + DECODER:
            dropout = DROPOUT_STAGE_1 if name[0] == "1" else DROPOUT
            block = Bottleneck(cast(Kind, kind), channels, cout, dilation, dropout, decoder=name[0] in "45")
            setattr(self, f"bottleneck{name}", block)
            channels = cout
        self.fullconv = nn.ConvTranspose2d(channels, classes, 3, stride=2, padding=1, output_padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w), h and w multiples of 8 -> logits float (N, classes, h, w)."""
        x = self.initial(x)
        stack: list[Positions] = []
        for name, kind, _, _ in ENCODER + DECODER:
            x, kept = getattr(self, f"bottleneck{name}")(x, stack.pop() if kind == "upsample" else None)
            if kept is not None:
                stack.append(kept)
        return self.fullconv(x)


class DeployedInitial(enet.DeployedInitial):
    """`Initial` with its normalisation, and the input's gain, folded into convolutions whose sum needs no joining."""

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> float (N, 3, h/2, w/2)."""
        return _pool(x)


def deployed_enet_davidtvs(net: ENetDavidtvs, gain: torch.Tensor) -> ENetDavidtvs:
    """A copy in evaluation mode that takes its input before it is multiplied with `gain`, float32 (3,), >= 0.

    Its logits are in blocks, as those of `enet.DeployedENet`.
    """
    net = copy.deepcopy(net).eval()
    net.initial = DeployedInitial(cast(Initial, net.initial), gain)
    for name in UPSAMPLING:
        spread_by_shuffling(net.get_submodule(name))
    net.fullconv = Subpixels(net.fullconv)  # type: ignore[assignment]
    return net
