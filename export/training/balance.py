"""Shift each class's logit by what raises mIoU on the training frames: `python -m export.balance WEIGHTS ...`.

Cross-entropy with class weights, or dice, does not end at the masks of the largest mIoU: it gives a rare class too
many pixels or too few. One number a class, added to the classifier's bias, mends that for nothing at inference. The
numbers are found on training frames alone, at the frames' own size and at the deployed one; then the weights are
measured on the validation frames.

Source: Menon et al. 2021, arXiv:2007.07314, section 4.1 (post-hoc logit adjustment); here the shifts come from mIoU.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from export.checkpoints.sources import check_file
from export.checkpoints.weights import CLASSIFIERS, Weights, load, read_weights
from export.own_normalization import noted_in
from export.registry import Network, build_like, find, names
from export.training.batches import Frames, load_split
from export.training.checkpoint import check_out, metadata_of, save_weights
from export.training.validate import evaluate, measured_sizes, preprocess_at
from runtime.accuracy.datasets import DATASETS, open_dataset
from runtime.accuracy.metrics import confusion, mean_iou
from runtime.arguments import Parser
from runtime.cli import DONE, count_from_text, log, progress, show
from runtime.errors import DatasetError, WeightsError
from runtime.fit import box_of
from runtime.media.frames import add_max_pixels
from runtime.reference import AxisTable, cut_table, preprocess
from runtime.spec import Preprocess, Upsample

EVERY_FRAME, EVERY_PIXEL = 4, 4  # of the training frames one in so many, of a label's rows and columns too
MOST_PIXELS = 4 << 20  # at one size: of larger sets fewer of each label are taken
STEPS = (1.0, 0.5, 0.25, 0.125)  # of a logit, tried in turns
LEAST_GAIN = 1e-4  # of mIoU, 0..1: smaller ones are the frames' own


class Sampled(NamedTuple):
    """Labelled pixels at one input size: float32 (pixels, classes) logits, and uint8 (pixels,) train ids."""

    logits: np.ndarray
    labels: np.ndarray


def mean_miou(samples: Sequence[Sampled], offsets: np.ndarray) -> float:
    """The mIoU with the logits shifted, 0..1, the mean over the input sizes."""
    masks = [(sample.logits + offsets).argmax(1).astype(np.uint8) for sample in samples]
    pairs = zip(masks, samples, strict=True)
    return float(np.mean([mean_iou(confusion(mask, sample.labels, len(offsets))) for mask, sample in pairs]))


def best_offsets(samples: Sequence[Sampled], classes: int) -> np.ndarray:
    """The shift of each class's logit, by coordinate ascent from none; float32 (classes,)."""
    offsets = np.zeros(classes, np.float32)
    best = mean_miou(samples, offsets)
    moves = [(step * sign, kind) for step in STEPS for kind in range(classes) for sign in (1, -1)]
    for move, kind in progress(moves, "shift", unit="move"):
        while True:
            moved = offsets.copy()
            moved[kind] += move
            reached = mean_miou(samples, moved)
            if reached < best + LEAST_GAIN:
                break
            best, offsets = reached, moved
    return offsets


@torch.inference_mode()
def sample(net: nn.Module, network: Network, data: Frames, size: tuple[int, int]) -> Sampled:
    """What the network gives for pixels on a grid over each label that count, frames at the size `size`.

    Raises:
        DatasetError: none of them counts.
    """
    spec = preprocess_at(network, size)
    every = max(EVERY_PIXEL, math.isqrt(len(data) * data[0][1].size // MOST_PIXELS))
    logits, labels = [], []
    for frame, label in progress(data, f"logits at {size[0]}x{size[1]}", unit="frame"):
        coarse = net(torch.from_numpy(preprocess(frame, spec)))[0].numpy()
        some = label[::every, ::every]
        counted = some < len(coarse)
        logits.append(np.moveaxis(_upsampled(coarse, label.shape, spec, every, network.upsample), 0, -1)[counted])
        labels.append(some[counted])
    if not sum(map(len, labels)):
        raise DatasetError(f"none of the {len(data)} labels has a pixel that counts: all are ignored")
    return Sampled(np.concatenate(logits), np.concatenate(labels))


def _upsampled(
    coarse: np.ndarray, shape: tuple[int, ...], spec: Preprocess, every: int, upsample: Upsample
) -> np.ndarray:
    # float32 (C, h, w) -> those of every so many-th row and column of a frame of that shape.
    axes = zip(coarse.shape[1:], shape, box_of(spec, *shape), strict=True)
    down, across = (AxisTable(*(values[::every] for values in cut_table(*axis, upsample))) for axis in axes)
    wide = coarse[:, :, across.first] * across.weight_first + coarse[:, :, across.second] * across.weight_second
    upper, lower = wide[:, down.first], wide[:, down.second]
    upsampled: np.ndarray = upper * down.weight_first[:, None] + lower * down.weight_second[:, None]
    return upsampled


def shift(net: nn.Module, offsets: np.ndarray) -> None:
    """Add the offsets to the bias of the network's classifier.

    Raises:
        WeightsError: its classifier has no bias.
    """
    found = [parameter for name, parameter in net.named_parameters() if name in CLASSIFIERS and name.endswith(".bias")]
    if not found:
        raise WeightsError("the network's classifier has no bias that could be shifted")
    found[0].data += torch.from_numpy(offsets)


def loaded(network: Network, weights: Weights) -> nn.Module:
    """The network with these weights, in evaluation mode."""
    net = build_like(network, len(weights.classes), weights.tensors)
    load(net, weights)
    return net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def balance(net: nn.Module, network: Network, data: Frames, classes: int) -> np.ndarray:
    """Shift the network's classifier by what these frames say; float32 (classes,), the shifts."""
    samples = [sample(net, network, data, size) for size in measured_sizes(network, data[0][0]).values()]
    offsets = best_offsets(samples, classes)
    before, after = (100 * mean_miou(samples, shifts) for shifts in (np.zeros_like(offsets), offsets))
    log(f"{before:.2f} -> {after:.2f} mIoU on {len(data)} training frames, mean over the sizes")
    shift(net, offsets)
    return offsets


def main(argv: Sequence[str]) -> int:
    """The command; prints the shifts and the validation mIoU."""
    parser = Parser(prog="python -m export.balance", description=__doc__)
    parser.add_argument("weights", type=Path, help="as export.train left them")
    parser.add_argument("--model", required=True, help=f"one of {', '.join(names())}")
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--out", required=True, type=Path, help="the shifted weights, safetensors")
    parser.add_argument(
        "--every", type=count_from_text, default=EVERY_FRAME, help="one training frame in so many (%(default)s)"
    )
    add_max_pixels(parser)
    args = parser.parse_args(argv)
    check_file(args.weights)
    check_out(args.out, args.weights)
    network = find(args.model, noted_in(args.weights))
    weights = read_weights(args.weights, network.build)
    dataset = open_dataset(args.dataset, args.data)
    if [label.name for label in dataset.classes] != [label.name for label in weights.classes]:
        raise DatasetError(f"{args.dataset} has other classes than {args.weights}")
    net = loaded(network, weights)
    train, val = load_split(dataset, "train", args.every), load_split(dataset, "val")
    offsets = balance(net, network, train, len(weights.classes))
    metadata = {**metadata_of(args.weights), "class_offsets": json.dumps(offsets.tolist())}
    for label, offset in zip(weights.classes, offsets, strict=True):
        show(f"{label.name:<16}{offset:+.3f}")
    for name, size in measured_sizes(network, val[0][0]).items():
        miou = mean_iou(evaluate(net, val, len(weights.classes), preprocess_at(network, size), network.upsample))
        metadata[f"miou_{name}"] = f"{miou:.4f}"
        show(f"{args.model} {args.dataset} val at {name}: mIoU {100 * miou:.2f}, {len(val)} frames")
    save_weights(args.out, net, metadata)
    return DONE
