"""Small files that would cost much: refused in one line before a decoder sees them, frames and labels alike."""

import argparse
import struct

import cv2
import numpy as np
import pytest

from runtime.accuracy.datasets import identity_table, read_label
from runtime.accuracy.datasets import read_frame as read_dataset_frame
from runtime.errors import DatasetError, FrameError
from runtime.media import frames, headers
from runtime.media.frames import add_max_pixels, allow_pixels, read_frame
from runtime.media.video import VideoReader
from tests.helpers.costly import flat_png, noted_png, scanned_jpeg, tiff_with, video_of
from tests.helpers.pictures import encoded, gradient, lossless, png, png_chunk, read, refusal

READERS = {
    "frame": read_frame,
    "frame of a data set": read_dataset_frame,
    "label": lambda path: read_label(path, identity_table(11, ()), {}),
}
COSTLY = {
    "a large picture": (lambda: flat_png(8001), "8001x8001, 64.0 megapixels, too large"),
    "two sizes, the first larger": (lambda: tiff_with((256, 4, 1, 30000)), "a field of this TIFF stands twice"),
    "two sizes of other types": (lambda: tiff_with((257, 4, 1, 40)), "a field of this TIFF stands twice"),
    "two sizes in the other order of bytes": (lambda: tiff_with((256, 4, 1, 64), order=">"), "stands twice"),
    "fields that share an array": (
        lambda: tiff_with(*((1000 + i, 4, 1000, 0) for i in range(40))),
        "the fields of this TIFF take more bytes than it has",
    ),
    "fields of no integers that do": (lambda: tiff_with(*((1000 + i, 12, 500, 0) for i in range(40))), "more bytes"),
    "a large tile": (lambda: tiff_with((322, 4, 1, 30000), (323, 4, 1, 30000)), "a tile of this TIFF has 30000x30000"),
    "many scans": (lambda: scanned_jpeg(400_000 // 64, 512), "scans of 512x512 pixels, which would take too long"),
    "many chunks": (lambda: noted_png(b"zTXt", 100_001, 0), "more than 100000 chunks"),
}


@pytest.fixture
def undecoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("costly", COSTLY)
def test_a_small_file_that_costs_much_is_one_line_and_never_decoded(costly, reader, tmp_path, undecoded):
    make, said = COSTLY[costly]
    (tmp_path / "x.png").write_bytes(make())
    with pytest.raises((FrameError, DatasetError)) as raised:
        READERS[reader](tmp_path / "x.png")
    assert said in str(raised.value) and "x.png" in str(raised.value) and "\n" not in str(raised.value)


def shared_strips():
    data = bytearray(tiff_with())
    at = struct.unpack_from("<I", data, 4)[0]
    fields = {struct.unpack_from("<H", data, i)[0]: i for i in range(at + 2, at + 2 + 12 * 9, 12)}
    counts = struct.unpack_from("<I", data, fields[279] + 8)[0]
    offsets = struct.unpack_from("<I", data, fields[273] + 8)[0]
    struct.pack_into("<II", data, offsets, 8, 8)
    struct.pack_into("<II", data, counts, len(data) - 8, len(data) - 8)
    return bytes(data)


def test_strips_that_share_their_bytes_are_refused(tmp_path, undecoded):
    assert "the strips of this TIFF take more bytes" in refusal(tmp_path, shared_strips())


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
def test_texts_of_a_png_are_not_given_to_the_decoder(name, tmp_path, monkeypatch):
    given, decode = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: (given.append(data.tobytes()), decode(data, flags))[1])
    np.testing.assert_array_equal(read(tmp_path, noted_png(name, 2)), gradient())
    assert name not in given[0]


def test_what_the_pixels_of_a_png_depend_on_is_given_to_it(tmp_path):
    rows = [bytes(row[:, 0]) for row in gradient()]
    plte, trns = (b"\0\1\2" * 256, bytes(256))
    palette = png(rows, 64, 8, 3, *(png_chunk(name, data) for name, data in ((b"PLTE", plte), (b"tRNS", trns))))
    assert read(tmp_path, palette)[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("scans", [0, 5, 200])
def test_a_jpeg_of_as_many_scans_as_its_size_allows_is_read(scans, tmp_path):
    assert read(tmp_path, scanned_jpeg(scans)).shape == (64, 64, 3)


@pytest.mark.parametrize("extension", [".jpg", ".tiff", ".bmp", ".webp", ".png"])
def test_what_a_program_writes_is_not_called_costly(extension, tmp_path):
    assert read(tmp_path, lossless(extension, gradient())).shape == gradient().shape


def test_a_picture_in_a_video_is_held_to_its_own_size(tmp_path):
    path = video_of(tmp_path / "x.avi", "png", flat_png(8192), 64, 64)
    with VideoReader(path) as reader, pytest.raises(FrameError, match=r"is 8192x8192, 67.1 megapixels, too large"):
        reader.read()


def test_the_scans_of_a_picture_in_a_video_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "MOST_SCANNED", 64 * 64 * 100)
    path = video_of(tmp_path / "x.avi", "mjpeg", scanned_jpeg(200), 64, 64)
    with VideoReader(path) as reader, pytest.raises(FrameError, match=r"has 2\d\d scans of 64x64 pixels"):
        reader.read()


def test_the_texts_of_a_picture_in_a_video_are_weighed(tmp_path):
    path = video_of(tmp_path / "x.avi", "png", noted_png(b"zTXt", 12), 40, 64)
    with VideoReader(path) as reader, pytest.raises(FrameError, match="texts and profiles of more than 65536 bytes"):
        reader.read()


def test_more_pixels_are_taken_where_the_user_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(frames._Allowed, "pixels", None)
    (tmp_path / "x.png").write_bytes(encoded(".png", gradient()))
    parser = argparse.ArgumentParser()
    add_max_pixels(parser)
    parser.parse_args(["--max-pixels", str(40 * 64 - 1)])
    with pytest.raises(FrameError, match=r"expected at most 0.002559 megapixels \(as 50x50\); .* raise --max-pixels"):
        read_frame(tmp_path / "x.png")
    allow_pixels(40 * 64)
    assert read_frame(tmp_path / "x.png").shape == (40, 64, 3)


@pytest.mark.parametrize("given", ["0", "-1", "1e6", "255", "1073741824", "9" * 30, "x"])
def test_a_number_of_pixels_that_is_none_is_said(given, capsys):
    parser = argparse.ArgumentParser()
    add_max_pixels(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--max-pixels", given])
    assert "is not a number of pixels, 256 to 1073741823" in capsys.readouterr().err
