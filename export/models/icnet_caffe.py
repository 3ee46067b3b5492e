"""ICNet exactly as released (hszhao/ICNet, icnet_cityscapes.prototxt): corners aligned, its own pooling windows."""

import torch

from export.models.icnet import RELEASED_WIDTH, ICNet, double, halve
from export.models.pyramid import PYRAMID_BINS, resize_matrix


def window(bins: int, cells: int) -> tuple[int, int]:
    """Kernel and stride of the pyramid's average pooling into `bins` along a map of `cells`.

    The release gives them for maps of 33x65 alone (1, 2, 3 and 6 bins: 33x65, 17x33/16x32, 13x25/10x20, 8x15/5x10).
    These formulas give the same there, and windows that overlap likewise on other maps.
    """
    stride = {1: cells, 2: cells // 2, 3: 2 * (cells // 6), 6: cells // 6}[bins]
    return cells - stride * (bins - 1), stride


def window_matrix(cells: int, bins: int) -> torch.Tensor:
    """float32 (bins, cells): row i averages the cells of window i."""
    kernel, stride = window(bins, cells)
    matrix = torch.zeros(bins, cells)
    for i in range(bins):
        matrix[i, i * stride : i * stride + kernel] = 1 / kernel
    return matrix


class ICNetCaffe(ICNet):
    """The released ICNet for `classes` classes, without the training's auxiliary classifiers.

    The release's last layer, conv6_interp, from 257x513 to 1025x2049 with corners aligned, is left to who takes the
    argmax (`ModelSpec.upsample`).

    Source: icnet_cityscapes.prototxt (hszhao/ICNet, dd2bf78).
    """

    def __init__(self, classes: int, *, width: int = RELEASED_WIDTH) -> None:
        super().__init__(classes, width=width, align_corners=True)
        del self.conv6_sub4, self.conv6_sub2

    def pyramid(self, x: torch.Tensor) -> torch.Tensor:
        """x plus its window averages, each resized back; float (N, C, h, w) -> the same."""
        height, width = x.shape[2:]
        pools, spreads = [], []
        for bins in PYRAMID_BINS:
            pools.append(torch.kron(window_matrix(height, bins), window_matrix(width, bins)))
            down, across = (resize_matrix(bins, n, align_corners=True) for n in (height, width))
            spreads.append(torch.kron(down, across))
        pool, spread = torch.cat(pools).T.contiguous().to(x), torch.cat(spreads, dim=1).T.contiguous().to(x)
        return x + ((x.flatten(2) @ pool) @ spread).reshape(x.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W), H and W of the form 32k + 1 -> logits float (N, classes, (H + 3) / 4, (W + 3) / 4)."""
        fine = self.shared(halve(x, align_corners=True))
        sub4 = self.conv5_4(self.pyramid(self.deep(halve(fine, align_corners=True))))
        sub24 = self.fusion_24(double(sub4, align_corners=True), fine)
        sub124 = self.fusion_12(double(sub24, align_corners=True), self.shallow(x))
        return self.conv6_cls(double(sub124, align_corners=True))
