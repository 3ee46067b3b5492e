"""Blocks that more than one network uses."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

SMALLEST_RANGE = 1e-30  # of a tensor: a constant one has no range to be a share of

Positions = torch.Tensor
# The places of a 2x2 window in PyTorch's row-major scan: of equal maxima the first has the largest rank.
RANKS = ((4.0, 3.0), (2.0, 1.0))


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, optionally a ReLU; the padding keeps the size at stride 1."""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        relu: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, dilation * (kernel // 2), dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=eps)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class Separable(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 of all; a ReLU after it, and `inside` one before too."""

    def __init__(self, cin: int, cout: int, *, stride: int = 1, dilation: int = 1, inside: bool = True) -> None:
        depthwise = ConvBN(cin, cin, 3, stride=stride, dilation=dilation, groups=cin, relu=inside)
        super().__init__(depthwise, ConvBN(cin, cout, 1))


class Subpixels(nn.Conv2d):
    """A deconvolution of stride 2 as a convolution to four times the channels: a pixel's 2x2 outputs of each in a row.

    Equal, and its weights are a convolution's, which every engine quantizes. `F.pixel_shuffle(x, 2)` spreads them.
    """

    def __init__(self, deconvolution: nn.ConvTranspose2d) -> None:
        """Copy it: windows of 2x2, or of 3x3 padded by 1 with as much added to the output."""
        cin, cout, window, _ = deconvolution.weight.shape
        shape = (deconvolution.stride, deconvolution.padding, deconvolution.output_padding)
        assert (window, shape) in ((2, ((2, 2), (0, 0), (0, 0))), (3, ((2, 2), (1, 1), (1, 1)))), "other windows"
        super().__init__(cin, cout * 4, window - 1, bias=deconvolution.bias is not None)
        # Of 3x3 an output's first row is the middle of its pixel's window, its second one the end and the next's start.
        taps = ((0, 0, 0), (1, 0, 1)) if window == 2 else ((0, 0, 1), (1, 0, 2), (1, 1, 0))  # output, input, tap
        weight = deconvolution.weight.new_zeros(cout, 2, 2, *self.weight.shape[1:])
        for down, y, tap_down in taps:
            for right, x, tap_right in taps:
                weight[:, down, right, :, y, x] = deconvolution.weight.detach()[:, :, tap_down, tap_right].T
        self.weight.data = weight.reshape(self.weight.shape)
        if self.bias is not None and deconvolution.bias is not None:
            self.bias.data = deconvolution.bias.detach().repeat_interleave(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout * 4, h, w)."""
        more = self.kernel_size[0] - 1
        return super().forward(F.pad(x, (0, more, 0, more)) if more else x)


class Gained(nn.Module):
    """A network of raw pixels: the normalisation's gain goes into the convolutions that read the image."""

    def __init__(self, net: nn.Module, gain: torch.Tensor, *readers: str) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__()
        self.net = copy.deepcopy(net).eval()
        for name in readers:
            cast(nn.Conv2d, self.net.get_submodule(name)).weight.data *= gain.reshape(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits as the network gives for `x * gain`."""
        return cast(torch.Tensor, self.net(x))


def max_pool_2x2(x: torch.Tensor) -> tuple[torch.Tensor, Positions]:
    """2x2 maxima at stride 2, and where each one was.

    The positions are PyTorch's plane indices. While exporting to ONNX they are the ranks of the places, because no
    engine takes MaxPool's second output: every place that holds its window's maximum has its rank, and the largest of
    a window is that of the first, which PyTorch's scan keeps. The others have the last place's, so that a window has a
    position also where an engine compares values that it has not rounded yet with maxima that it has.

    Args:
        x: float (N, C, h, w), h and w even.

    Returns:
        float (N, C, h/2, w/2), and as many positions for `max_unpool_2x2`: int64, or exported float from 1 to 4.
    """
    if _replays:
        return _replays[-1].pool(x)
    if not torch.onnx.is_in_onnx_export():
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        return pooled, indices
    pooled = F.max_pool2d(x, 2)
    ranks = torch.where(_windows(x) >= _spread(pooled), _ranks(x), torch.ones((), dtype=x.dtype))
    return pooled, F.max_pool2d(ranks.reshape(x.shape), 2)


def max_unpool_2x2(y: torch.Tensor, positions: Positions) -> torch.Tensor:
    """Each value back where its maximum was, zeros elsewhere: the inverse of `max_pool_2x2`.

    Args:
        y: float (N, C, h, w).
        positions: what `max_pool_2x2` returned for a tensor of (N, C, 2h, 2w).

    Returns:
        float (N, C, 2h, 2w).
    """
    if not positions.is_floating_point():
        return F.max_unpool2d(y, positions, [2, 2])
    n, channels, height, width = y.shape
    values = torch.where(_spread(positions) == _ranks(y), _spread(y), torch.zeros((), dtype=y.dtype))
    return values.reshape(n, channels, 2 * height, 2 * width)


class Replay:
    """Positions that another run of the same network took, for `max_pool_2x2` to take again.

    Two runs that round differently choose differently between maxima that are equal but for rounding, and the logits
    there are then simply others. Replaying the choices makes the runs comparable to the last digit, and `slack` says
    how much any choice fell short of the true maximum, as a share of its tensor's range: rounding, or a real mistake.
    """

    def __init__(self, positions: list[Positions]) -> None:
        self.positions = list(positions)
        self.slack = 0.0

    def pool(self, x: torch.Tensor) -> tuple[torch.Tensor, Positions]:
        """What `max_pool_2x2` returns, with the next replayed ranks."""
        positions = self.positions.pop(0)
        taken = _spread(positions) == _ranks(x)
        chosen = torch.where(taken, _windows(x), -torch.inf).amax(dim=(3, 5))
        pooled = F.max_pool2d(x, 2)
        self.slack = max(self.slack, float((pooled - chosen).max() / (x.max() - x.min()).clamp(min=SMALLEST_RANGE)))
        return pooled, positions


_replays: list[Replay] = []


@contextmanager
def replaying(positions: list[Positions]) -> Iterator[Replay]:
    """Inside, `max_pool_2x2` takes these positions in order instead of finding its own."""
    _replays.append(Replay(positions))
    try:
        yield _replays[-1]
    finally:
        _replays.pop()


def _windows(x: torch.Tensor) -> torch.Tensor:
    # (N, C, h, w) -> (N, C, h/2, 2, w/2, 2), a view. Whatever is compared or moved by windows is elementwise on such
    # views, which an engine fuses to one pass; quarters cut out and joined again are five (figures/views-enet-*.json).
    n, channels, height, width = x.shape
    return x.reshape(n, channels, height // 2, 2, width // 2, 2)


def _spread(y: torch.Tensor) -> torch.Tensor:
    # (N, C, h, w) -> (N, C, h, 1, w, 1): a value for each window.
    n, channels, height, width = y.shape
    return y.reshape(n, channels, height, 1, width, 1)


def _ranks(x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(RANKS, dtype=x.dtype).reshape(1, 1, 1, 2, 1, 2)
