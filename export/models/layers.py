"""Blocks that more than one network uses."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

SMALLEST_RANGE = 1e-30  # of a tensor: a constant one has no range to be a share of

Positions = tuple[torch.Tensor, ...]


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
        relu: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=eps)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


def max_pool_2x2(x: torch.Tensor) -> tuple[torch.Tensor, Positions]:
    """2x2 maxima at stride 2, and where each one was.

    Eagerly the positions are PyTorch's plane indices. While exporting they are three comparisons, because no
    engine takes MaxPool's second output: `top` (the maximum is in the upper row), `left_top` and `left_bottom`
    (in the left column of that row). `>=` keeps the first of equal values, as PyTorch's row-major scan does.

    Args:
        x: float (N, C, h, w), h and w even.

    Returns:
        float (N, C, h/2, w/2), and the positions for `max_unpool_2x2`.
    """
    if _replays:
        return _replays[-1].pool(x)
    if not torch.compiler.is_exporting():
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        return pooled, (indices,)
    a, b, c, d = _quarters(x)
    upper, lower = torch.maximum(a, b), torch.maximum(c, d)
    return torch.maximum(upper, lower), (upper >= lower, a >= b, c >= d)


def max_unpool_2x2(y: torch.Tensor, positions: Positions) -> torch.Tensor:
    """Each value back where its maximum was, zeros elsewhere: the inverse of `max_pool_2x2`.

    Args:
        y: float (N, C, h, w).
        positions: what `max_pool_2x2` returned for a tensor of (N, C, 2h, 2w).

    Returns:
        float (N, C, 2h, 2w).
    """
    if len(positions) == 1:
        return F.max_unpool2d(y, positions[0], [2, 2])
    top, left_top, left_bottom = positions
    zero = torch.zeros((), dtype=y.dtype)
    upper, lower = torch.where(top, y, zero), torch.where(top, zero, y)
    quarters = (
        torch.where(left_top, upper, zero),
        torch.where(left_top, zero, upper),
        torch.where(left_bottom, lower, zero),
        torch.where(left_bottom, zero, lower),
    )
    if torch.onnx.is_in_onnx_export():
        n, channels, height, width = y.shape
        planes, whole = torch.cat(quarters, dim=1), (n, channels, 2 * height, 2 * width)
        return torch.onnx.ops.symbolic(
            "DepthToSpace", (planes,), {"blocksize": 2, "mode": "DCR"}, dtype=y.dtype, shape=whole
        )
    return torch.pixel_shuffle(torch.stack(quarters, dim=2).flatten(1, 2), 2)


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
        """What `max_pool_2x2` returns, with the next replayed positions."""
        top, left_top, left_bottom = self.positions.pop(0)
        a, b, c, d = _quarters(x)
        chosen = torch.where(top, torch.where(left_top, a, b), torch.where(left_bottom, c, d))
        pooled = F.max_pool2d(x, 2)
        self.slack = max(self.slack, float((pooled - chosen).max() / (x.max() - x.min()).clamp(min=SMALLEST_RANGE)))
        return pooled, (top, left_top, left_bottom)


_replays: list[Replay] = []


@contextmanager
def replaying(positions: list[Positions]) -> Iterator[Replay]:
    """Inside, `max_pool_2x2` takes these positions in order instead of finding its own."""
    _replays.append(Replay(positions))
    try:
        yield _replays[-1]
    finally:
        _replays.pop()


def _quarters(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # The ONNX operators keep the channels of a quarter together, which engines with the channels last copy in one go;
    # for strided slices and interleaved channels OpenVINO reorders the whole map (figures/enet-pooling.json).
    if torch.onnx.is_in_onnx_export():
        n, channels, height, width = x.shape
        shape = (n, 4 * channels, height // 2, width // 2)
        planes = torch.onnx.ops.symbolic("SpaceToDepth", (x,), {"blocksize": 2}, dtype=x.dtype, shape=shape)
        return planes.chunk(4, dim=1)
    return x[..., 0::2, 0::2], x[..., 0::2, 1::2], x[..., 1::2, 0::2], x[..., 1::2, 1::2]
