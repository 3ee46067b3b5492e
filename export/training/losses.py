"""What training minimises."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from export.models.icnet import Guided
from runtime.labels import IGNORED

# Zhao et al. 2018, section 3.3: the cascade label guidance at 1/4, 1/8 and 1/16.
CASCADE_WEIGHTS = (1.0, 0.4, 0.16)
AUXILIARY = 0.4  # of other logits than the main ones: Zhao et al. 2017, arXiv:1612.01105, section 3.3
LossAt = Literal["logits", "labels"]  # the size that the loss is taken at
LEAST_HARD = 1 / 16  # of the pixels that count; CoinCheung/BiSeNet, OhemCELoss


def class_weights(counts: np.ndarray, offset: float) -> torch.Tensor:
    """Weight of each class, 1 / ln(offset + p), p its share of the labelled pixels; scaled to a mean of 1 a pixel.

    Args:
        counts: int64 (classes,), the labelled pixels of each; not all zero.
        offset: 1.02 in ENet's paper; larger weighs rare classes less.

    Returns:
        float32 (classes,).

    Source: Paszke et al. 2016, section 5.2.
    """
    share = counts / np.sum(counts)
    weights = 1 / np.log(offset + share)
    return torch.tensor(weights / np.sum(weights * share), dtype=torch.float32)


def resize_labels(labels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Labels at another size, each the nearest pixel to its centre, so that no id is made up.

    Args:
        labels: integers (N, H, W).

    Returns:
        the same type, (N, height, width).
    """
    rows, columns = (
        ((torch.arange(n) * 2 + 1) * size // (2 * n))
        for n, size in ((height, labels.shape[1]), (width, labels.shape[2]))
    )
    return labels[:, rows][:, :, columns]


@torch.no_grad()
def hard_pixels(logits: torch.Tensor, target: torch.Tensor, threshold: float) -> torch.Tensor:
    """Where the true class is given less than this probability; at least a sixteenth of the pixels, the hardest.

    Args:
        logits: float (N, classes, h, w).
        target: int64 (N, h, w).
        threshold: 0..1; 0.7 is usual.

    Returns:
        bool (N, h, w), false where the label is ignored.

    Source: Wu, Shen, van den Hengel 2016, arXiv:1605.06885 (online bootstrapping); Shrivastava et al. 2016,
    arXiv:1604.03540 (OHEM).
    """
    counted = target != IGNORED
    least = math.ceil(LEAST_HARD * int(counted.sum()))
    true = F.softmax(logits.float(), 1).gather(1, torch.where(counted, target, 0)[:, None])[:, 0]
    true = torch.where(counted, true, torch.inf)
    hard = true < threshold
    return hard | (true <= true.flatten().kthvalue(least).values) if least else hard


def dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - 2 |P and T| / (|P| + |T|) of probabilities P and truth T, the mean over the classes that are there.

    A class counts the same however few its pixels are. 0 where no pixel counts.

    Args:
        logits: float (N, classes, h, w).
        labels: uint8 (N, H, W), resized to the logits' size.

    Source: Drozdzal et al. 2016, arXiv:1608.04117; mmsegmentation's ce-1.0-dice-3.0 recipes give it the weight 3.
    """
    target = resize_labels(labels, *logits.shape[2:]).long()
    counted = (target != IGNORED)[:, None]
    truth = F.one_hot(torch.where(counted[:, 0], target, 0), logits.shape[1]).movedim(-1, 1) * counted
    predicted = F.softmax(logits.float(), 1) * counted
    pixels = truth.sum((0, 2, 3))
    # A class that is there has a pixel or more, so that the clamp is for the others, which do not count.
    overlap = 2 * (predicted * truth).sum((0, 2, 3)) / (predicted.sum((0, 2, 3)) + pixels).clamp(min=1)
    present = pixels > 0
    return ((1 - overlap) * present).sum() / present.sum().clamp(min=1)


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, *, ohem: float = 0.0
) -> torch.Tensor:
    """Class-weighted cross-entropy, the mean over the pixels that count; 0 where none does.

    Args:
        logits: float (N, classes, h, w).
        labels: uint8 (N, H, W), resized to the logits' size.
        weights: float32 (classes,).
        ohem: where it is more than 0, only the `hard_pixels` below it count.
    """
    target = resize_labels(labels, *logits.shape[2:]).long()
    if ohem:
        target = torch.where(hard_pixels(logits, target, ohem), target, IGNORED)
    # Summed and divided here: PyTorch's own mean is 0/0 for a crop that holds no class.
    total = F.cross_entropy(logits.float(), target, weights, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)


def pixel_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, *, dice: float = 0.0, ohem: float = 0.0
) -> torch.Tensor:
    """`cross_entropy` and `dice` times `dice_loss`, of one output of a network."""
    loss = cross_entropy(logits, labels, weights, ohem=ohem)
    return loss + dice * dice_loss(logits, labels) if dice else loss


def segmentation_loss(
    output: torch.Tensor | tuple[torch.Tensor, ...],
    labels: torch.Tensor,
    weights: torch.Tensor,
    *,
    dice: float = 0.0,
    ohem: float = 0.0,
    loss_at: LossAt = "logits",
    align_corners: bool = False,
    of_pixels: Callable[..., torch.Tensor] = pixel_loss,
) -> torch.Tensor:
    """The `pixel_loss` of the logits, of ICNet's three, weighted as in its paper, or of a user's own several.

    At "labels" the logits are first upsampled as they are deployed, and no label pixel is left out; the auxiliary ones
    keep their size. `of_pixels` is `pixel_loss`, or its compiled form.
    """
    if isinstance(output, tuple):
        others = len(output) - 1
        auxiliary: list[LossAt] = ["logits"] * others
        sizes = [loss_at, *auxiliary]
        shares = CASCADE_WEIGHTS if isinstance(output, Guided) else (1.0, *((AUXILIARY,) * others))
        losses = [
            share
            * segmentation_loss(
                logits,
                labels,
                weights,
                dice=dice,
                ohem=ohem,
                loss_at=at,
                align_corners=align_corners,
                of_pixels=of_pixels,
            )
            for share, logits, at in zip(shares, output, sizes, strict=True)
        ]
        return torch.stack(losses).sum()
    if loss_at == "labels" and output.shape[2:] != labels.shape[1:]:
        output = F.interpolate(output.float(), size=labels.shape[1:], mode="bilinear", align_corners=align_corners)
    return of_pixels(output, labels, weights, dice=dice, ohem=ohem)
