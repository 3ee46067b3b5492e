"""What `--compile` compiles for training: the loss, and networks of PReLUs. docs/training.md says what it brings."""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from export.training.fake_quantize import QuantizedConv2d
from export.training.losses import pixel_loss
from runtime.errors import LibraryError


def compile_network(net: nn.Module) -> None:
    """Let a network of PReLUs train in kernels compiled for each size of its views; its parameters stay as they are.

    What cannot be compiled whole is an error at the first step, and never runs uncompiled without a word. Any other
    network is left alone: ICNet's steps are slower compiled. So is one that trains as `quantize_training` says: every
    layer of it stops to look at its values.
    """
    kinds = {type(module) for module in net.modules()}
    if nn.PReLU in kinds and QuantizedConv2d not in kinds:
        net.compile(dynamic=False, fullgraph=True)


@cache
def compiled_loss() -> Callable[..., torch.Tensor]:
    """`pixel_loss`, its passes over the logits of every pixel fused."""
    return torch.compile(pixel_loss, dynamic=True)


def check_compiler() -> None:
    """Refuse `--compile` where there is no C++ compiler that works, by compiling one line.

    Raises:
        LibraryError: there is none.
    """
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    try:
        torch.compile(lambda x: x + 1, fullgraph=True)(torch.zeros(4))
    except (BackendCompilerFailed, CppCompileError, InductorError, InvalidCxxCompiler) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise LibraryError(f"--compile needs a C++ compiler ({reason}); leave it out") from None
