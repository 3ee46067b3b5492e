"""The layers that train in float32 where all others train in bfloat16."""

from functools import partial
from typing import cast

import torch
from torch import nn


def keep_in_float32(net: nn.Module) -> None:
    """Let dilated depthwise convolutions compute in float32, whatever autocast says; parameters stay as they are.

    The gradient of their kernels in bfloat16 is garbage on a CPU, and NaN now and then: seen with PyTorch 2.13, oneDNN
    3.12, AVX-512 with BF16; `tests/export/training/test_float32_layers.py` shows it.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == module.groups and max(module.dilation) > 1:
            module.forward = partial(_in_float32, module)  # type: ignore[method-assign]


def _in_float32(module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return cast(torch.Tensor, type(module).forward(module, x.float()))
