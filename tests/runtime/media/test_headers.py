import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media import frames
from runtime.media.frames import MAX_PIXELS, read_frame
from runtime.media.headers import read_header
from tests.helpers import pictures
from tests.helpers.pictures import encoded, gradient, lossless, read, refusal

WHOLE = {
    "png": lambda: lossless(".png", gradient()),
    "jpeg": lambda: encoded(".jpg", gradient()),
    "progressive": lambda: encoded(".jpg", gradient(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "thumbnail": lambda: pictures.with_thumbnail(encoded(".jpg", gradient()), encoded(".jpg", gradient(8, 8))),
    "webp lossy": lambda: encoded(".webp", gradient(), cv2.IMWRITE_WEBP_QUALITY, 80),
    "webp lossless": lambda: lossless(".webp", gradient()),
    "webp alpha": lambda: encoded(".webp", np.dstack([gradient(), gradient()[..., 0]]), cv2.IMWRITE_WEBP_QUALITY, 80),
    "bmp": lambda: lossless(".bmp", gradient()),
    "tiff": lambda: lossless(".tiff", gradient()),
    "tiff directory first": lambda: pictures.tiff_directory_first(gradient()),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_anywhere_is_refused(tmp_path, kind):
    data = WHOLE[kind]()
    assert read(tmp_path, data).shape == gradient().shape
    for length in {*range(16, len(data), max(1, len(data) // 60)), len(data) - 2, len(data) - 1}:
        assert "truncated" in refusal(tmp_path, data[:length]), f"cut to {length} of {len(data)} bytes"


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_file_cut_to_less_than_a_signature_is_refused(tmp_path, length):
    for make in WHOLE.values():
        refusal(tmp_path, make()[:length])


def test_the_end_marker_of_a_thumbnail_does_not_end_the_picture(tmp_path):
    data = WHOLE["thumbnail"]()
    assert b"\xff\xd9" in data[: len(data) // 2]
    assert "truncated" in refusal(tmp_path, data[: len(data) * 3 // 4])


def test_a_table_before_the_frame_header_is_not_taken_for_it():
    jpeg = encoded(".jpg", gradient())
    at = jpeg.index(b"\xff\xc4")
    table = jpeg[at : at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]]
    assert read_header(jpeg[:2] + table + jpeg[2:]) == ("JPEG", 40, 64)


def test_a_changed_byte_in_a_png_is_refused(tmp_path):
    data = bytearray(lossless(".png", gradient()))
    data[data.index(b"IDAT") + 40] ^= 1
    assert "checksum of its IDAT" in refusal(tmp_path, bytes(data))


def test_a_changed_byte_in_a_png_comment_is_not(tmp_path):
    comment = bytearray(pictures.png_chunk(b"tEXt", b"Comment\0hello"))
    comment[-6] ^= 1
    rows = [row.tobytes() for row in gradient()]
    np.testing.assert_array_equal(read(tmp_path, pictures.png(rows, 64, 8, 2, bytes(comment))), gradient())


def test_a_png_with_too_few_rows_is_refused(tmp_path):
    short = bytearray(pictures.png([bytes(32)] * 16, 32, 8, 0))
    short[20:24] = struct.pack(">I", 17)
    short[29:33] = struct.pack(">I", zlib.crc32(short[12:29]))
    assert "damaged" in refusal(tmp_path, bytes(short))


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_a_picture_with_a_side_under_16_is_refused(tmp_path, size):
    message = refusal(tmp_path, lossless(".png", np.zeros((*size, 3), np.uint8)))
    assert f"{size[0]}x{size[1]}" in message and "16x16" in message


def test_sixteen_is_enough(tmp_path):
    assert read(tmp_path, lossless(".png", np.zeros((16, 16, 3), np.uint8))).shape == (16, 16, 3)


def test_a_hundred_megapixels_are_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    message = refusal(tmp_path, pictures.png([bytes(10000)] * 10000, 10000, 8, 0))
    assert "10000x10000, 100.0 megapixels" in message and "at most 64 megapixels" in message


@pytest.mark.parametrize("extension", [".jpg", ".webp", ".bmp", ".tiff", ".png"])
def test_every_format_tells_its_size_before_decoding(tmp_path, monkeypatch, extension):
    monkeypatch.setattr(frames, "MAX_PIXELS", 40 * 64 - 1)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    variants = [lossless(extension, gradient())]
    if extension == ".webp":
        variants += [WHOLE["webp lossy"](), WHOLE["webp alpha"]()]
    for data in variants:
        assert "is 40x64, 0.0 megapixels, too large" in refusal(tmp_path, data)


def test_the_largest_picture_taken_is_8000_by_8000():
    frames.refuse_size(8000, 8000)
    assert MAX_PIXELS == 8000 * 8000
    with pytest.raises(FrameError, match="8001x8000"):
        frames.refuse_size(8001, 8000)


def test_a_file_larger_than_any_picture_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was read"))
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(frames.MAX_FILE_BYTES + (1 << 20))
    with pytest.raises(FrameError, match="has 489 MiB, expected an image of at most 488 MiB"):
        read_frame(tmp_path / "x.png")
