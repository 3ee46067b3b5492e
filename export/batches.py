"""Labelled frames in memory, and the batches of random views that a step sees."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from export.augment import NEAR, SCALES, WIDE, random_view
from export.recipe import WIDE_SHARE, Step
from export.registry import Normalization
from runtime.datasets import Dataset, read_pair


class Frames(NamedTuple):
    """A split in memory: uint8 (H, W, 3) RGB, and uint8 (H, W) train ids."""

    frames: list[np.ndarray]
    labels: list[np.ndarray]


class Batch(NamedTuple):
    """What a step sees."""

    frames: torch.Tensor  # float32 (N, 3, h, w) channels-last, normalised
    labels: torch.Tensor  # uint8 (N, h, w) train ids


def load_split(dataset: Dataset, split: str) -> Frames:
    """Every frame and label of a split, in order.

    Raises:
        DatasetError: one cannot be read, or does not fit its label.
    """
    frames, labels = zip(*map(read_pair, dataset.pairs(split)), strict=True)
    return Frames(list(frames), list(labels))


def make_batch(data: Frames, step: Step, epoch: int, seed: int, normalization: Normalization) -> Batch:
    """The views of a step, each drawn from the seed, the epoch and its frame alone."""
    views = []
    for index in step.indices:
        rng = np.random.default_rng((seed, epoch, index))
        scales = SCALES[WIDE if rng.random() < WIDE_SHARE or step.large else NEAR]
        views.append(random_view(data.frames[index], data.labels[index], step.size, scales, rng))
    frames, labels = zip(*views, strict=True)
    return Batch(normalize(np.stack(frames), normalization), torch.from_numpy(np.stack(labels)))


def normalize(frames: np.ndarray, normalization: Normalization) -> torch.Tensor:
    """uint8 (N, h, w, 3) RGB -> a network's input, float32 (N, 3, h, w) channels-last, its channel order."""
    channels = frames if normalization.channel_order == "RGB" else np.ascontiguousarray(frames[..., ::-1])
    values = torch.from_numpy(channels).float() * normalization.scale
    if any(normalization.mean) or set(normalization.std) != {1.0}:
        values = (values - torch.tensor(normalization.mean)) / torch.tensor(normalization.std)
    return values.permute(0, 3, 1, 2)


def batches(data: Frames, steps: list[Step], epoch: int, seed: int, normalization: Normalization) -> Iterator[Batch]:
    """The batch of each step, the next one made while one is trained on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make_batch, data, steps[0], epoch, seed, normalization)
        for step in steps[1:]:
            batch, coming = coming.result(), pool.submit(make_batch, data, step, epoch, seed, normalization)
            yield batch
        yield coming.result()
