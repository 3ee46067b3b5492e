"""The kernels of segment.cu as functions on arrays, over any place that runs launches."""

from typing import Protocol

import numpy as np

from runtime import reference
from runtime.fit import Box, box_of
from runtime.kernels import cuda
from runtime.kernels.cuda import Axes, Blend, Launch, Pixels, Tensor
from runtime.spec import Preprocess, Upsample

DTYPES = {"fp16": np.float16, "fp32": np.float32}


class Place(Protocol):
    """Memory that kernels reach, and a way to launch them there."""

    def put(self, array: np.ndarray) -> int:
        """The address of a copy of `array`."""

    def get(self, address: int, like: np.ndarray) -> np.ndarray:
        """What lies there now, with shape and type of `like`."""

    def launch(self, launch: Launch) -> None:
        """Run it to its end."""


def preprocess(
    place: Place, frame: np.ndarray, preprocess: Preprocess, dtype: str, *, last: bool = False
) -> np.ndarray:
    """As `reference.preprocess`, in the type of the network's input; with `last` as `padded_last` has it."""
    height, width = preprocess.height, preprocess.width
    channels = 4 if last else 3
    empty = np.full((1, height, width, 4) if last else (1, 3, height, width), np.nan, DTYPES[dtype])
    made = place.put(empty)
    box = box_of(preprocess, *frame.shape[:2])
    axes = _put(place, *(reference.fitted_table(*axis) for axis in zip(frame.shape[:2], box, strict=True)))
    place.launch(
        cuda.resize_normalize(
            Pixels(place.put(frame), *frame.shape[:2]),
            axes,
            place.put(cuda.gain_bias(preprocess)),
            Tensor(made, (channels, height, width), dtype, last),
            bgr=preprocess.channel_order == "BGR",
        )
    )
    return place.get(made, empty)


def padded_last(values: np.ndarray) -> np.ndarray:
    """(1, 3, height, width) -> (1, height, width, 4), the fourth 0."""
    return np.pad(values.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, 1)))


def postprocess(
    place: Place,
    logits: np.ndarray,
    height: int,
    width: int,
    block: int,
    blend: Blend | None = None,
    *,
    last: bool = False,
    upsample: Upsample = "half_pixel",
    box: Box | None = None,
) -> np.ndarray:
    """As `reference.postprocess`; with `last` the kernels read the logits with their channels last."""
    h, w = logits.shape[2:]
    tensor = _logits(place, logits, last=last)
    winners = place.put(np.full((h * block, w * block), 254, np.uint8))
    empty = np.full((height, width), 253, np.uint8)
    mask = place.put(empty)
    axes = _outward(place, (h * block, w * block), (height, width), upsample, box)
    place.launch(cuda.coarse_winner(tensor, block, winners))
    place.launch(cuda.upsample_argmax(tensor, block, winners, axes, Pixels(mask, height, width), blend))
    return place.get(mask, empty)


def confidence(
    place: Place,
    logits: np.ndarray,
    height: int,
    width: int,
    block: int,
    *,
    last: bool = False,
    upsample: Upsample = "half_pixel",
    box: Box | None = None,
) -> np.ndarray:
    """As `reference.confidence`; with `last` the kernel reads the logits with their channels last."""
    coarse = (logits.shape[2] * block, logits.shape[3] * block)
    axes = _outward(place, coarse, (height, width), upsample, box)
    empty = np.full((height, width), 253, np.uint8)
    made, steps = place.put(empty), place.put(reference.CONFIDENCE_STEPS)
    place.launch(cuda.confidence(_logits(place, logits, last=last), block, axes, steps, Pixels(made, height, width)))
    return place.get(made, empty)


def native_mask(place: Place, logits: np.ndarray, block: int, *, last: bool = False) -> np.ndarray:
    """As `reference.postprocess` at the logits' own size, by `coarse_winner` alone."""
    empty = np.full((logits.shape[2] * block, logits.shape[3] * block), 253, np.uint8)
    mask = place.put(empty)
    place.launch(cuda.coarse_winner(_logits(place, logits, last=last), block, mask, undecided=False))
    return place.get(mask, empty)


def _logits(place: Place, logits: np.ndarray, *, last: bool) -> Tensor:
    dtype = {2: "fp16", 4: "fp32"}[logits.itemsize]
    ordered = np.ascontiguousarray(logits.transpose(0, 2, 3, 1)) if last else logits
    return Tensor(place.put(ordered), logits.shape[1:], dtype, last)


def overlay(
    place: Place, frame: np.ndarray, logits: np.ndarray, palette: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `reference.postprocess` and `reference.overlay`, in one pass; logits without blocks."""
    keep, shades = reference.overlay_shades(palette, alpha)
    empty = np.full(frame.shape, 252, np.uint8)
    blend = Blend(place.put(frame), place.put(shades), int(keep), place.put(empty))
    mask = postprocess(place, logits, *frame.shape[:2], 1, blend)
    return mask, place.get(blend.overlay, empty)


def _outward(place: Place, coarse: tuple[int, int], size: tuple[int, int], upsample: Upsample, box: Box | None) -> Axes:
    if not box:
        return _axes(place, coarse, size, upsample)
    return _put(place, *(reference.cut_table(*axis, upsample) for axis in zip(coarse, size, box, strict=True)))


def _put(place: Place, down: reference.AxisTable, across: reference.AxisTable) -> Axes:
    return Axes(place.put(cuda.samples_of(across)), place.put(cuda.samples_of(down)))


def _axes(place: Place, size_in: tuple[int, ...], size_out: tuple[int, ...], upsample: Upsample = "half_pixel") -> Axes:
    down, across = (place.put(cuda.axis_samples(*sizes, upsample)) for sizes in zip(size_in, size_out, strict=True))
    return Axes(across, down)
