"""Quantisation-aware training: a network meets INT8's rounding while it trains, and learns to bear it.

In training mode each convolution sees its input and its weights as `calib.qdq` will round them: symmetric, a scale a
tensor, one an output channel. Normalisation is folded into the weights at export, which scales an output channel as a
whole and so leaves its codes as they are. The gradient passes through the rounding, but not where a value is clipped.
What a residual sum adds to a convolution is left as it is, though INT8 rounds it too.
In evaluation mode, and in the weights that are kept, nothing is rounded: `make calib` and `make engine PRECISION=int8`
take them like any other.

Source: Jacob et al. 2018, arXiv:1712.05877, section 3; Bengio et al. 2013, arXiv:1308.3432 (straight-through gradient).
"""

import math

import torch
from torch import nn

LEVELS = 127  # codes of one sign
PERCENTILE = 99.99  # of the values that are not zero, as one of `calib`'s methods chooses a range
SAMPLED = 1 << 18  # values of a tensor, at most, that its percentile is taken from
SMALLEST = 1e-12  # of a range: a tensor of zeros has none


def reached(values: torch.Tensor) -> float:
    """The magnitude that `PERCENTILE` % of the values that are not zero stay below, from at most `SAMPLED` of them."""
    step = -(-values.numel() // SAMPLED)
    while math.gcd(step, values.shape[1]) > 1:  # with a common divisor some channels would never be seen
        step += 1
    # Channels-last memory is read as it lies, without a copy.
    values = values.detach()
    lying = values.permute(0, 2, 3, 1) if values.is_contiguous(memory_format=torch.channels_last) else values
    magnitudes = lying.reshape(-1)[::step].float().abs()
    if not torch.isfinite(magnitudes).all():
        return math.nan  # which every value then becomes: a diverged training has to show
    magnitudes = magnitudes[magnitudes > 0]
    if not len(magnitudes):
        return SMALLEST
    rank = max(1, round(len(magnitudes) * PERCENTILE / 100))
    return float(magnitudes.kthvalue(rank).values)


def rounded_activation(values: torch.Tensor) -> torch.Tensor:
    """A tensor as its INT8 codes give it, clipped at what it `reached` in this batch; float32, the same shape."""
    scale = reached(values) / LEVELS
    if math.isnan(scale):
        return values.float() * scale
    return torch.fake_quantize_per_tensor_affine(values.float(), scale, 0, -LEVELS, LEVELS)


def rounded_weight(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """A kernel as its INT8 codes give it, a scale for each channel of `axis`; the largest weight is not clipped."""
    weight = weight.float()
    largest = weight.detach().transpose(0, axis).flatten(1).abs().amax(1).clamp(min=SMALLEST)
    zeros = torch.zeros_like(largest, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, largest / LEVELS, zeros, axis, -LEVELS, LEVELS)


class QuantizedConv2d(nn.Conv2d):
    """An nn.Conv2d that rounds input and weights while it trains."""

    reads_frame = False  # whose 8 bits are all that it has: only the weights are rounded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, h', w')."""
        if not self.training:
            return super().forward(x)
        x = x if self.reads_frame else rounded_activation(x)
        return self._conv_forward(x, rounded_weight(self.weight, 0), self.bias)


class QuantizedBlocks(nn.ConvTranspose2d):
    """A deconvolution of stride 2 that is deployed as `export.models.layers.Subpixels`, and rounded as that one is."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, h * 2, w * 2)."""
        if not self.training:
            return super().forward(x, output_size)
        weight = torch.zeros_like(self.weight, dtype=torch.float32)
        # Every second tap belongs to one place of the 2x2, which has a scale of its own.
        for place in ((..., slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)):
            weight[place] = rounded_weight(self.weight[place], 1)
        shape = {name: getattr(self, name) for name in ("stride", "padding", "output_padding")}
        return nn.functional.conv_transpose2d(rounded_activation(x), weight, self.bias, **shape)


def quantize_training(net: nn.Module, *, blocks: bool, channels: int = 3) -> int:
    """Let every layer that INT8 will quantize train as it will be; parameters stay as they are. Returns how many.

    Deconvolutions stay in FP16 and are left alone, but for those that are deployed as convolutions.

    Args:
        net: its convolutions become `QuantizedConv2d`.
        blocks: whether its deconvolutions are deployed as convolutions, as those of a network in blocks are
            (`Network.block`).
        channels: of the frame, by which the convolutions that read it are known.
    """
    found = 0
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = QuantizedConv2d
            module.reads_frame = module.in_channels == channels  # type: ignore[assignment]
        elif blocks and type(module) is nn.ConvTranspose2d:
            module.__class__ = QuantizedBlocks
        else:
            continue
        found += 1
    return found
