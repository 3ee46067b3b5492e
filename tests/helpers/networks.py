"""Networks with weights that are the same on every machine, whatever order their modules are made in."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from export import registry
from export.registry import Network, check_size
from runtime.errors import ModelError

UNPOOLED = 0.25
LARGE = 20_000_000  # parameters, from which on a network's tests take seconds each


def every_network() -> list[Any]:
    """The registered names as pytest's parameters, the large networks' among what is slow."""
    found = []
    for name in registry.names():
        with torch.device("meta"):
            count = parameters(registry.find(name).build(2))
        found.append(pytest.param(name, marks=pytest.mark.slow) if count > LARGE else name)
    return found


def size_of(network: Network, height: int = 64, width: int = 128) -> tuple[int, int]:
    """That size, or the next that the network takes with as many pixels added to both."""
    while True:
        try:
            check_size(network, height, width)
        except ModelError:
            height, width = height + 1, width + 1
        else:
            return height, width


def seeded(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, every tensor filled from the seed that its name is.

    Nothing is left at a value that hides it: means, variances, gains and biases are all away from 0 and 1.
    """
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(_values(name, tuple(tensor.shape))))
    return network.eval()


def decided(network: nn.Module, frame: torch.Tensor) -> nn.Module:
    """`seeded`, with a mask of every class on this frame that rounding to float16 hardly changes.

    Noise has no structure that would tell maxima apart, so float16 unpools many to other places than float32 does.
    Trained networks do not depend on that as a seeded one would: what is unpooled counts less here.
    """
    seeded(network)
    ran: list[nn.Module] = []
    convolutions = [m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    hooks = [m.register_forward_hook(lambda module, *_: ran.append(module)) for m in convolutions]
    with torch.inference_mode():
        for name, tensor in network.state_dict().items():
            if name.endswith("shortcut_bn.weight"):
                tensor *= UNPOOLED
        logits = network(frame)
        ran[-1].bias -= logits.mean((0, 2, 3))
    for hook in hooks:
        hook.remove()
    return network


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        # He et al. 2015; a transposed convolution's inputs come first, which matters little here.
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("weight"):  # of a normalisation or a PReLU
        return rng.uniform(0.2, 0.8, shape).astype(np.float32)
    return rng.normal(0, 0.2, shape).astype(np.float32)


def write_weights(path: Path, network: nn.Module, metadata: dict[str, str] | None = None) -> Path:
    """The network's tensors as safetensors; returns the path."""
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path, metadata)
    return path


def parameters(network: nn.Module, *but: str) -> int:
    """How many parameters the network has, but for the modules of these names."""
    return sum(p.numel() for name, p in network.named_parameters() if name.split(".")[0] not in but)


def multiply_accumulates(network: nn.Module, height: int, width: int) -> int:
    """Of every convolution and deconvolution on one frame; nothing is computed, shapes alone run through."""
    network = network.to("meta").eval()
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        # Each weight meets every pixel of a convolution's output, and of a deconvolution's input.
        pixels = (inputs[0] if isinstance(module, nn.ConvTranspose2d) else output)[0, 0].numel()
        total += pixels * module.weight.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    with torch.inference_mode():
        network(torch.empty(1, 3, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    return total
