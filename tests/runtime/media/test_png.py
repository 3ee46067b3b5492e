import io

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.media.png import png_from_pixels

SHAPES = [(1, 1), (1, 7), (9, 1), (17, 33), (64, 257)]


@pytest.mark.parametrize("shape", [*SHAPES, *((*shape, 3) for shape in SHAPES)], ids=str)
@pytest.mark.parametrize("kind", ["noise", "flat", "ramp"])
def test_two_decoders_give_every_pixel_back(shape, kind):
    count = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    noise = np.random.default_rng(0).integers(0, 256, shape)
    pixels = {"noise": noise, "flat": np.full(shape, 255), "ramp": count % 256}[kind].astype(np.uint8)
    data = png_from_pixels(pixels)
    image = Image.open(io.BytesIO(data))
    assert image.mode == ("RGB" if pixels.ndim == 3 else "L")
    np.testing.assert_array_equal(np.asarray(image), pixels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1] if pixels.ndim == 3 else decoded, pixels)


def test_pixels_that_lie_apart_are_written_as_they_are_seen():
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    for seen in (pixels[::-1, ::2], pixels.transpose(1, 0, 2), pixels[..., 1], pixels[..., ::-1]):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_from_pixels(seen)))), seen)


def test_a_mask_is_smaller_than_opencv_makes_it():
    mask = np.kron(np.random.default_rng(2).integers(0, 19, (16, 32), np.uint8), np.ones((32, 32), np.uint8))
    theirs = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    assert len(png_from_pixels(mask)) <= len(theirs)
