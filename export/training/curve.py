"""A training's log as a picture: loss and validation mIoU over the epochs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.artifacts import write_atomically

HEIGHT, WIDTH, MARGIN = 420, 760, 56  # px
LOSS_COLOR, MIOU_COLOR, INK = (200, 90, 30), (40, 110, 220), (60, 60, 60)  # BGR
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_curve(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Loss on the left axis, from 0 to its largest, and mIoU on the right, from 0 to 1.

    Args:
        rows: with `epoch`, `loss` and `miou`, numbers or their text; NaN where an epoch was not validated.

    Returns:
        uint8 (420, 760, 3) BGR.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    last = max(float(row["epoch"]) for row in rows)
    losses = [(float(row["epoch"]), float(row["loss"])) for row in rows]
    top = max((loss for _, loss in losses if math.isfinite(loss)), default=1.0) or 1.0  # of one class it is 0
    cv2.rectangle(canvas, (MARGIN, MARGIN), (WIDTH - MARGIN, HEIGHT - MARGIN), INK, 1)
    _draw(canvas, [(epoch / last, loss / top) for epoch, loss in losses], LOSS_COLOR)
    _draw(canvas, [(float(row["epoch"]) / last, float(row["miou"])) for row in rows], MIOU_COLOR)
    _write(canvas, f"loss, 0..{top:.2f}", (MARGIN, MARGIN - 12), LOSS_COLOR)
    _write(canvas, "val mIoU, 0..1", (WIDTH - MARGIN - 130, MARGIN - 12), MIOU_COLOR)
    _write(canvas, f"epoch 0..{last:.0f}", (WIDTH // 2 - 50, HEIGHT - MARGIN + 28), INK)
    return canvas


def write_curve(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The curve as a PNG file.

    Raises:
        OSError: it cannot be written.
    """
    _, encoded = cv2.imencode(".png", draw_curve(rows))
    write_atomically(path, encoded.tobytes())


def _draw(canvas: np.ndarray, points: list[tuple[float, float]], color: tuple[int, int, int]) -> None:
    # points: shares of the frame's width and height
    known = [(x, y) for x, y in points if math.isfinite(y)]
    pixels = [
        (round(MARGIN + x * (WIDTH - 2 * MARGIN)), round(HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN))) for x, y in known
    ]
    cv2.polylines(canvas, [np.array(pixels, np.int32).reshape(-1, 1, 2)], False, color, 2, cv2.LINE_AA)
    for pixel in pixels:
        cv2.circle(canvas, pixel, 3, color, -1, cv2.LINE_AA)


def _write(canvas: np.ndarray, text: str, position: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(canvas, text, position, FONT, 0.5, color, 1, cv2.LINE_AA)
