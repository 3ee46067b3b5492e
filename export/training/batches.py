"""Labelled frames, and the batches of random views that a step sees."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from export.registry import Normalization
from export.training.augment import NEAR, SCALES, WIDE, random_view
from export.training.recipe import Step
from runtime.accuracy.datasets import Dataset, Pair, read_pair

IN_MEMORY = 2 << 30  # bytes of a split: CamVid at full size is 1 GB, Cityscapes 25 GB

Labelled = tuple[np.ndarray, np.ndarray]  # uint8 (H, W, 3) RGB, and uint8 (H, W) train ids


@dataclasses.dataclass(frozen=True, slots=True)
class Frames:
    """A split, in order: what is in memory as it is, and what is a `Pair` read from disk whenever it is asked for."""

    items: Sequence[Labelled | Pair]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Labelled:
        """A frame and its label; not to be changed. For any thread.

        Raises:
            DatasetError: one cannot be read, or does not fit the other.
        """
        item = self.items[index]
        return read_pair(item) if isinstance(item, Pair) else item

    def __iter__(self) -> Iterator[Labelled]:
        return (self[index] for index in range(len(self)))

    def every(self, step: int) -> "Frames":
        """One frame in so many, from the first."""
        return Frames(self.items[::step])


class Batch(NamedTuple):
    """What a step sees."""

    frames: torch.Tensor  # uint8 (N, h, w, 3) RGB
    labels: torch.Tensor  # uint8 (N, h, w) train ids


def load_split(dataset: Dataset, split: str, every: int = 1) -> Frames:
    """One frame in so many of a split with its label, from the first; the first `IN_MEMORY` bytes are in memory.

    Raises:
        DatasetError: one of those in memory cannot be read, or does not fit its label.
    """
    pairs, held, size = dataset.pairs(split)[::every], list[Labelled](), 0
    while len(held) < len(pairs) and size < IN_MEMORY:
        held.append(read_pair(pairs[len(held)]))
        size += sum(array.nbytes for array in held[-1])
    return Frames([*held, *pairs[len(held) :]])


def make_batch(data: Frames, step: Step, epoch: int, seed: int) -> Batch:
    """The views of a step, each drawn from the seed, the epoch and its frame alone."""
    views = []
    for index in step.indices:
        rng = np.random.default_rng((seed, epoch, index))
        scales = SCALES[WIDE if rng.random() < step.wide else NEAR]
        views.append(random_view(*data[index], step.size, scales, rng, step.color))
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
