"""Pyramid pooling: averages of 1, 2, 3 and 6 bins a side, each convolved and resized back to the map it is of.

Adaptive pooling would export to hundreds of Gathers wherever a bin does not divide the map. Pooling and bilinear
resizing are separable: here they are small constant matrices for rows and columns.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.models.layers import ConvBN

PYRAMID_BINS = (1, 2, 3, 6)
TAPS = 3  # of a kernel, in rows and columns


def pool_matrix(size: int, bins: int) -> torch.Tensor:
    """float32 (bins, size): row i averages the cells of adaptive average pooling's bin i."""
    matrix = torch.zeros(bins, size)
    for i in range(bins):
        start, stop = i * size // bins, -(-(i + 1) * size // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def resize_matrix(bins: int, size: int, *, align_corners: bool) -> torch.Tensor:
    """float32 (size, bins): bilinear resizing from `bins` to `size` cells."""
    identity = torch.eye(bins).reshape(1, bins, bins, 1)  # one channel a source cell
    resized = F.interpolate(identity, size=(size, 1), mode="bilinear", align_corners=align_corners)
    # Of a single row its transpose keeps strides that the exporter cannot view as a matrix.
    return resized.reshape(bins, size).T.contiguous()


def averages(x: torch.Tensor, convs: Iterable[nn.Module]) -> list[torch.Tensor]:
    """The averages of float (N, C, h, w) for 1, 2, 3 and 6 bins a side, convolved: float (N, C', bins, bins) each."""
    height, width = x.shape[2:]
    # All columns' averages in one pass over the map, which is much larger than what comes of it.
    wide = x @ torch.cat([pool_matrix(width, bins) for bins in PYRAMID_BINS]).T.contiguous().to(x)
    found, start = [], 0
    for bins, conv in zip(PYRAMID_BINS, convs, strict=True):
        columns = wide[..., start : start + bins]  # the exporter computes slices of constants, and leaves splits
        found.append(conv(pool_matrix(height, bins).to(x) @ columns))
        start += bins
    return found


def spread(cells: torch.Tensor, height: int, width: int, *, align_corners: bool) -> torch.Tensor:
    """float (N, C, bins, bins) -> float (N, C, height, width), bilinear."""
    bins = cells.shape[2]
    down, across = (resize_matrix(bins, n, align_corners=align_corners).to(cells) for n in (height, width))
    return down @ (cells @ across.T.contiguous())


class TappedPyramid(nn.Module):
    """A 3x3 convolution of a map and its pyramid, without ever writing the pyramid as maps.

    The convolution of a resized average is a sum, over its nine taps, of that average times the tap's weight times a
    constant: how the resizing spreads it, shifted by the tap. So the pyramid's channels are convolved as the 50 cells
    that they are: half of the arithmetic of PSPNet's largest convolution, a quarter of ICNet's on ResNet-18.
    """

    def __init__(self, bottleneck: ConvBN, pooled: int, *, align_corners: bool, map_first: bool) -> None:
        """Split the convolution of [map, four times `pooled` channels], or of the latter first."""
        super().__init__()
        whole = fuse_conv_bn_eval(bottleneck.conv, bottleneck.bn)
        weight, count = whole.weight.detach(), len(PYRAMID_BINS)
        channels = whole.in_channels - count * pooled
        direct, rest = (weight[:, :channels], weight[:, channels:]) if map_first else (
            weight[:, count * pooled :], weight[:, : count * pooled]
        )  # fmt: skip
        self.align_corners = align_corners
        self.direct = nn.Conv2d(channels, whole.out_channels, TAPS, padding=1)
        self.direct.weight, self.direct.bias = nn.Parameter(direct.contiguous()), whole.bias
        self.taps = nn.ModuleList()
        for part in rest.split(pooled, dim=1):
            conv = nn.Conv2d(pooled, TAPS**2 * whole.out_channels, 1, bias=False)
            # Channel `(c * 3 + row) * 3 + column`, so that a reshape puts the taps beside the cells.
            conv.weight.data = part.permute(0, 2, 3, 1).reshape(-1, pooled, 1, 1)
            self.taps.append(conv)

    def forward(self, x: torch.Tensor, cells: list[torch.Tensor]) -> torch.Tensor:
        """float (N, C, h, w) and its convolved `averages` -> float (N, C'', h, w), after its ReLU."""
        height, width = x.shape[2:]
        rows, downs = [], []
        for average, taps in zip(cells, self.taps, strict=True):
            bins, down = average.shape[2], self._shifted(average.shape[2], height).to(x)
            tapped = cast(torch.Tensor, taps(average)).reshape(x.shape[0], -1, TAPS, TAPS, bins, bins)
            tapped = tapped.permute(0, 1, 2, 4, 3, 5).reshape(x.shape[0], -1, TAPS * bins, TAPS * bins)
            rows.append(tapped @ self._shifted(bins, width).to(x))
            downs.append(down)
        pooled = torch.cat(downs).T.contiguous() @ torch.cat(rows, dim=2)
        return F.relu(self.direct(x) + pooled)

    def _shifted(self, bins: int, size: int) -> torch.Tensor:
        # float (3 * bins, size): a cell's share in each place, as each tap of a kernel with zeros around sees it.
        shares = F.pad(resize_matrix(bins, size, align_corners=self.align_corners).T, (1, 1))
        return torch.cat([shares[:, tap : tap + size] for tap in range(TAPS)])
