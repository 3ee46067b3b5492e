"""Labelled frames in memory, and the batches of random views that a step sees."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from export.augment import NEAR, SCALES, WIDE, random_view
from export.recipe import Step
from export.registry import Normalization
from runtime.datasets import Dataset, read_pair


class Frames(NamedTuple):
    """A split in memory: uint8 (H, W, 3) RGB, and uint8 (H, W) train ids."""

    frames: list[np.ndarray]
    labels: list[np.ndarray]


class Batch(NamedTuple):
    """What a step sees."""

    frames: torch.Tensor  # uint8 (N, h, w, 3) RGB
    labels: torch.Tensor  # uint8 (N, h, w) train ids


def load_split(dataset: Dataset, split: str) -> Frames:
    """Every frame and label of a split, in order.

    Raises:
        DatasetError: one cannot be read, or does not fit its label.
    """
    frames, labels = zip(*map(read_pair, dataset.pairs(split)), strict=True)
    return Frames(list(frames), list(labels))


def make_batch(data: Frames, step: Step, epoch: int, seed: int) -> Batch:
    """The views of a step, each drawn from the seed, the epoch and its frame alone."""
    views = []
    for index in step.indices:
        rng = np.random.default_rng((seed, epoch, index))
        scales = SCALES[WIDE if rng.random() < step.wide else NEAR]
        views.append(random_view(data.frames[index], data.labels[index], step.size, scales, rng))
    frames, labels = zip(*views, strict=True)
    return Batch(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(labels)))


def normalize(frames: torch.Tensor, normalization: Normalization) -> torch.Tensor:
    """uint8 (N, h, w, 3) RGB -> a network's input, float32 (N, 3, h, w) channels-last, its channel order."""
    values = frames.float() * normalization.scale
    if normalization.channel_order == "BGR":
        values = values.flip(3)
    if any(normalization.mean) or set(normalization.std) != {1.0}:
        values = (values - values.new_tensor(normalization.mean)) / values.new_tensor(normalization.std)
    return values.permute(0, 3, 1, 2)


def batches(data: Frames, steps: list[Step], epoch: int, seed: int, workers: int) -> Iterator[Batch]:
    """The batch of each step, in order; `workers` threads make the next ones while one is trained on."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Batch]] = deque()
        for step in steps:
            waiting.append(pool.submit(make_batch, data, step, epoch, seed))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
