"""ICNet in an equal form that costs a sixth less arithmetic, and none of the passes over the full image but two."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.models.icnet import Bottleneck, Fusion, ICNet, double, halve

REACH = 2  # fine pixels from a 3x3 kernel's centre to its edge at dilation 2
STRIP = 3  # coarse cells whose doubling holds the fine pixels that the outermost REACH rows of the result see


class CommutedFusion(nn.Module):
    """`Fusion` of a doubled map, with the dilated convolution done before the doubling, on a quarter of the pixels.

    Two fine pixels are one coarse cell: a kernel at dilation 2 on the doubled map sees at a pixel what the same kernel
    at dilation 1 sees on the coarse map, interpolated alike. That holds wherever the kernel stays inside. In the
    outermost two rows and columns it meets the padding's zeros, and those are computed as they were, on strips.
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(fusion.conv.conv, fusion.conv.bn)
        self.project = fusion.project

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """float (N, coarse, h, w), not doubled; float (N, fine, 2h, 2w) -> float (N, 128, 2h, 2w)."""
        return F.relu(self._convolve(coarse) + self.project(fine))

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[2:]) < STRIP:
            return self._dilated(double(x, align_corners=False), REACH, REACH, REACH, REACH)
        seen = 2 * REACH
        first, last = x[:, :, :STRIP], x[:, :, -STRIP:]
        top = self._dilated(double(first, align_corners=False)[:, :, :seen], REACH, REACH, REACH, 0)
        bottom = self._dilated(double(last, align_corners=False)[:, :, -seen:], REACH, REACH, 0, REACH)
        left = self._dilated(double(x[..., :STRIP], align_corners=False)[..., :seen], REACH, 0, 0, 0)
        right = self._dilated(double(x[..., -STRIP:], align_corners=False)[..., -seen:], 0, REACH, 0, 0)
        extended = F.pad(x, (1, 1, 1, 1), mode="replicate")  # as doubling repeats the edge
        inside = double(F.conv2d(extended, self.conv.weight, self.conv.bias), align_corners=False)
        middle = torch.cat((left, inside[..., REACH:-REACH, REACH:-REACH], right), dim=3)
        return torch.cat((top, middle, bottom), dim=2)

    def _dilated(self, fine: torch.Tensor, left: int, right: int, top: int, bottom: int) -> torch.Tensor:
        # As in `Fusion`, with zeros on the map's own edges alone.
        padded = F.pad(fine, (left, right, top, bottom))
        return F.conv2d(padded, self.conv.weight, self.conv.bias, dilation=2)


def halved_into(conv: nn.Conv2d) -> nn.Conv2d:
    """A 3x3 convolution of stride 2 that halves its input by averages first, as one 6x6 convolution of stride 4."""
    merged = nn.Conv2d(conv.in_channels, conv.out_channels, 6, stride=4, padding=2, bias=False)
    merged.weight.data = conv.weight.data.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    return merged


class StridedEarlier(nn.Module):
    """A bottleneck of which only every second row and column is read, computing no others after its 1x1 reduction."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.block = block
        self.block.conv.conv.stride = (2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, h, w) -> float (N, C, h / 2, w / 2)."""
        shortcut = F.max_pool2d(x, 1, stride=2)  # picks pixels, in integers too
        return F.relu(shortcut + self.block.increase(self.block.conv(self.block.reduce(x))))


class DeployedTrunk(nn.Module):
    """What every part of an ICNet has: its trunk on raw pixels, in an equal, cheaper form.

    - A 1x1 convolution commutes with resizing and pooling, whose weights sum to one and which act on each channel
      alone. So `conv5_4`, without its bias, runs before the pyramid (a quarter of the channels).
    - `conv3_1` begins with 1x1 convolutions of stride 2: `conv2_3` before it computes only the pixels that they read
      (`StridedEarlier`).
    - The image is halved inside `conv1_1` (`halved_into`); the normalisation's gain moves into the convolutions that
      read it.

    With aligned corners halving has no equal form and is left as it is.
    """

    def __init__(self, net: ICNet, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        readers = [getattr(self.net, name).conv for name in ("conv1_1", "conv1_sub1") if hasattr(self.net, name)]
        for first in readers:
            first.weight.data *= gain.reshape(1, 3, 1, 1)
        self.context = fuse_conv_bn_eval(self.net.conv5_4.conv, self.net.conv5_4.bn)
        assert self.context.bias is not None
        self.context_bias = nn.Parameter(self.context.bias.detach().reshape(1, -1, 1, 1))
        self.context.bias = None
        self._stride_earlier()
        if not net.align_corners:
            self.net.conv1_1.conv = halved_into(self.net.conv1_1.conv)

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> conv3_1 at 1/16 and conv5_4 behind the pyramid at 1/32, as for `x * gain`."""
        net, corners = self.net, self.net.align_corners
        fine = net.shared(halve(x, align_corners=True) if corners else x)
        deep = net.deep(halve(fine, align_corners=corners))
        return fine, F.relu(net.pyramid(self.context(deep)) + self.context_bias)

    def _stride_earlier(self) -> None:
        before, reader = (cast(Bottleneck, self.net.get_submodule(name)) for name in ("conv2_3", "conv3_1"))
        assert reader.project is not None and reader.project.conv.stride == reader.reduce.conv.stride == (2, 2)
        self.net.conv2_3 = StridedEarlier(before)
        reader.project.conv.stride = reader.reduce.conv.stride = (1, 1)


class DeployedICNet(DeployedTrunk):
    """The same function of raw pixels in an equal, cheaper form: its trunk's, and

    - `conv6_cls`, which commutes with resizing as `conv5_4` does, runs before the last doubling, on a quarter of the
      pixels;
    - the dilated convolutions of both fusions run before the doubling (`CommutedFusion`), but with aligned corners.
    """

    def __init__(self, net: ICNet, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__(net, gain)
        if not net.align_corners:
            self.fusion_24, self.fusion_12 = CommutedFusion(self.net.fusion_24), CommutedFusion(self.net.fusion_12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, H/4, W/4), as the network gives for `x * gain`."""
        fine, context = self.maps(x)
        fused = self._fuse(context, fine, self.net.shallow(x))
        return double(self.net.conv6_cls(fused), align_corners=self.net.align_corners)

    def _fuse(self, context: torch.Tensor, fine: torch.Tensor, finest: torch.Tensor) -> torch.Tensor:
        if self.net.align_corners:
            sub24 = self.net.fusion_24(double(context, align_corners=True), fine)
            return self.net.fusion_12(double(sub24, align_corners=True), finest)
        return self.fusion_12(self.fusion_24(context, fine), finest)
