"""Muon: SGD with momentum whose direction is made orthogonal, kernel by kernel, before it is taken."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.9
KERNEL_SHARE = 0.5  # of the learning rate: how far a kernel moves in a step, by its own norm
# Newton-Schulz, x -> a x + b (x x') x + c (x x')^2 x: five rounds take singular values of 0.01 to 1 near 1.
COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5
TINY = 1e-12  # a norm that is none


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values replaced by ones between about 0.7 and 1.2; small ones stay smaller.

    Args:
        matrix: float32 (..., rows, columns), each by itself.

    Returns:
        the same shape. Singular values under a hundredth of the matrix' norm come out below 0.7, zero as zero.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    if matrix.shape[-2] > matrix.shape[-1]:
        return orthogonal(matrix.mT).mT
    a, b, c = COEFFICIENTS
    matrix = matrix / matrix.norm(dim=(-2, -1), keepdim=True).clamp(min=TINY)
    # As all rounds multiply from the same side, they are taken on the small product with itself.
    product, factor = matrix @ matrix.mT, torch.eye(matrix.shape[-2], device=matrix.device)
    for _ in range(ROUNDS):
        step = b * product + c * (product @ product)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product, factor = step @ product @ step, step @ factor
    return factor @ matrix


class Muon(torch.optim.Optimizer):
    """Muon for the kernels that a normalisation follows, SGD with Nesterov's momentum for everything else.

    A kernel moves by a share of its norm, on which nothing depends but how far the next step turns it, so that it wants
    no decay.
    """

    def __init__(self, net: nn.Module, classes: int, lr: float, weight_decay: float) -> None:
        """Take what of the network is trained.

        Of a convolution in groups each group's kernel is a matrix of its own: of a depthwise one a row.

        Args:
            net: in it a normalisation follows every convolution but those that give logits.
            classes: how many channels those have.
            lr: the learning rate.
            weight_decay: of the kernels that give logits.
        """
        convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
        inner = [module for module in convolutions if module.out_channels != classes]
        kernels = {id(tensor): module.groups for module in inner for tensor in module.parameters() if tensor.ndim > 1}
        groups: dict[str, list[nn.Parameter]] = {"kernels": [], "matrices": [], "vectors": []}
        for parameter in net.parameters():
            if parameter.requires_grad:
                kind = "kernels" if id(parameter) in kernels else "matrices" if parameter.ndim > 1 else "vectors"
                groups[kind].append(parameter)
        super().__init__(
            [
                {"params": groups["kernels"], "orthogonal": True, "weight_decay": 0.0},
                {"params": groups["matrices"], "orthogonal": False, "weight_decay": weight_decay},
                {"params": groups["vectors"], "orthogonal": False, "weight_decay": 0.0},
            ],
            {"lr": lr},
        )
        self._groups = kernels

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update by the gradients there are.

        Raises:
            ValueError: a closure is given.
        """
        if closure is not None:
            raise ValueError("Muon takes the gradients that are there, and no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                # Of a kernel without a gradient only old momentum is left, which would be made as long as any other.
                if parameter.grad is not None and (not group["orthogonal"] or parameter.grad.any()):
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = parameter.grad + group["weight_decay"] * parameter
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        move, length = gradient + MOMENTUM * momentum, group["lr"]
        if group["orthogonal"]:
            groups = self._groups[id(parameter)]
            move = orthogonal(move.flatten(1).view(groups, len(move) // groups, -1)).view_as(move)
            length *= KERNEL_SHARE * parameter.norm() / move.norm().clamp(min=TINY)
        parameter.sub_(length * move)
