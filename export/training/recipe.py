"""What decides the weights besides the frames: the recipe, the order of the steps, the learning rate."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from export.own_normalization import Said
from export.training.losses import LossAt
from export.training.muon import MOMENTUM, Muon

LARGE_EVERY, LARGE_SIDE = 4, 2  # every 4th step takes wide views of twice the side, and a quarter as many
WIDE_SHARE = 1 / 3  # of the views of the other steps; where it is 0 there are no large steps either
WARM_UP = 0.03  # of the training
POLY_POWER = 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the frames."""

    optimizer: str
    lr: float
    weight_decay: float
    batch: int
    crop: tuple[int, int]
    weight_offset: float  # of `export.training.losses.class_weights`
    seed: int
    epochs: int
    minutes: float  # 0: train for `epochs`; else until this much time is spent
    dropout: float | None = None  # of every spatial dropout; None: as in the network's paper
    encoder_only: bool = False  # ENet's encoder with a classifier at 1/8, which its paper trains first
    decoder_only: bool = False  # ENet with its encoder as it starts: the second stage
    start_sha256: str = ""  # of the weights that it starts from; empty: random ones
    # What follows came later: a checkpoint that does not have it was trained with these defaults.
    dice: float = 0.0  # weight of `export.training.losses.dice_loss`
    ohem: float = 0.0  # of `export.training.losses.hard_pixels`; 0: every pixel counts
    wide: float = WIDE_SHARE
    loss_at: LossAt = "logits"  # or "labels": of `export.training.losses.segmentation_loss`
    qat: bool = False  # `export.training.fake_quantize.quantize_training`
    width: int | None = None  # of a network that can have several; None: the start's, or the usual one
    color: float = 0.0  # of `export.training.augment.random_view`
    large: int | None = None  # frames of a large step; 0: there are none; None: a quarter of the others'
    dataset: str = ""  # whose frames; empty where nobody said
    normalization: Said | None = None  # of the frames, for a user's own network; None: as its code says


class Step(NamedTuple):
    """The frames of one step, the size of their views, how many are wide (of a large one all), and their jitter."""

    indices: list[int]
    size: tuple[int, int]
    wide: float
    color: float = 0.0


OTHERS: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "weight_offset": 1.1,
    "crop": (352, 480),
    "dropout": None,
    "dice": 0.0,
    "ohem": 0.0,
    "wide": WIDE_SHARE,
    "color": 0.0,
    "loss_at": "logits",
    "width": None,
    "large": None,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "icnet": {
        **OTHERS,
        "optimizer": "sgd",
        "lr": 0.04,
        "weight_decay": 5e-4,
        "weight_offset": 1.05,
        "dice": 1.0,
        "loss_at": "labels",
    },
    "enet": {**OTHERS, "lr": 3e-3, "crop": (240, 320), "dropout": 0.0, "weight_offset": 1.05, "dice": 1.0},
}


def plan_epoch(count: int, recipe: Recipe, epoch: int) -> list[Step]:
    """The steps of an epoch: every frame once, in an order that seed and epoch give."""
    order = np.random.default_rng((recipe.seed, epoch)).permutation(count).tolist()
    height, width = recipe.crop
    frames = max(1, recipe.batch // LARGE_SIDE**2) if recipe.large is None else recipe.large
    steps: list[Step] = []
    while order:
        large = recipe.wide > 0 and frames > 0 and len(steps) % LARGE_EVERY == LARGE_EVERY - 1
        take = frames if large else recipe.batch
        size = (height * LARGE_SIDE, width * LARGE_SIDE) if large else (height, width)
        steps.append(Step(order[:take], size, 1.0 if large else recipe.wide, recipe.color))
        order = order[take:]
    return steps


def lr_share(progress: float) -> float:
    """Of the base learning rate, after this much (0..1) of the training: a linear warm-up, then polynomial decay."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    return float(max(0.0, (1 - progress) / (1 - WARM_UP)) ** POLY_POWER)


def make_optimizer(net: nn.Module, classes: int, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer for a network of so many classes; norms, biases and PReLU slopes do not decay.

    Nor do the kernels that Muon makes orthogonal.
    """
    if recipe.optimizer == "muon":
        return Muon(net, classes, recipe.lr, recipe.weight_decay)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    vectors = [parameter for parameter in trained if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.lr)
