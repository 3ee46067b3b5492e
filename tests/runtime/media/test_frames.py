import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError, OutputError
from runtime.media import frames
from runtime.media.frames import (
    read_frame,
    write_png,
)
from tests.helpers import pictures
from tests.helpers.pictures import encoded, gradient, lossless, read, refusal
from tests.helpers.tiffs import tiff

LOSSLESS = (".png", ".webp", ".bmp", ".tiff")
# JPEG of quality 95 on a smooth picture; a channel swap or a turned picture is off by tens.
JPEG_TOLERANCE = 6.0


@pytest.mark.parametrize("extension", LOSSLESS)
def test_a_lossless_picture_comes_back_as_rgb(tmp_path, extension):
    frame = read(tmp_path, lossless(extension, gradient()), f"x{extension}")
    assert frame.dtype == np.uint8 and frame.flags.c_contiguous
    np.testing.assert_array_equal(frame, gradient())


@pytest.mark.parametrize("settings", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_a_jpeg_comes_back_as_rgb(tmp_path, settings):
    frame = read(tmp_path, encoded(".jpg", gradient(), cv2.IMWRITE_JPEG_QUALITY, 95, *settings))
    assert np.abs(frame.astype(int) - gradient()).mean() < JPEG_TOLERANCE


@pytest.mark.parametrize("extension", LOSSLESS)
def test_grey_becomes_three_equal_channels(tmp_path, extension):
    grey = gradient()[..., 0]
    np.testing.assert_array_equal(read(tmp_path, lossless(extension, grey)), np.dstack([grey] * 3))


@pytest.mark.parametrize("extension", LOSSLESS)
def test_alpha_is_dropped_and_the_colours_stay(tmp_path, extension):
    # Alpha 1 and not 0: a WebP encoder blanks what nobody can see.
    rgba = np.dstack([gradient(), np.ones(gradient().shape[:2], np.uint8)])
    np.testing.assert_array_equal(read(tmp_path, lossless(extension, rgba)), gradient())


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_sixteen_bits_the_upper_eight_stay(tmp_path, extension, channels):
    deep = np.random.default_rng(3).integers(0, 1 << 16, (40, 64, channels)).astype(np.uint16)
    frame = read(tmp_path, encoded(extension, deep.squeeze()))
    np.testing.assert_array_equal(frame, (np.broadcast_to(deep[..., :3], (40, 64, 3)) >> 8).astype(np.uint8))


def test_a_palette_picture_becomes_its_colours(tmp_path):
    colors = pictures.png_chunk(b"PLTE", bytes([10, 20, 30, 250, 130, 5]))
    frame = read(tmp_path, pictures.png([bytes([0] * 16 + [1] * 16)] * 16, 32, 8, 3, colors))
    assert frame[0, 0].tolist() == [10, 20, 30] and frame[15, 31].tolist() == [250, 130, 5]


def test_a_transparent_palette_entry_keeps_its_colour(tmp_path):
    chunks = (pictures.png_chunk(b"PLTE", bytes([10, 20, 30])), pictures.png_chunk(b"tRNS", b"\0"))
    assert read(tmp_path, pictures.png([bytes(32)] * 16, 32, 8, 3, *chunks))[0, 0].tolist() == [10, 20, 30]


def test_one_bit_is_black_and_white(tmp_path):
    frame = read(tmp_path, pictures.png([b"\x0f\xff\xff\xff"] * 16, 32, 1, 0))
    assert frame[0, 3].tolist() == [0, 0, 0] and frame[0, 4].tolist() == [255, 255, 255]


def test_grey_with_alpha_keeps_its_grey(tmp_path):
    assert read(tmp_path, pictures.png([bytes([200, 0] * 32)] * 16, 32, 8, 4))[0, 0].tolist() == [200] * 3


# EXIF 2.32, 4.6.4 A, tag 274: what undoes each orientation.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_jpeg_is_turned_upright(tmp_path, orientation):
    jpeg = encoded(".jpg", gradient(), cv2.IMWRITE_JPEG_QUALITY, 95)
    frame = read(tmp_path, pictures.with_exif(jpeg, orientation), "x.jpg")
    upright = UPRIGHT[orientation](gradient())
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < JPEG_TOLERANCE


def test_png_is_turned_upright(tmp_path):
    rows = [row.tobytes() for row in gradient()]
    data = pictures.png(rows, 64, 8, 2, pictures.png_chunk(b"eXIf", pictures.exif(6)))
    np.testing.assert_array_equal(read(tmp_path, data), np.rot90(gradient(), -1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_with_its_directory_in_front_is_read(tmp_path, order):
    np.testing.assert_array_equal(read(tmp_path, pictures.tiff_directory_first(gradient(), order)), gradient())


def test_a_name_says_nothing_about_the_format(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, lossless(".bmp", gradient()), "x.jpg"), gradient())


def test_what_follows_the_end_of_a_picture_is_not_its_business(tmp_path):
    for extension in (".png", ".bmp"):
        np.testing.assert_array_equal(read(tmp_path, lossless(extension, gradient()) + b"tail"), gradient())
    read(tmp_path, encoded(".jpg", gradient()) + b"\xff\xd8\xff tail")


@pytest.mark.parametrize(
    "data",
    [
        b"hello world, this is a text",
        b"BM is how this sentence starts, not a picture",
        b"GIF89a" + bytes(40),
        b"\0" * 100,
        b"RIFF\x10\0\0\0WAVEfmt " + bytes(40),
    ],
)
def test_what_is_not_an_image_is_refused(tmp_path, data):
    assert "not an image" in refusal(tmp_path, data, "x.jpg")


def test_float_samples_are_refused(tmp_path):
    data = tiff(np.full((20, 30, 3), 0.5, np.float32), 2, (339, "H", [3] * 3))  # OpenCV 4 writes LogLuv
    assert "float32 samples, expected unsigned ones of 8 or 16 bits" in refusal(tmp_path, data, "x.tiff")


def test_missing_folder_and_empty_are_told_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in (
        ("none.png", "does not exist"),
        ("", "is a folder"),
        ("empty.png", "is empty"),
        ("empty.png/x.png", "does not exist"),
        ("pipe.png", "not a regular file"),
        ("x" * 300, "cannot be read (File name too long)"),
    ):
        with pytest.raises(FrameError) as caught:
            read_frame(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path)) and said in str(caught.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be read (Permission denied)" in refusal(tmp_path, lossless(".png", gradient()))


def test_opencv_logs_again_after_a_frame(tmp_path):
    logging, fatal = getattr(cv2.utils, "logging", cv2), 1
    before = logging.setLogLevel(fatal)
    read(tmp_path, lossless(".png", gradient()))
    assert logging.setLogLevel(before) == fatal


def test_write_png_comes_back_as_it_was(tmp_path):
    write_png(tmp_path / "new" / "rgb.png", gradient())
    np.testing.assert_array_equal(read_frame(tmp_path / "new" / "rgb.png"), gradient())
    write_png(tmp_path / "ids.png", gradient()[..., 2])
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "ids.png"), cv2.IMREAD_UNCHANGED), gradient()[..., 2])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"old")

    def full(path, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"x\.png cannot be written \(No space left on device\): free some space"):
        write_png(tmp_path / "x.png", gradient())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.png", b"old")]


def test_a_path_is_shown_on_one_line():
    assert frames.shown("a\nb\udcff.png") == "a\\nb\\xff.png"
