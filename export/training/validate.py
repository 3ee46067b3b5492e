"""mIoU of a PyTorch network on labelled frames, through the reference's own resizing."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from export.registry import Network, nearest_size
from runtime.accuracy.metrics import confusion
from runtime.fit import BUILT_FIT, box_of
from runtime.reference import postprocess, preprocess
from runtime.spec import Preprocess, Upsample

DEPLOYED_SIZE = (1024, 2048)


def native_size(network: Network, frame: np.ndarray) -> tuple[int, int]:
    """The height and width nearest to the frame's that the network takes."""
    return nearest_size(network, *frame.shape[:2])


def deployed_scale(frame: np.ndarray) -> float:
    """How many times larger than its own the deployed size shows a frame, along a side."""
    return math.sqrt(math.prod(DEPLOYED_SIZE) / math.prod(frame.shape[:2]))


def measured_sizes(network: Network, frame: np.ndarray) -> dict[str, tuple[int, int]]:
    """What a network is measured at, by name: the frames' own size, and the deployed one where it is another."""
    native = native_size(network, frame)
    return {"native": native} | ({"x".join(map(str, DEPLOYED_SIZE)): DEPLOYED_SIZE} if native != DEPLOYED_SIZE else {})


def preprocess_at(network: Network, size: tuple[int, int]) -> Preprocess:
    """The network's own preprocessing at a size, and of frames of another shape what its engines do."""
    scale, mean, std, order = network.normalization
    return Preprocess(*size, scale, mean, std, order, BUILT_FIT)


@torch.inference_mode()
def evaluate(
    net: nn.Module,
    frames: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: int,
    spec: Preprocess,
    upsample: Upsample = "half_pixel",
) -> np.ndarray:
    """The confusion matrix over all frames: frames resized as `spec` says, logits resized back to each label's size.

    Args:
        net: in evaluation mode, float32.
        frames: each uint8 (H, W, 3) RGB, and its label, uint8 (H, W) train ids.
        classes: how many there are.
        spec: how a frame becomes the network's input.
        upsample: how its logits become as large as the frame.

    Returns:
        int64 (classes, classes), as `runtime.accuracy.metrics.confusion`.
    """
    matrix = np.zeros((classes, classes), np.int64)
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    for frame, label in frames:
        tensor = torch.from_numpy(preprocess(frame, spec))
        logits = net(tensor.to(device, memory_format=torch.channels_last)).float().cpu().numpy()
        mask = postprocess(logits, *label.shape, upsample=upsample, box=box_of(spec, *label.shape))
        matrix += confusion(mask, label, classes)
    return matrix
