"""Prune an ICNet's filters: `python -m export.prune --weights W --keep 3/4 --out FILE` prints the file's path.

What is left is again an ICNet, of a smaller width, which is trained on and exported like any other: its tensors tell
its width. Filters are ranked by their L1 norm. Where the outputs of several layers meet in residual sums, a channel's
norm is the sum over them, and it is kept in all of them or in none.

Source: Zhao et al. 2018, arXiv:1704.08545, section 3.4; Li et al. 2016, arXiv:1608.08710, for the L1 norm.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch

from export.checkpoints.sources import default_weights
from export.checkpoints.weights import Weights, load, read_weights
from export.models.icnet import Channels, ICNet
from export.registry import Network, build_like, find, names
from export.training.checkpoint import check_out, holds, metadata_of, pruned_text, pruning_of, save_weights
from runtime.arguments import Parser
from runtime.cli import DONE, log, show
from runtime.errors import ModelError, WeightsError

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")

Tensors = Mapping[str, torch.Tensor]


class Pruning(NamedTuple):
    """What is asked: of the filters that the network had before any pruning, `keep` are left."""

    network: Network
    weights: Path
    keep: Fraction
    out: Path


def strongest(tensors: Tensors, makers: Sequence[str], count: int) -> torch.Tensor:
    """The channels of the largest L1 norm, summed over the layers that make them; of equal ones the lower.

    Returns:
        int64 (count,), ascending.
    """
    norms = sum(tensors[f"{maker}.conv.weight"].double().abs().sum((1, 2, 3)) for maker in makers)
    assert isinstance(norms, torch.Tensor)
    return torch.argsort(norms, descending=True, stable=True)[:count].sort().values


def choose(tensors: Tensors, groups: Sequence[Channels], share: Fraction) -> list[torch.Tensor]:
    """The channels of each group that are kept, as `strongest` gives them; `share` of every group is whole."""
    counts = [share * len(tensors[f"{makers[0]}.conv.weight"]) for makers, _ in groups]
    assert all(count.denominator == 1 for count in counts)
    return [strongest(tensors, group.makers, int(count)) for group, count in zip(groups, counts, strict=True)]


def narrowed(tensors: Tensors, groups: Sequence[Channels], kept: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors without the channels that are not kept: filters, their normalisation, and what reads them."""
    left = dict(tensors)
    for group, channels in zip(groups, kept, strict=True):
        for maker in group.makers:
            for name in (f"{maker}.conv.weight", *(f"{maker}.bn.{part}" for part in NORM_PARTS)):
                left[name] = left[name][channels]
        for reader in group.readers:
            name = f"{reader}.conv.weight" if f"{reader}.conv.weight" in left else f"{reader}.weight"
            left[name] = left[name][:, channels]
    return left


def pruned(net: ICNet, width: int) -> ICNet:
    """The same network with the strongest channels alone, in evaluation mode; `net` stays as it is.

    Args:
        net: of a larger width.
        width: of the network that is returned.
    """
    tensors, groups = net.state_dict(), net.channels()
    smaller = type(net)(net.classes, width=width)
    smaller.load_state_dict(narrowed(tensors, groups, choose(tensors, groups, Fraction(width, net.width))))
    return smaller.eval()


def width_left(keep: Fraction, full: int, width: int) -> int:
    """The width that `keep` of the full one leaves, rounded to a whole one.

    Raises:
        ModelError: that is none, or no less than the network has.
    """
    left = int(keep * full + Fraction(1, 2))
    if not left:
        raise ModelError(f"--keep {keep} of width {full} leaves no filter; give a larger share")
    if left >= width:
        before = f", and width {full} before it was pruned" if full != width else ""
        raise ModelError(
            f"--keep {keep} of width {full} leaves {left}, but the weights have width {width}{before}; "
            "give a smaller share"
        )
    return left


def load_prunable(network: Network, path: Path) -> tuple[ICNet, Weights]:
    """The network with a checkpoint's weights, of the width that they have.

    Raises:
        ModelError: the network has one width alone.
        WeightsError: the checkpoint cannot be read, or is of another network.
    """
    if not network.width_of:
        able = ", ".join(name for name in names() if find(name).width_of)
        raise ModelError(f"{network.name} cannot be pruned: it has one width alone; these have several: {able}")
    weights = read_weights(path, network.build)
    net = build_like(network, len(weights.classes), weights.tensors)
    assert isinstance(net, ICNet)
    load(net, weights)
    return net.eval(), weights


def prune(request: Pruning) -> Path:
    """Write the pruned weights, unless they are there already; returns their path.

    Raises:
        ModelError: the network cannot be pruned, or `keep` leaves nothing or all.
        WeightsError: the weights cannot be read, or are of another network.
        OutputError: `out` is the weights' own file, or does not end in .safetensors.
    """
    check_out(request.out, request.weights)
    net, weights = load_prunable(request.network, request.weights)
    history = pruning_of(metadata_of(request.weights))
    full = history[0].width if history else net.width
    width = width_left(request.keep, full, net.width)
    metadata = describe(request, weights, [*history, (net.width, width, weights.sha256)])
    smaller = pruned(net, width)
    # By its tensors: the training that started from it holds it to its bytes, which a second writing would change.
    if holds(request.out, smaller):
        log(f"{request.out} is up to date")
        return request.out
    request.out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(request.out, smaller, metadata)
    counts = [sum(parameter.numel() for parameter in one.parameters()) for one in (net, smaller)]
    log(f"{request.network.name}: width {net.width} to {width}, {counts[0]:,} parameters to {counts[1]:,}")
    return request.out


def describe(request: Pruning, weights: Weights, history: Sequence[tuple[int, int, str]]) -> dict[str, str]:
    """What the pruned file says of itself: the data set and classes of the weights, and every pruning so far."""
    given = metadata_of(request.weights)
    source = weights.source.removesuffix(pruned_text(pruning_of(given)))
    steps = json.dumps(history)
    return {
        **{key: given[key] for key in ("dataset",) if key in given},
        "model": request.network.name,
        "classes": json.dumps(weights.classes),
        "pruned": steps,
        "source": source + pruned_text(pruning_of({"pruned": steps})),
        "command": f"python -m export.prune --model {request.network.name} --weights {request.weights.name} "
        f"--keep {request.keep} --out {request.out.name}",
    }


def share_from_text(text: str) -> Fraction:
    """'3/4' or '0.75' -> the fraction, more than 0 and less than 1; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"share {text!r} is not between 0 and 1, for example 3/4 or 0.75")
    return share


def main(argv: Sequence[str]) -> int:
    """The command; prints the path of the pruned weights."""
    parser = Parser(prog="python -m export.prune", description=__doc__)
    parser.add_argument("--model", default="icnet", help="a network of several widths (default %(default)s)")
    parser.add_argument("--weights", type=Path, help="a checkpoint of it (by default the one shipped)")
    parser.add_argument("--keep", type=share_from_text, required=True, help="of the filters before any pruning: 3/4")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    args = parser.parse_args(argv)
    network = find(args.model)
    weights = args.weights or default_weights(args.model)
    if weights is None:
        raise WeightsError(f"no weights are shipped for {args.model}; give a checkpoint: --weights FILE")
    show(prune(Pruning(network, weights, args.keep, args.out)))
    return DONE
