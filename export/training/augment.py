"""Random views of labelled frames; each is a function of the seed, the epoch and the frame."""

import dataclasses

import cv2
import numpy as np

from runtime.labels import IGNORED

NEAR, WIDE = "near", "wide"


@dataclasses.dataclass(frozen=True, slots=True)
class ScaleRange:
    """Scales are log-uniform: their geometric mean in `mean`, width over height in `aspect`."""

    mean: tuple[float, float]
    aspect: tuple[float, float]


# Near the frame's own size, and up to what a 360x480 frame becomes at 1024x2048: 2.84 down, 4.27 across.
SCALES = {
    NEAR: ScaleRange((0.75, 1.5), (1 / 1.2, 1.2)),
    WIDE: ScaleRange((1.5, 3.5), (1 / 1.1, 1.5)),
}
CONTRAST, CHANNEL_GAIN, BRIGHTNESS = 0.2, 0.1, 15.0  # the last in grey levels
SATURATION, HUE = 0.5, np.pi / 9  # at full jitter; the angle about the grey axis in radians
# What a colour crossed with the grey axis (1, 1, 1) is.
CROSS_GREY = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])


def random_view(
    frame: np.ndarray,
    label: np.ndarray,
    size: tuple[int, int],
    scales: ScaleRange,
    rng: np.random.Generator,
    color: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A random crop of the frame, scaled, mirrored and recoloured, and the same of its label.

    Args:
        frame: uint8 (H, W, 3) RGB.
        label: uint8 (H, W) train ids.
        size: height and width of the view.
        scales: what the scale is drawn from.
        rng: consumed.
        color: 0..1, how much hue and saturation are moved.

    Returns:
        uint8 (*size, 3) RGB and uint8 size; black and IGNORED where the view leaves the frame.
    """
    matrix = _random_affine(label.shape, size, scales, rng)
    width_height = size[::-1]
    view = cv2.warpAffine(frame, matrix, width_height, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    ids = cv2.warpAffine(
        label, matrix, width_height, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=IGNORED
    )
    return _recolor(view, rng, color), ids


def _random_affine(
    frame_size: tuple[int, ...], size: tuple[int, int], scales: ScaleRange, rng: np.random.Generator
) -> np.ndarray:
    # float64 (2, 3): a view's (x, y) -> the frame's, both at pixel centres
    mean = np.exp(rng.uniform(*np.log(scales.mean)))
    skew = np.exp(rng.uniform(*np.log(scales.aspect)) / 2)
    step_y, step_x = skew / mean, 1 / (mean * skew)
    top, left = (
        rng.uniform(min(0, slack), max(0, slack))
        for slack in (frame_size[0] - size[0] * step_y, frame_size[1] - size[1] * step_x)
    )
    if rng.random() < 0.5:
        left, step_x = left + size[1] * step_x, -step_x
    return np.array([[step_x, 0, left + step_x / 2 - 0.5], [0, step_y, top + step_y / 2 - 0.5]])


def _recolor(view: np.ndarray, rng: np.random.Generator, color: float) -> np.ndarray:
    contrast = rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    gain = contrast * rng.uniform(1 - CHANNEL_GAIN, 1 + CHANNEL_GAIN, 3)
    shift = rng.uniform(-BRIGHTNESS, BRIGHTNESS) + 128 * (1 - contrast)  # contrast turns about the middle grey
    matrix = gain[:, None] * _saturate_rotate(
        rng.uniform(1 - color * SATURATION, 1 + color * SATURATION), rng.uniform(-color * HUE, color * HUE)
    )
    return cv2.transform(view, np.column_stack([matrix, np.full(3, shift)]))


def _saturate_rotate(saturation: float, angle: float) -> np.ndarray:
    # float64 (3, 3): what is off the grey axis, scaled and turned about it (Rodrigues); the mean stays
    turned = np.cos(angle) * (np.eye(3) - 1 / 3) + np.sin(angle) / np.sqrt(3) * CROSS_GREY
    return saturation * turned + 1 / 3
