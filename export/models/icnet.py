"""ICNet: Zhao, Qi, Shen, Shi, Jia 2018, arXiv:1704.08545, as released (hszhao/ICNet, icnet_cityscapes.prototxt)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN
from export.models.pyramid import PYRAMID_BINS, pool_matrix, resize_matrix

# The trunk in units of `width`, which is 32 in the released network (64 before its filters were pruned by half):
# stage, bottlenecks, inner channels, output channels, stride of the first one, dilation.
TRUNK = (
    ("conv2", 3, 1, 4, 1, 1),
    ("conv3", 4, 2, 8, 2, 1),
    ("conv4", 6, 4, 16, 1, 2),
    ("conv5", 3, 8, 32, 1, 4),
)
RELEASED_WIDTH = 32
FULL_WIDTH = 64
LARGEST_WIDTH = 2 * FULL_WIDTH  # that is taken from a file: a damaged one could ask for more than the memory
SHARED = ("conv2_1", "conv2_2", "conv2_3", "conv3_1")  # run on the 1/2 image; all after it on a quarter of that
CONTEXT = 8  # conv5_4_k1, in units of `width`
FUSION_CHANNELS = 128  # both cascade feature fusions
BRANCH_1_CHANNELS = (32, 32, 64)


class Channels(NamedTuple):
    """Channels that are kept or pruned together: whose filters make them, and which convolutions read them."""

    makers: tuple[str, ...]  # each a `ConvBN`; several where their outputs meet in residual sums
    readers: tuple[str, ...]  # each a `ConvBN`, or a classifier


class Guided(NamedTuple):
    """What training mode returns: logits at 1/4, and the two auxiliary ones of the cascade label guidance."""

    sub124: torch.Tensor  # float (N, classes, H/4, W/4)
    sub24: torch.Tensor  # float (N, classes, H/8, W/8)
    sub4: torch.Tensor  # float (N, classes, H/16, W/16)


def halve(x: torch.Tensor, *, align_corners: bool) -> torch.Tensor:
    """Bilinear resizing to half the size: the mean of each 2x2, or with aligned corners every second pixel."""
    return x[..., ::2, ::2] if align_corners else F.avg_pool2d(x, 2)


def double(x: torch.Tensor, *, align_corners: bool) -> torch.Tensor:
    """Bilinear resizing to twice the size, or with aligned corners from n to 2n - 1."""
    size = [2 * n - align_corners for n in x.shape[2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def pyramid_matrices(height: int, width: int, *, align_corners: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The whole pyramid pooling as two constants, `x + (x @ pool) @ spread` over flattened cells.

    Adaptive pooling would export to hundreds of Gathers wherever a bin does not divide the map.

    Returns:
        pool: float32 (height * width, 50), an average a column, for bins 1, 2, 3 and 6.
        spread: float32 (50, height * width), each average's bilinear share in a cell.
    """
    pools, spreads = [], []
    for bins in PYRAMID_BINS:
        pools.append(torch.kron(pool_matrix(height, bins), pool_matrix(width, bins)))
        down, across = (resize_matrix(bins, n, align_corners=align_corners) for n in (height, width))
        spreads.append(torch.kron(down, across))
    return torch.cat(pools).T.contiguous(), torch.cat(spreads, dim=1).T.contiguous()


class Bottleneck(nn.Module):
    """Residual block of the trunk; the stride is on the 1x1 reduction, as in the release."""

    def __init__(self, cin: int, inner: int, cout: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.reduce = ConvBN(cin, inner, 1, stride=stride)
        self.conv = ConvBN(inner, inner, 3, dilation=dilation)
        self.increase = ConvBN(inner, cout, 1, relu=False)
        self.project = ConvBN(cin, cout, 1, stride=stride, relu=False) if stride > 1 or cin != cout else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, h / stride, w / stride)."""
        shortcut = x if self.project is None else self.project(x)
        return F.relu(shortcut + self.increase(self.conv(self.reduce(x))))


class Fusion(nn.Module):
    """Cascade feature fusion: the coarse map doubled and convolved at dilation 2, plus the fine map projected."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.conv = ConvBN(coarse, FUSION_CHANNELS, 3, dilation=2, relu=False)
        self.project = ConvBN(fine, FUSION_CHANNELS, 1, relu=False)

    def forward(self, doubled: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """float (N, coarse, h, w) already doubled, float (N, fine, h, w) -> float (N, 128, h, w)."""
        return F.relu(self.conv(doubled) + self.project(fine))


class ICNet(nn.Module):
    """ICNet for `classes` classes.

    The trunk runs on the half image to conv3_1; its output, halved again, goes on through conv5_4 and joins conv3_1
    (sub24), then the shallow branch on the full image (sub124). Resizing takes pixel centres at halves, so that sizes
    are multiples of 32; the release aligns corners and takes sizes of 32k + 1.

    Source: icnet_cityscapes.prototxt; section 3 of the paper.
    """

    def __init__(self, classes: int, *, width: int = RELEASED_WIDTH, align_corners: bool = False) -> None:
        super().__init__()
        self.classes, self.width = classes, width
        self.align_corners = align_corners
        context = CONTEXT * width
        self.conv1_1 = ConvBN(3, width, 3, stride=2)
        self.conv1_2 = ConvBN(width, width, 3)
        self.conv1_3 = ConvBN(width, 2 * width, 3)
        channels = 2 * width
        self.trunk: list[str] = []
        for stage, count, inner, out, stride, dilation in TRUNK:
            for i in range(1, count + 1):
                block = Bottleneck(channels, inner * width, out * width, stride if i == 1 else 1, dilation)
                self.add_module(f"{stage}_{i}", block)
                self.trunk.append(f"{stage}_{i}")
                channels = out * width
        self.conv5_4 = ConvBN(channels, context, 1)
        self.fusion_24 = Fusion(context, 8 * width)
        shallow_1, shallow_2, shallow_3 = BRANCH_1_CHANNELS
        self.conv1_sub1 = ConvBN(3, shallow_1, 3, stride=2)
        self.conv2_sub1 = ConvBN(shallow_1, shallow_2, 3, stride=2)
        self.conv3_sub1 = ConvBN(shallow_2, shallow_3, 3, stride=2)
        self.fusion_12 = Fusion(FUSION_CHANNELS, shallow_3)
        self.conv6_cls = nn.Conv2d(FUSION_CHANNELS, classes, 1)
        self.conv6_sub4 = nn.Conv2d(context, classes, 1)  # auxiliary, used in training alone
        self.conv6_sub2 = nn.Conv2d(FUSION_CHANNELS, classes, 1)

    def channels(self) -> list[Channels]:
        """What pruning narrows, all of it a multiple of `width`: the trunk, and the context that the fusion reads.

        The fusions' 128 channels and the shallow branch are the same at every width, as in the release.
        """
        groups = [Channels(("conv1_1",), ("conv1_2",)), Channels(("conv1_2",), ("conv1_3",))]
        groups.append(Channels(("conv1_3",), ("conv2_1.reduce", "conv2_1.project")))
        for stage, count, *_ in TRUNK:
            blocks = [f"{stage}_{i}" for i in range(1, count + 1)]
            following = f"conv{int(stage[-1]) + 1}_1"
            readers = [f"{following}.reduce", f"{following}.project"] if following in self.trunk else ["conv5_4"]
            readers += ["fusion_24.project"] if blocks[0] in SHARED[-1:] else []
            for block in blocks:
                groups.append(Channels((f"{block}.reduce",), (f"{block}.conv",)))
                groups.append(Channels((f"{block}.conv",), (f"{block}.increase",)))
            makers = (f"{blocks[0]}.project", *(f"{block}.increase" for block in blocks))
            groups.append(Channels(makers, (*(f"{block}.reduce" for block in blocks[1:]), *readers)))
        groups.append(Channels(("conv5_4",), ("fusion_24.conv", "conv6_sub4")))
        # A part of the network, or one without its training's classifiers, has not all of the readers.
        own = {name for name, _ in self.named_modules()}
        return [Channels(makers, tuple(name for name in readers if name in own)) for makers, readers in groups]

    def shared(self, half: torch.Tensor) -> torch.Tensor:
        """The half image, float (N, 3, H/2, W/2) -> conv3_1, float (N, 256, H/16, W/16)."""
        x = F.max_pool2d(self.conv1_3(self.conv1_2(self.conv1_1(half))), 3, stride=2, padding=1)
        for name in SHARED:
            x = getattr(self, name)(x)
        return x

    def deep(self, x: torch.Tensor) -> torch.Tensor:
        """conv3_1 halved, float (N, 256, H/32, W/32) -> conv5_3, float (N, 1024, H/32, W/32)."""
        for name in self.trunk[len(SHARED) :]:
            x = getattr(self, name)(x)
        return x

    def pyramid(self, x: torch.Tensor) -> torch.Tensor:
        """x plus its averages over 1, 2, 3 and 6 bins a side, each resized back; float (N, C, h, w) -> the same."""
        pool, spread = pyramid_matrices(*x.shape[2:], align_corners=self.align_corners)
        return x + ((x.flatten(2) @ pool.to(x)) @ spread.to(x)).reshape(x.shape)

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """The full image, float (N, 3, H, W) -> float (N, 64, H/8, W/8)."""
        return self.conv3_sub1(self.conv2_sub1(self.conv1_sub1(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor | Guided:
        """float (N, 3, H, W), H and W multiples of 32 -> logits float (N, classes, H/4, W/4); `Guided` in training."""
        corners = self.align_corners
        fine = self.shared(halve(x, align_corners=corners))
        sub4 = double(self.conv5_4(self.pyramid(self.deep(halve(fine, align_corners=corners)))), align_corners=corners)
        sub24 = double(self.fusion_24(sub4, fine), align_corners=corners)
        sub124 = double(self.fusion_12(sub24, self.shallow(x)), align_corners=corners)
        logits = self.conv6_cls(sub124)
        if not self.training:
            return logits
        return Guided(logits, self.conv6_sub2(sub24), self.conv6_sub4(sub4))


def width_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """The width of an ICNet's tensors; the release's where they are none of an ICNet, which loading then refuses."""
    first = tensors.get("conv1_1.conv.weight")
    known = first is not None and first.dim() == 4 and 1 <= len(first) <= LARGEST_WIDTH
    return len(first) if first is not None and known else RELEASED_WIDTH
