"""The definition of a correct mask, in NumPy. Every kernel, engine and backend is compared with these functions.

Bilinear arithmetic is float32 and always `(a * u0 + b * u1) * v0 + (c * u0 + d * u1) * v1` with u across and v down,
weights from `axis_table`, no fused multiply-add. Kernels that keep to it give the same bits. It is monotonic in
a, b, c and d, so a class that is largest at four neighbouring logits is largest anywhere between them: that is what
lets a kernel skip the arithmetic inside a region of one class. Rounding can still make a lower class its equal there,
and ties go to the lower one, so a kernel has to look again where the two are within a few units in the last place.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import FrameError
from runtime.fit import Box, Span, box_of
from runtime.labels import IGNORED
from runtime.spec import ModelSpec, Preprocess, Upsample

# What programs pass in its place, and how a frame is made of it, by the name of its type.
REMEDIES = {
    "NoneType": "was the picture read? cv2.imread gives None where it cannot read one",
    "PIL.": "numpy.asarray(picture.convert('RGB')) is one",
    "torch.": "tensor.cpu().numpy() is one, of a uint8 tensor that is height by width by 3",
    "cv2.UMat": "matrix.get() is an array, BGR as OpenCV has it",
    "list": "numpy.asarray(rows, numpy.uint8) is an array",
    "tuple": "numpy.asarray(rows, numpy.uint8) is an array",
    "bytes": "runtime.read_frame(path) reads a file",
    "str": "runtime.read_frame(path) reads a file",
    "pathlib.": "runtime.read_frame(path) reads a file",
}
ROWS_AT_ONCE = 16  # of the upsampled logits, which would be 159 MB at 1024x2048 with 19 classes
_EDGES = (np.arange(1, 256) - 0.5) / 255
# float32 (255,): the margin of logits from which on a confidence is 1, 2, ... 255. Kernels compare, and agree on bits.
CONFIDENCE_STEPS = np.log((1 + _EDGES) / (1 - _EDGES)).astype(np.float32)


class AxisTable(NamedTuple):
    """Bilinear resizing along one axis: `out[i] = x[first[i]] * weight_first[i] + x[second[i]] * weight_second[i]`."""

    first: np.ndarray  # int32 (n_out,)
    second: np.ndarray  # int32 (n_out,)
    weight_first: np.ndarray  # float32 (n_out,)
    weight_second: np.ndarray  # float32 (n_out,)


def check_frame(frame: object) -> None:
    """Refuse what is not a frame.

    Raises:
        FrameError: it is not an array, not uint8 (H, W, 3), or empty; what it is, and what makes a frame of it.
    """
    if not isinstance(frame, np.ndarray):
        kind = f"{type(frame).__module__}.{type(frame).__qualname__}".removeprefix("builtins.")
        remedy = next((f"; {remedy}" for name, remedy in REMEDIES.items() if kind.startswith(name)), "")
        given = "None" if frame is None else kind
        raise FrameError(f"a frame is a NumPy array, uint8 (height, width, 3) RGB, got {given}{remedy}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise FrameError(f"a frame is uint8 (height, width, 3) RGB, got {frame.dtype} {frame.shape}")


def axis_table(n_in: int, n_out: int, upsample: Upsample = "half_pixel") -> AxisTable:
    """Where each of `n_out` samples lies among `n_in`, pixel centres at halves, edges repeated.

    With "align_corners" the first and the last sample fall on the first and the last of `n_in`. With "nearest" each is
    the one of `n_in` that its centre lies in, and has the whole weight.

    Source: ONNX Resize, mode="linear", coordinate_transformation_mode="half_pixel" or "align_corners";
    mode="nearest", "half_pixel" with nearest_mode="round_prefer_ceil".
    """
    centre = np.arange(n_out, dtype=np.float64)
    if upsample == "align_corners":
        position = centre * ((n_in - 1) / max(n_out - 1, 1))
    elif upsample == "nearest":
        position = np.floor((centre + 0.5) * n_in / n_out)
    else:
        position = (centre + 0.5) * (n_in / n_out) - 0.5
    return _table_at(position, n_in)


def _table_at(position: np.ndarray, n_in: int) -> AxisTable:
    position = np.clip(position, 0, n_in - 1)
    first = np.floor(position).astype(np.int32)
    fraction = position - first
    second = np.minimum(first + 1, n_in - 1).astype(np.int32)
    return AxisTable(first, second, (1 - fraction).astype(np.float32), fraction.astype(np.float32))


def fitted_table(n_in: int, span: Span) -> AxisTable:
    """Where each sample of an axis of the network's input lies among a frame's `n_in`; outside the span, no weight."""
    table, around = axis_table(n_in, span.length), (span.start, span.whole - span.start - span.length)
    return AxisTable(*(np.pad(values, around) for values in table))


def cut_table(n_in: int, n_out: int, span: Span, upsample: Upsample = "half_pixel") -> AxisTable:
    """Where each of a frame's `n_out` samples lies among `n_in` logits, of which the frame fills a span alone."""
    if span.length == span.whole:
        return axis_table(n_in, n_out, upsample)
    place = span.start + (np.arange(n_out, dtype=np.float64) + 0.5) * (span.length / n_out)  # in the network's input
    if upsample == "align_corners":
        return _table_at((place - 0.5) * ((n_in - 1) / max(span.whole - 1, 1)), n_in)
    position = place * (n_in / span.whole)
    return _table_at(np.floor(position) if upsample == "nearest" else position - 0.5, n_in)


def resize_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frame at another size, rounded to whole values, halves to even; the same size gives the same bytes.

    Args:
        frame: uint8 (H, W, 3).

    Returns:
        uint8 (height, width, 3).

    Raises:
        FrameError: it is no frame.
    """
    check_frame(frame)
    across, down = axis_table(frame.shape[1], width), axis_table(frame.shape[0], height)
    resized = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        upper = _across(frame[down.first[rows]].astype(np.float32).transpose(2, 0, 1), across)
        lower = _across(frame[down.second[rows]].astype(np.float32).transpose(2, 0, 1), across)
        values = upper * down.weight_first[rows, None] + lower * down.weight_second[rows, None]
        resized[rows] = np.rint(values).astype(np.uint8).transpose(1, 2, 0)
    return resized


def fit_frame(frame: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """The frame at the network's size, as `preprocess.fit` says; around it, `border`.

    Args:
        frame: uint8 (H, W, 3) RGB.

    Returns:
        uint8 (height, width, 3) RGB.

    Raises:
        FrameError: it is no frame.
    """
    check_frame(frame)
    (top, height, _), (left, width, _) = box_of(preprocess, *frame.shape[:2])
    fitted = np.empty((preprocess.height, preprocess.width, 3), np.uint8)
    fitted[:] = border(preprocess)
    fitted[top : top + height, left : left + width] = resize_frame(frame, height, width)
    return fitted


def border(preprocess: Preprocess) -> np.ndarray:
    """The colour around a frame that does not fill the network's input: the mean, which normalisation makes zero.

    Returns:
        uint8 (3,) RGB.
    """
    mean = np.asarray(preprocess.mean) / preprocess.scale
    colour = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
    return colour if preprocess.channel_order == "RGB" else colour[::-1]


def gain_and_bias(preprocess: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Normalisation as `value * gain + bias`.

    Returns:
        gain, bias: float32 (3,), in the network's channel order.
    """
    std = np.asarray(preprocess.std, np.float64)
    return (preprocess.scale / std).astype(np.float32), (-np.asarray(preprocess.mean) / std).astype(np.float32)


def preprocess(frame: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """A frame as the network's input.

    Args:
        frame: uint8 (H, W, 3) RGB.

    Returns:
        float32 (1, 3, height, width), normalised, channels in the network's order.

    Raises:
        FrameError: it is no frame.
    """
    resized = fit_frame(frame, preprocess)
    channels = resized if preprocess.channel_order == "RGB" else resized[..., ::-1]
    gain, bias = gain_and_bias(preprocess)
    return np.ascontiguousarray((channels * gain + bias).transpose(2, 0, 1)[None])


def unblock(logits: np.ndarray, block: int) -> np.ndarray:
    """Each block of pixels from the channels back to its place (`ModelSpec.block`); a view where block is 1.

    Args:
        logits: float (N, C * block * block, h, w).

    Returns:
        float (N, C, h * block, w * block).
    """
    n, channels, h, w = logits.shape
    split = logits.reshape(n, channels // block**2, block, block, h, w)
    whole: np.ndarray = split.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, h * block, w * block)
    return whole


def postprocess(
    logits: np.ndarray,
    height: int,
    width: int,
    *,
    block: int = 1,
    upsample: Upsample = "half_pixel",
    box: Box | None = None,
) -> np.ndarray:
    """Class of every frame pixel: upsample the logits, then take the largest; ties go to the lower class id.

    Args:
        logits: float32 or float16 (1, C * block * block, h, w), C <= 255.
        height: of the frame.
        width: of the frame.
        block: as in `ModelSpec`.
        upsample: as in `ModelSpec`.
        box: what of the network's input the frame fills; None: all of it.

    Returns:
        uint8 (height, width) train ids.

    Source: ONNX Resize, coordinate_transformation_mode="half_pixel".
    """
    mask = np.empty((height, width), np.uint8)
    for rows, values in _upsampled(unblock(logits, block)[0], _cut_tables(logits, mask.shape, block, upsample, box)):
        mask[rows] = np.argmax(values, axis=0)
    return mask


def confidence(
    logits: np.ndarray,
    height: int,
    width: int,
    *,
    block: int = 1,
    upsample: Upsample = "half_pixel",
    box: Box | None = None,
) -> np.ndarray:
    """How far the class of every frame pixel is ahead of the second: `255 * tanh(margin / 2)`, the nearest whole value.

    The margin is the largest of the upsampled logits that `postprocess` compares less the second largest, so the share
    of 255 is (p - q) / (p + q) of their probabilities p and q by a softmax: 85 where the class is twice as probable as
    the second, 128 three times, 204 nine times. Without a second class it is 255. Where a logit around the pixel is not
    finite it is 0.

    Args:
        logits: as `postprocess` takes them, and all that follows.

    Returns:
        uint8 (height, width).
    """
    found = np.empty((height, width), np.uint8)
    tables = map(_read_once, _cut_tables(logits, found.shape, block, upsample, box))
    with np.errstate(all="ignore"):
        for rows, values in _upsampled(unblock(logits, block)[0], tables):
            second = np.partition(values, -2, axis=0)[-2] if len(values) > 1 else np.float32(-np.inf)
            steps = np.searchsorted(CONFIDENCE_STEPS, values.max(axis=0) - second, side="right")
            found[rows] = np.where(np.isfinite(values).all(axis=0), steps, 0)
    return found


def voided(mask: np.ndarray, confidence: np.ndarray, below: int) -> np.ndarray:
    """The mask without the pixels of less confidence: they are `runtime.labels.IGNORED`.

    Args:
        mask, confidence: uint8 (H, W), of the same frame.
        below: 0..255; 0: none is void.

    Returns:
        uint8 (H, W), a new array.
    """
    return np.where(confidence < below, np.uint8(IGNORED), mask)


def segment(logits: np.ndarray, spec: ModelSpec, frame_shape: tuple[int, ...]) -> np.ndarray:
    """`postprocess` with what the spec says of the logits; uint8 of the frame's height and width."""
    return postprocess(logits, *frame_shape[:2], **_how(spec, frame_shape))


def segment_confidence(logits: np.ndarray, spec: ModelSpec, frame_shape: tuple[int, ...]) -> np.ndarray:
    """`confidence` with what the spec says of the logits; uint8 of the frame's height and width."""
    return confidence(logits, *frame_shape[:2], **_how(spec, frame_shape))


def overlay(frame: np.ndarray, mask: np.ndarray, palette: np.ndarray, alpha: float) -> np.ndarray:
    """The frame with the mask's colours over it, in whole 256ths: `(frame * (256 - a) + color * a + 128) >> 8`.

    Args:
        frame: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W) train ids.
        palette: uint8 (256, 3) RGB, `runtime.labels.palette`.
        alpha: 0 (the frame alone) to 1 (the colours alone); `a` is the nearest of the 256ths.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        FrameError: it is no frame.
        ValueError: the mask is not uint8 of the frame's size; or as `overlay_shades`.
    """
    check_frame(frame)
    check_mask(mask, frame)
    keep, shades = overlay_shades(palette, alpha)
    blended: np.ndarray = ((frame.astype(np.uint16) * keep + shades[mask]) >> 8).astype(np.uint8)
    return blended


def check_mask(mask: object, frame: np.ndarray) -> None:
    """Refuse what is not the mask of a frame.

    Raises:
        ValueError: it is not uint8 (H, W) of the frame's size.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != frame.shape[:2]:
        raise ValueError(f"the mask of this frame is uint8 {frame.shape[:2]}, got {_described(mask)}")


def check_out(out: object, frame: np.ndarray) -> None:
    """Refuse what the mask of a frame cannot be written to; contiguous or not.

    Raises:
        ValueError: it is not uint8 (H, W) of the frame's size, is read-only, or overlaps the frame or itself.
    """
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != frame.shape[:2]:
        raise ValueError(f"the mask of this frame is written to uint8 {frame.shape[:2]}, got {_described(out)}")
    if not out.flags.writeable:
        raise ValueError("the mask cannot be written to an array that is read-only")
    if any(size > 1 and abs(step) < 1 for size, step in zip(out.shape, out.strides, strict=True)):
        raise ValueError("the mask cannot be written to an array that overlaps itself")
    if np.may_share_memory(out, frame):
        raise ValueError("the mask cannot be written over its frame: their memory overlaps")


def check_size(height: object, width: object) -> tuple[int, int]:
    """The size of a frame, as ints.

    Raises:
        ValueError: one is no whole number, or less than one.
    """
    for size in (height, width):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"a frame is one pixel or more each way, got {height!r:.40} by {width!r:.40}")
    return int(height), int(width)  # type: ignore[call-overload]


def overlay_shades(palette: np.ndarray, alpha: float) -> tuple[np.uint16, np.ndarray]:
    """What `overlay` multiplies the frame with, uint16, and what it adds for each class, uint16 (256, 3).

    Raises:
        ValueError: the palette is not uint8 (256, 3), or alpha not from 0 to 1.
    """
    if not isinstance(palette, np.ndarray) or palette.dtype != np.uint8 or palette.shape != (256, 3):
        raise ValueError(f"a palette is uint8 (256, 3), got {_described(palette)}")
    if not isinstance(alpha, (int, float, np.number)) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha is from 0 to 1, got {alpha}")
    share = round(256 * alpha)
    return np.uint16(256 - share), palette.astype(np.uint16) * np.uint16(share) + np.uint16(128)


def _described(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _across(values: np.ndarray, table: AxisTable) -> np.ndarray:
    # float32 (..., n_in) -> (..., n_out)
    wide: np.ndarray = values[..., table.first] * table.weight_first + values[..., table.second] * table.weight_second
    return wide


def _how(spec: ModelSpec, frame_shape: tuple[int, ...]) -> dict[str, Any]:
    return {"block": spec.block, "upsample": spec.upsample, "box": box_of(spec.preprocess, *frame_shape[:2])}


def _cut_tables(
    logits: np.ndarray, size: tuple[int, ...], block: int, upsample: Upsample, box: Box | None
) -> list[AxisTable]:
    # Down and across.
    sides = [side * block for side in logits.shape[2:]]
    spans = box or [Span(0, side, side) for side in sides]
    return [cut_table(*axis, upsample) for axis in zip(sides, size, spans, strict=True)]


def _read_once(table: AxisTable) -> AxisTable:
    # A sample without weight is not read: nothing times infinity is no number.
    return table._replace(second=np.where(table.weight_second == 0, table.first, table.second))


def _upsampled(coarse: np.ndarray, tables: Iterable[AxisTable]) -> Iterator[tuple[slice, np.ndarray]]:
    # Some rows at a time, and float32 (C, rows, width) at them.
    down, across = tables
    wide = _across(coarse.astype(np.float32), across)
    for start in range(0, len(down.first), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        upper, lower = wide[:, down.first[rows]], wide[:, down.second[rows]]
        yield rows, upper * down.weight_first[rows, None] + lower * down.weight_second[rows, None]
