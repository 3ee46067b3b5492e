"""PReLU whose both passes are compiled, for training on a CPU: PyTorch's own kernels there are not vectorised.

A third of a step of ENet's training was spent in them; compiled they take an eighth of that.
"""

from typing import Any

import torch
from torch import nn


def _forward(x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, x * slopes.to(x.dtype)[:, None, None])


def _backward(x: torch.Tensor, slopes: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    below = (x.clamp_max(0) * grad).movedim(1, -1).reshape(-1, x.shape[1]).sum(0, dtype=torch.float32)
    return torch.where(x > 0, grad, grad * slopes.to(x.dtype)[:, None, None]), below.sum_to_size(slopes.shape)


_compiled_forward = torch.compile(_forward, dynamic=True)
_compiled_backward = torch.compile(_backward, dynamic=True)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slopes)
        return _compiled_forward(x, slopes)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return _compiled_backward(*ctx.saved_tensors, grad)  # type: ignore[call-arg]


class CompiledPReLU(nn.PReLU):
    """An nn.PReLU that trains faster; in evaluation mode it is one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, h, w) -> the same."""
        return _Function.apply(x, self.weight) if self.training else super().forward(x)


def compile_prelus(net: nn.Module) -> None:
    """Let every nn.PReLU of the network train in compiled kernels; its parameters stay what they are."""
    for module in net.modules():
        if type(module) is nn.PReLU:
            module.__class__ = CompiledPReLU
