import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.media.png import png_from_pixels

SHAPES = [(1, 1), (1, 7), (9, 1), (17, 33), (64, 257)]
LARGE = (4320, 7680)


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


def chunks(png):
    """The name, data and checksum of every chunk."""
    found, start = [], 8
    while start < len(png):
        (length,) = struct.unpack_from(">I", png, start)
        (checksum,) = struct.unpack_from(">I", png, start + 8 + length)
        found.append((png[start + 4 : start + 8], png[start + 8 : start + 8 + length], checksum))
        start += 12 + length
    return found


@pytest.mark.parametrize("shape", [LARGE, (*LARGE, 3), (1, 70000), (70000, 1)], ids=str)
def test_large_and_long_pictures_are_whole(shape):
    pixels = np.add.outer(np.arange(shape[0]) // 7, np.arange(shape[1]) // 5).astype(np.uint8)
    pixels = np.stack([pixels, pixels // 2, 255 - pixels], 2) if len(shape) == 3 else pixels
    decoded = cv2.imdecode(np.frombuffer(png_from_pixels(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1] if pixels.ndim == 3 else decoded, pixels)


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3)], ids=str)
def test_a_viewer_finds_neither_gamma_nor_transparency_nor_a_palette(shape):
    # So browsers take the samples for sRGB and every pixel for opaque, and ids are read as they are.
    found = chunks(png_from_pixels(np.random.default_rng(3).integers(0, 256, shape, np.uint8)))
    assert [name for name, _, _ in found] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", found[0][1])
    assert (height, width, depth, colour, methods) == (9, 13, 8, 2 if len(shape) == 3 else 0, [0, 0, 0])


def test_checksums_are_right_and_the_data_is_one_whole_stream_of_zlib():
    mask = np.random.default_rng(4).integers(0, 19, (50, 70), np.uint8)
    found = chunks(png_from_pixels(mask))
    assert all(zlib.crc32(name + data) == checksum for name, data, checksum in found)
    stream = zlib.decompressobj()
    assert len(stream.decompress(found[1][1])) == 50 * 71 and stream.eof and not stream.unused_data


def test_a_repeatable_png_is_that_of_zlib_alone():
    # ISA-L finds a match at another place now and then: where bytes are compared, only runs are looked for, by zlib.
    pixels = np.kron(np.random.default_rng(5).integers(0, 255, (9, 16, 3), np.uint8), np.ones((32, 32, 1), np.uint8))
    data = png_from_pixels(pixels, repeatable=True)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    stream = {name: stored for name, stored, _ in chunks(data)}[b"IDAT"]
    runs = zlib.compressobj(1, strategy=zlib.Z_RLE)
    assert stream == runs.compress(zlib.decompress(stream)) + runs.flush()
    assert data != png_from_pixels(pixels)
