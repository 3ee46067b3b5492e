"""What `--compile` compiles for training on a CPU: PReLU, whose PyTorch kernels are not vectorised there, and the loss.

README's section on training says what it brings.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from export.losses import pixel_loss
from runtime.errors import LibraryError


def _forward(x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, x * slopes.to(x.dtype)[:, None, None])


def _backward(x: torch.Tensor, slopes: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    below = (x.clamp_max(0) * grad).movedim(1, -1).reshape(-1, x.shape[1]).sum(0, dtype=torch.float32)
    return torch.where(x > 0, grad, grad * slopes.to(x.dtype)[:, None, None]), below.sum_to_size(slopes.shape)


@cache
def _compiled() -> tuple[Any, Any]:
    return torch.compile(_forward, dynamic=True), torch.compile(_backward, dynamic=True)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, slopes)
        return _compiled()[0](x, slopes)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return _compiled()[1](*ctx.saved_tensors, grad)


class CompiledPReLU(nn.PReLU):
    """An nn.PReLU that trains faster, and in evaluation mode is one; under autocast it keeps the type it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, C, h, w) -> the same."""
        return _Function.apply(x, self.weight) if self.training else super().forward(x)


def compile_prelus(net: nn.Module) -> None:
    """Let every nn.PReLU of the network train in compiled kernels, its parameters as they are."""
    for module in net.modules():
        if type(module) is nn.PReLU:
            module.__class__ = CompiledPReLU


@cache
def compiled_loss() -> Callable[..., torch.Tensor]:
    """`pixel_loss`, its passes over the logits of every pixel fused."""
    return torch.compile(pixel_loss, dynamic=True)


def check_compiler() -> None:
    """Refuse `--compile` where there is no C++ compiler.

    Raises:
        LibraryError: there is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise LibraryError(f"--compile needs a C++ compiler ({str(error).splitlines()[0]}); leave it out") from None
