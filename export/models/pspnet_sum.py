"""PSPNet50 as ICNet's authors took it to begin with: its pyramid is summed, not joined, and a 1x1 reads it.

Zhao et al. 2018, arXiv:1704.08545, sections 3.1 and 4.2. They measured it at three strides and with three shares of
its kernels before they made ICNet of it: its trunk is ICNet's before pruning, run on the whole image.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.models.icnet import CONTEXT, FULL_WIDTH, TRUNK, Bottleneck, pyramid_matrices
from export.models.layers import ConvBN

# Stride and dilation of conv4 and conv5, by the stride of conv5's map: what a stage no longer strides, it dilates.
DEEP_STAGES = {8: ((1, 2), (1, 4)), 16: ((2, 1), (1, 2)), 32: ((2, 1), (2, 1))}


class PSPNetSum(nn.Module):
    """PSPNet50 with a summed pyramid for `classes` classes, its logits at 1 / `stride`.

    Resizing takes pixel centres at halves, so that any multiple of the stride is a size; the authors aligned corners.

    Source: section 4.2 of the paper; the trunk is that of icnet_cityscapes.prototxt (`export.models.icnet.TRUNK`).
    """

    def __init__(self, classes: int, *, width: int = FULL_WIDTH, stride: int = 8) -> None:
        super().__init__()
        self.width = width
        self.conv1_1 = ConvBN(3, width, 3, stride=2)
        self.conv1_2 = ConvBN(width, width, 3)
        self.conv1_3 = ConvBN(width, 2 * width, 3)
        channels = 2 * width
        self.blocks: list[str] = []
        deep = dict(zip(("conv4", "conv5"), DEEP_STAGES[stride], strict=True))
        for stage, count, inner, out, *usual in TRUNK:
            first_stride, dilation = deep.get(stage, usual)
            for i in range(1, count + 1):
                block = Bottleneck(channels, inner * width, out * width, first_stride if i == 1 else 1, dilation)
                self.add_module(f"{stage}_{i}", block)
                self.blocks.append(f"{stage}_{i}")
                channels = out * width
        self.conv5_4 = ConvBN(channels, CONTEXT * width, 1)
        self.conv6 = nn.Conv2d(CONTEXT * width, classes, 1)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """The image, float (N, 3, H, W) -> conv5_3, float (N, 32 * width, H / stride, W / stride)."""
        x = F.max_pool2d(self.conv1_3(self.conv1_2(self.conv1_1(x))), 3, stride=2, padding=1)
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return x

    def pyramid(self, x: torch.Tensor) -> torch.Tensor:
        """x plus its averages over 1, 2, 3 and 6 bins a side, each resized back; float (N, C, h, w) -> the same."""
        pool, spread = pyramid_matrices(*x.shape[2:], align_corners=False)
        return x + ((x.flatten(2) @ pool.to(x)) @ spread.to(x)).reshape(x.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, ceil(H / stride), ceil(W / stride))."""
        logits: torch.Tensor = self.conv6(self.conv5_4(self.pyramid(self.trunk(x))))
        return logits


class DeployedPSPNetSum(nn.Module):
    """The same function of raw pixels in an equal, cheaper form.

    `conv5_4`, without its bias, commutes with averages and resizing, and runs before the pyramid, which then has a
    quarter of the channels; the normalisation's gain moves into the first convolution.
    """

    def __init__(self, net: PSPNetSum, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        self.net.conv1_1.conv.weight.data *= gain.reshape(1, 3, 1, 1)
        self.context = fuse_conv_bn_eval(self.net.conv5_4.conv, self.net.conv5_4.bn)
        assert self.context.bias is not None
        self.context_bias = nn.Parameter(self.context.bias.detach().reshape(1, -1, 1, 1))
        self.context.bias = None
        del self.net.conv5_4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits at 1 / stride, as the network gives for `x * gain`."""
        context = F.relu(self.net.pyramid(self.context(self.net.trunk(x))) + self.context_bias)
        logits: torch.Tensor = self.net.conv6(context)
        return logits


def pspnet50_sum_os16(classes: int) -> PSPNetSum:
    """Its deepest maps at 1/16 of the image."""
    return PSPNetSum(classes, stride=16)


def pspnet50_sum_os32(classes: int) -> PSPNetSum:
    """Its deepest maps at 1/32 of the image."""
    return PSPNetSum(classes, stride=32)


def pspnet50_sum_half(classes: int) -> PSPNetSum:
    """With half of its kernels: what the paper calls the compressed PSPNet50, and compares ICNet with."""
    return PSPNetSum(classes, width=FULL_WIDTH // 2)


def pspnet50_sum_quarter(classes: int) -> PSPNetSum:
    """With a quarter of its kernels."""
    return PSPNetSum(classes, width=FULL_WIDTH // 4)
