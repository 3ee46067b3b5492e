import io
import sys

import numpy as np
import pytest
from PIL import Image

from runtime.media.frames import read_frame
from tests.helpers.pictures import gradient, read, refusal

KINDS = {"AVIF": {"quality": 95}, "JPEG2000": {}, "GIF": {}, "PPM": {}}
# A palette of 256 colours, or a quality of 95: a turned picture or swapped channels are off by tens.
LOSSY = 8.0


def saved(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, kind, **KINDS.get(kind, {}) | settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_comes_back_as_rgb(tmp_path, kind):
    frame = read(tmp_path, saved(kind))
    assert frame.shape == gradient().shape and frame.dtype == np.uint8 and frame.flags.c_contiguous
    assert np.abs(frame.astype(int) - gradient()).mean() < LOSSY


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_cut_is_one_line(tmp_path, kind):
    data = saved(kind)
    for length in (12, 40, len(data) // 2, len(data) - 3):
        assert "damaged" in (message := refusal(tmp_path, data[:length])) or "truncated" in message
        assert "object at" not in message


def test_of_an_animation_the_first_moment_is_read(tmp_path):
    later = [Image.fromarray(255 - gradient())] * 3
    frame = read(tmp_path, saved("GIF", save_all=True, append_images=later))
    assert np.abs(frame.astype(int) - gradient()).mean() < LOSSY


def test_a_pgm_of_16_bits_gives_its_upper_eight(tmp_path):
    grey = gradient()[..., 0]
    data = b"P5 64 40 65535\n" + (grey.astype(">u2") * 257).tobytes()
    np.testing.assert_array_equal(read(tmp_path, data), np.dstack([grey] * 3))


def test_a_heic_is_read_where_its_library_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(gradient())).save(file, quality=95)
    (tmp_path / "x.heic").write_bytes(file.getvalue())
    assert np.abs(read_frame(tmp_path / "x.heic").astype(int) - gradient()).mean() < LOSSY


def test_without_its_library_a_heic_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install" in refusal(tmp_path, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
