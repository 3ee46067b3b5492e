"""What training minimises."""

import numpy as np
import torch
import torch.nn.functional as F

from export.models.icnet import Guided
from runtime.labels import IGNORED

# Zhao et al. 2018, section 3.3: the cascade label guidance at 1/4, 1/8 and 1/16.
CASCADE_WEIGHTS = (1.0, 0.4, 0.16)


def class_weights(labels: list[np.ndarray], classes: int, offset: float) -> torch.Tensor:
    """Weight of each class, 1 / ln(offset + p), p its share of the labelled pixels; scaled to a mean of 1 a pixel.

    Args:
        labels: uint8 train ids of any size.
        classes: how many there are.
        offset: 1.02 in ENet's paper; larger weighs rare classes less.

    Returns:
        float32 (classes,).

    Source: Paszke et al. 2016, section 5.2.
    """
    counts = sum(np.bincount(label.ravel(), minlength=256)[:classes] for label in labels)
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


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Class-weighted cross-entropy, the mean over the pixels that count; 0 where none does.

    Args:
        logits: float (N, classes, h, w).
        labels: uint8 (N, H, W), resized to the logits' size.
        weights: float32 (classes,).
    """
    target = resize_labels(labels, *logits.shape[2:]).long()
    # Summed and divided here: PyTorch's own mean is 0/0 for a crop that holds no class.
    total = F.cross_entropy(logits.float(), target, weights, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)


def segmentation_loss(output: torch.Tensor | Guided, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`cross_entropy` of the logits, or of each of ICNet's three, weighted as in its paper."""
    if isinstance(output, Guided):
        parts = zip(CASCADE_WEIGHTS, output, strict=True)
        return torch.stack([share * cross_entropy(logits, labels, weights) for share, logits in parts]).sum()
    return cross_entropy(output, labels, weights)
