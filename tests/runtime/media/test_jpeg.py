import io

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.errors import OutputError
from runtime.media import jpeg
from runtime.media.frames import write_jpeg
from runtime.media.jpeg import jpeg_from_pixels
from runtime.media.marks import is_output, is_whole, marked_jpeg

SHAPES = [(1, 1), (1, 7), (9, 1), (17, 33), (64, 257)]
NEAR = 6  # of 255, where there is no detail to lose: rounding of YCbCr and of the transform


def soft(shape):
    """A gradient of colours that no JPEG finds hard."""
    down, across = np.meshgrid(*(np.linspace(40, 200, side) for side in shape), indexing="ij")
    return np.stack([down, across, (down + across) / 2], 2).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_decoders_give_nearly_the_pixels_back_and_their_size(shape):
    data = jpeg_from_pixels(soft(shape), 100)
    image = Image.open(io.BytesIO(data))
    assert (image.mode, image.format, image.size) == ("RGB", "JPEG", shape[::-1])
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    for found in (np.asarray(image), decoded):
        assert np.abs(found.astype(int) - soft(shape)).max() <= NEAR


def test_colours_are_kept_at_every_pixel():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (255, 0, 0), (0, 0, 255)
    found = np.asarray(Image.open(io.BytesIO(jpeg_from_pixels(stripes, 95)))).astype(int)
    assert np.abs(found - stripes).max() < 64  # at half the resolution both become one purple


def test_it_turns_no_picture():
    assert not Image.open(io.BytesIO(jpeg_from_pixels(soft((20, 30))))).getexif()


def test_more_quality_is_nearer_and_larger():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    files = [jpeg_from_pixels(noise, quality) for quality in (10, 50, 100)]
    errors = [np.abs(np.asarray(Image.open(io.BytesIO(file))).astype(int) - noise).mean() for file in files]
    assert list(map(len, files)) == sorted(map(len, files)) and errors == sorted(errors, reverse=True)


def test_pixels_that_lie_apart_are_written_as_they_are_seen():
    pixels = soft((20, 30))
    for seen in (pixels[::-1, ::2], pixels.transpose(1, 0, 2), pixels[..., ::-1]):
        assert jpeg_from_pixels(seen) == jpeg_from_pixels(np.ascontiguousarray(seen))


def test_a_side_that_no_jpeg_has_is_one_line_with_the_file_and_leaves_none(tmp_path):
    pixels = np.zeros((1, jpeg.MOST_SIDE_PX + 1, 3), np.uint8)
    with pytest.raises(OutputError, match=r"a\.jpg: 1x65501 pixels are no JPEG.*--overlay-format png"):
        write_jpeg(tmp_path / "a.jpg", pixels)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_side_is_written():
    pixels = np.zeros((1, jpeg.MOST_SIDE_PX, 3), np.uint8)
    assert Image.open(io.BytesIO(jpeg_from_pixels(pixels))).size == (jpeg.MOST_SIDE_PX, 1)


def test_a_mark_is_found_again_and_changes_no_pixel(tmp_path):
    data = jpeg_from_pixels(soft((20, 30)))
    marked = marked_jpeg(data, "key 1f 2e")
    np.testing.assert_array_equal(Image.open(io.BytesIO(marked)), Image.open(io.BytesIO(data)))
    path = tmp_path / "a_png_overlay.jpg"
    path.write_bytes(marked)
    assert is_whole(path, "key 1f 2e") and not is_whole(path, "key 1f 2d")
    assert is_output(str(tmp_path), path.name)
    for damaged in (data, marked[:-1], marked[:30], b""):
        path.write_bytes(damaged)
        assert not is_whole(path, "key 1f 2e") and not is_output(str(tmp_path), path.name)
