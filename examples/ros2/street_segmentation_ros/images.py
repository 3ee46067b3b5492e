"""Between a sensor_msgs/Image, or what has its fields, and arrays. Needs no ROS."""

from array import array
from typing import Any

import numpy as np

# Bytes a pixel, by the names of sensor_msgs/image_encodings.hpp. "yuv422" is the older name of "uyvy", "yuv422_yuy2" of
# "yuyv".
BYTES = {
    "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1,
    "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2,
}  # fmt: skip


class ImageError(ValueError):
    """A message that is no picture which can be segmented; its text is one line."""


def frame_from_image(message: Any) -> np.ndarray:
    """The picture of a message; of rgb8 and bgr8, with or without padded rows, a view of its memory.

    Args:
        message: sensor_msgs/Image.

    Returns:
        uint8 (height, width, 3) RGB, not always contiguous.

    Raises:
        ImageError: the encoding is none of `BYTES`, it is big endian, or the sizes do not fit its data.
    """
    encoding, pixels = message.encoding, _pixels(message)
    if encoding == "mono8":
        return np.repeat(pixels, 3, axis=2)
    if encoding in ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"):
        return _rgb_from_yuv(pixels, encoding)
    colours = pixels[..., :3]
    return colours[..., ::-1] if encoding.startswith("bgr") else colours


def image_from_mask(mask: np.ndarray, header: Any, image: Any) -> Any:
    """Fill a message with a mask, under the header of the picture that it is of: same stamp, same frame id.

    Args:
        mask: uint8 (height, width) train ids.
        header: std_msgs/Header of the picture.
        image: an empty sensor_msgs/Image, which is filled and given back.
    """
    image.header = header
    image.height, image.width = mask.shape
    image.encoding, image.is_bigendian, image.step = "mono8", 0, mask.shape[1]
    # Of any other type rclpy looks at each value by itself.
    image.data = array("B", mask.tobytes())
    return image


def _pixels(message: Any) -> np.ndarray:
    # uint8 (height, width, bytes a pixel), a view.
    size = BYTES.get(message.encoding)
    if size is None:
        raise ImageError(f"images are {', '.join(BYTES)}, got {message.encoding!r:.40}")
    if message.is_bigendian:
        raise ImageError(f"the image of {message.encoding} says that it is big endian, which no 8-bit image is")
    height, width, step = message.height, message.width, message.step
    if height < 1 or width < 1 or step < width * size or len(message.data) != step * height:
        raise ImageError(
            f"an image of {height}x{width} in {message.encoding} has rows of {width * size} bytes or more and a step "
            f"for each, got a step of {step} and {len(message.data)} bytes"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, : width * size]
    return rows.reshape(height, width, size)


def _rgb_from_yuv(pixels: np.ndarray, encoding: str) -> np.ndarray:
    import cv2

    if pixels.shape[1] % 2:
        raise ImageError(f"an image in {encoding} has an even width, got {pixels.shape[1]}")
    code = cv2.COLOR_YUV2RGB_UYVY if encoding in ("uyvy", "yuv422") else cv2.COLOR_YUV2RGB_YUY2
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code))
