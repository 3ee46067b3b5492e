"""ENet: Paszke, Chaurasia, Kim, Culurciello 2016, arXiv:1606.02147, as in the authors' code (e-lab/ENet-training)."""

import copy
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from export.models.layers import Positions, Subpixels, max_pool_2x2, max_unpool_2x2

Kind = Literal["downsample", "regular", "dilated", "asymmetric", "upsample"]

INITIAL_CHANNELS = 16
# Table 1, one row per bottleneck, in order: name, kind, output channels, dilation.
STAGE_1 = (
    ("1_0", "downsample", 64, 1),
    ("1_1", "regular", 64, 1),
    ("1_2", "regular", 64, 1),
    ("1_3", "regular", 64, 1),
    ("1_4", "regular", 64, 1),
)
STAGE_2 = (
    ("2_0", "downsample", 128, 1),
    ("2_1", "regular", 128, 1),
    ("2_2", "dilated", 128, 2),
    ("2_3", "asymmetric", 128, 1),
    ("2_4", "dilated", 128, 4),
    ("2_5", "regular", 128, 1),
    ("2_6", "dilated", 128, 8),
    ("2_7", "asymmetric", 128, 1),
    ("2_8", "dilated", 128, 16),
)
# "Stage 3 is the same as stage 2, without the downsampling": its rows are numbered from 1.
STAGE_3 = tuple((name.replace("2_", "3_"), kind, channels, dilation) for name, kind, channels, dilation in STAGE_2[1:])
STAGE_4 = (
    ("4_0", "upsample", 64, 1),
    ("4_1", "regular", 64, 1),
    ("4_2", "regular", 64, 1),
)
STAGE_5 = (
    ("5_0", "upsample", 16, 1),
    ("5_1", "regular", 16, 1),
)
ENCODER = STAGE_1 + STAGE_2 + STAGE_3
DECODER = STAGE_4 + STAGE_5
UPSAMPLING = tuple(f"bottleneck{name}" for name, kind, _, _ in DECODER if kind == "upsample")

BATCH_NORM_EPS = 1e-3  # train/models/encoder.lua
DROPOUT_STAGE_1, DROPOUT = 0.01, 0.1  # section 4: 0.01 before bottleneck2.0, 0.1 afterwards


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)


def _activation(channels: int, *, decoder: bool) -> nn.Module:
    # Section 4: PReLU with a weight per channel in the encoder, ReLU in the decoder.
    return nn.ReLU() if decoder else nn.PReLU(channels)


class Initial(nn.Module):
    """Figure 2a: a 3x3 stride-2 convolution of 13 channels beside a 2x2 max-pool of the frame's three."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, INITIAL_CHANNELS - 3, 3, stride=2, padding=1)
        self.bn = _norm(INITIAL_CHANNELS)
        self.activation = nn.PReLU(INITIAL_CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> float (N, 16, h/2, w/2)."""
        return self.activation(self.bn(torch.cat((self.conv(x), F.max_pool2d(x, 2)), dim=1)))


def _middle(kind: Kind, channels: int, dilation: int) -> nn.Module:
    """The convolution between the two projections (figure 2b), with its bias."""
    if kind == "asymmetric":
        return nn.Sequential(
            nn.Conv2d(channels, channels, (1, 5), padding=(0, 2), bias=False),
            nn.Conv2d(channels, channels, (5, 1), padding=(2, 0)),
        )
    if kind == "upsample":
        return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)


class Bottleneck(nn.Module):
    """Figure 2b: project, convolve, expand, add the shortcut; the activation comes after the sum."""

    def __init__(self, kind: Kind, cin: int, cout: int, dilation: int, dropout: float, *, decoder: bool) -> None:
        super().__init__()
        self.kind = kind
        self.padding_channels = cout - cin
        inner = cout // 4
        step = 2 if kind == "downsample" else 1
        self.project = nn.Conv2d(cin, inner, step, stride=step, bias=False)
        self.project_bn = _norm(inner)
        self.project_activation = _activation(inner, decoder=decoder)
        self.conv = _middle(kind, inner, dilation)
        self.conv_bn = _norm(inner)
        self.conv_activation = _activation(inner, decoder=decoder)
        self.expand = nn.Conv2d(inner, cout, 1, bias=False)
        self.expand_bn = _norm(cout)
        self.dropout = nn.Dropout2d(dropout)
        self.activation = _activation(cout, decoder=decoder)
        if kind == "upsample":
            self.shortcut = nn.Conv2d(cin, cout, 1, bias=False)
            self.shortcut_bn = _norm(cout)

    def _extension(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project_activation(self.project_bn(self.project(x)))
        x = self.conv_activation(self.conv_bn(self.conv(x)))
        return self.dropout(self.expand_bn(self.expand(x)))

    def forward(self, x: torch.Tensor, positions: Positions | None = None) -> tuple[torch.Tensor, Positions | None]:
        """float (N, cin, h, w) -> float (N, cout, h', w'), and the maxima's positions of a downsampling one.

        Args:
            x: the block's input.
            positions: of the downsampling bottleneck that this upsampling one mirrors.
        """
        main, kept = x, None
        if self.kind == "downsample":
            main, kept = max_pool_2x2(x)
            main = F.pad(main, (0, 0, 0, 0, 0, self.padding_channels))
        elif self.kind == "upsample":
            assert positions is not None, "an upsampling bottleneck needs the positions of its mirror"
            main = max_unpool_2x2(self.shortcut_bn(self.shortcut(x)), positions)
        return self.activation(main + self._extension(x)), kept


class ENet(nn.Module):
    """ENet for `classes` classes; with `encoder_only` it ends in a 1x1 classifier at 1/8 (section 4: trained first).

    Source: table 1 and section 4 of the paper; biases, eps and dropout as in the authors' encoder.lua and decoder.lua.
    """

    def __init__(self, classes: int, *, encoder_only: bool = False) -> None:
        super().__init__()
        self.encoder_only = encoder_only
        self.initial = Initial()
        channels = INITIAL_CHANNELS
        for name, kind, cout, dilation in ENCODER if encoder_only else ENCODER + DECODER:
            decoder = name[0] in "45"
            dropout = 0.0 if decoder else DROPOUT_STAGE_1 if name[0] == "1" else DROPOUT
            setattr(
                self,
                f"bottleneck{name}",
                Bottleneck(cast(Kind, kind), channels, cout, dilation, dropout, decoder=decoder),
            )
            channels = cout
        if encoder_only:
            self.encoder_classifier = nn.Conv2d(channels, classes, 1)
        else:
            self.fullconv = nn.ConvTranspose2d(channels, classes, 2, stride=2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> the last bottleneck's output, float (N, 16, h/2, w/2), or (N, 128, h/8, w/8)."""
        x = self.initial(x)
        stack: list[Positions] = []
        for name, kind, _, _ in ENCODER if self.encoder_only else ENCODER + DECODER:
            x, kept = getattr(self, f"bottleneck{name}")(x, stack.pop() if kind == "upsample" else None)
            if kept is not None:
                stack.append(kept)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w), h and w multiples of 8 -> logits float (N, classes, h, w), or (N, classes, h/8, w/8)."""
        x = self.features(x)
        return self.encoder_classifier(x) if self.encoder_only else self.fullconv(x)


class DeployedInitial(nn.Module):
    """`Initial` with its normalisation, and the input's gain, folded into convolutions whose sum needs no joining.

    The pooled frame goes through a 1x1 convolution to its three of the sixteen channels, which the 3x3 one leaves 0.
    """

    def __init__(self, initial: Initial, gain: torch.Tensor) -> None:
        super().__init__()
        bn, conv = initial.bn, copy.deepcopy(initial.conv)
        assert bn.running_mean is not None and bn.running_var is not None
        convolved, pooled = conv.out_channels, INITIAL_CHANNELS - conv.out_channels
        weight = F.pad(conv.weight.detach() * gain.reshape(1, 3, 1, 1), (0, 0, 0, 0, 0, 0, 0, pooled))
        bias = torch.zeros_like(bn.bias) if conv.bias is None else F.pad(conv.bias.detach(), (0, pooled))
        conv.weight, conv.bias = fuse_conv_bn_weights(
            nn.Parameter(weight), nn.Parameter(bias), bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        conv.out_channels = INITIAL_CHANNELS
        scale = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).detach()[convolved:] * gain
        self.conv, self.pooled = conv, nn.Conv2d(3, INITIAL_CHANNELS, 1, bias=False)
        self.pooled.weight = nn.Parameter(F.pad(torch.diag(scale), (0, 0, convolved, 0))[:, :, None, None])
        self.activation = initial.activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> float (N, 16, h/2, w/2), as `Initial` gives for `x * gain` where gain >= 0."""
        return cast(torch.Tensor, self.activation(self.conv(x) + self.pooled(self.pool(x))))

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> float (N, 3, h/2, w/2)."""
        return F.max_pool2d(x, 2)


def spread_by_shuffling(upsampling: nn.Module) -> None:
    """Make the deconvolution of an upsampling bottleneck a convolution, normalised and activated before it is spread.

    Args:
        upsampling: an upsampling bottleneck in evaluation mode, whose decoder's activation knows no channels.
    """
    block = cast(Any, upsampling)
    block.conv = Subpixels(fuse_conv_bn_eval(block.conv, block.conv_bn, transpose=True))
    block.conv_bn, block.conv_activation = nn.Identity(), nn.Sequential(block.conv_activation, nn.PixelShuffle(2))


class DeployedENet(nn.Module):
    """The same function of raw pixels in an equal, cheaper form.

    Deconvolutions are convolutions to four times the channels. Those of the last layer, whose windows do not overlap,
    stay blocks (`ModelSpec.block` 2): whoever takes the argmax reads them in place, and the shuffle to full size is
    saved.
    """

    def __init__(self, net: ENet, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        self.net.initial = DeployedInitial(self.net.initial, gain)  # type: ignore[assignment]
        for name in UPSAMPLING:
            spread_by_shuffling(self.net.get_submodule(name))
        self.blocks = Subpixels(self.net.fullconv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, h, w) -> logits in blocks, float (N, classes * 4, h/2, w/2)."""
        return cast(torch.Tensor, self.blocks(self.net.features(x)))
