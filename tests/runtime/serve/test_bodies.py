import struct
import zlib

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media import decoding
from runtime.serve import bodies
from runtime.serve.bodies import frame_from_body, refuse_encoded
from runtime.serve.replies import Refusal
from tests.helpers.pictures import gradient, lossless, read


def bomb(height: int, width: int) -> bytes:
    """A whole PNG of few bytes that says to be so large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [".png", ".webp", ".tiff"])
def test_a_picture_is_the_frame_that_its_file_is(tmp_path, kind):
    data = lossless(kind, gradient())
    assert np.array_equal(frame_from_body(data, {}), read(tmp_path, data, f"x{kind}"))


@pytest.mark.parametrize("frame", [gradient(), np.ascontiguousarray(gradient().swapaxes(0, 1))], ids=["wide", "high"])
def test_raw_pixels_are_taken_as_they_are(frame, capsys):
    height, width, _ = frame.shape
    found = frame_from_body(frame.tobytes(), {"x-frame-size": f"{height}x{width}"})
    assert np.array_equal(found, frame) and found.dtype == np.uint8
    assert capsys.readouterr().err == ""  # a line for each frame would fill a log


@pytest.mark.parametrize(
    ("size", "bytes_", "said"),
    [("16x16", 767, "has 768"), ("16x16", 0, "has 768"), ("16", 768, "HEIGHTxWIDTH"), ("1x256", 768, "too small"),
     ("30000x30000", 3, "too large"), ("-16x-16", 768, "HEIGHTxWIDTH"), ("0x0", 0, "HEIGHTxWIDTH")],
)  # fmt: skip
def test_raw_pixels_of_another_size_are_refused(size, bytes_, said):
    with pytest.raises(FrameError, match=said):
        frame_from_body(bytes(bytes_), {"x-frame-size": size})


def test_a_bomb_is_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(bodies, "frame_from_bytes", None)
    with pytest.raises(FrameError, match=r"100\.0 megapixels, too large"):
        frame_from_body(bomb(10000, 10000), {})


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8\xff", lossless(".png", gradient())[:-20]])
def test_what_is_no_picture_is_refused_in_one_line(data):
    with pytest.raises(FrameError) as caught:
        frame_from_body(data, {})
    assert "\n" not in str(caught.value)


def test_kinds_that_a_server_need_not_read_are_refused_though_a_file_may_have_them(tmp_path):
    data = lossless(".bmp", gradient())
    assert decoding.frame_from_bytes(data).shape == gradient().shape
    with pytest.raises(FrameError, match="is BMP: a server takes JPEG, PNG, WebP, TIFF"):
        frame_from_body(data, {})


@pytest.mark.parametrize("headers", [{"content-encoding": "gzip"}, {"content-type": "multipart/form-data; boundary=x"}])
def test_a_body_that_is_not_the_picture_itself_is_refused(headers):
    with pytest.raises(Refusal) as caught:
        refuse_encoded(headers)
    assert caught.value.status == 415
    refuse_encoded({"content-type": "image/jpeg", "content-encoding": "identity"})
