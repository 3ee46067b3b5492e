import io
import os
import subprocess
import sys

import numpy as np
import PIL
import pytest
from PIL import Image

from runtime.media.tiff import _told
from tests.helpers.pictures import gradient, read, refusal
from tests.helpers.project import ROOT
from tests.helpers.tiffs import tiff

GREY, RGB, NEGATIVE, SEPARATED = 1, 2, 0, 5
STRAIGHT, MULTIPLIED, UNSAID = (((338, "H", [kind]),) for kind in (2, 1, 0))
WORDS = {8: 1, 16: 257}
# Dividing by alpha what was multiplied by it and rounded.
DIVIDED = 255 // 100 / 2 + 0.5


def of_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    return pixels.astype(np.uint8 if bits == 8 else np.uint16) * WORDS[bits]


def with_alpha(pixels: np.ndarray, level: int) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], level, np.uint8)])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("separate", [False, True])
def test_planes_lie_together_or_apart(tmp_path, separate, bits, deflate, order, big):
    data = tiff(of_bits(gradient(), bits), RGB, separate=separate, order=order, deflate=deflate, big=big)
    np.testing.assert_array_equal(read(tmp_path, data), gradient())


def test_planes_of_16_bits_hold_nothing_that_was_in_memory_before(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff(of_bits(gradient(), 16), RGB, separate=True))
    code = "import sys; from runtime.media.frames import read_frame; print(read_frame(sys.argv[1]).mean())"
    means = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "x.tif")],
            env={**os.environ, "MALLOC_PERTURB_": fill}, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for fill in ("90", "200")
    }  # fmt: skip
    assert means == {f"{gradient().mean()}\n"}


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("level", [0, 100])
def test_straight_alpha_leaves_the_colours_as_they_are(tmp_path, level, bits, separate):
    data = tiff(of_bits(with_alpha(gradient(), level), bits), RGB, *STRAIGHT, separate=separate)
    np.testing.assert_array_equal(read(tmp_path, data), gradient())


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_multiplied_by_alpha_are_divided_by_it(tmp_path, bits, separate):
    multiplied = np.round(gradient() * (100 / 255)).astype(np.uint8)
    data = tiff(of_bits(with_alpha(multiplied, 100), bits), RGB, *MULTIPLIED, separate=separate)
    assert np.abs(read(tmp_path, data).astype(int) - gradient()).max() <= DIVIDED + 1


@pytest.mark.parametrize("separate", [False, True])
def test_a_fourth_sample_that_says_nothing_is_dropped(tmp_path, separate):
    data = tiff(with_alpha(gradient(), 7), RGB, *UNSAID, separate=separate)
    np.testing.assert_array_equal(read(tmp_path, data), gradient())


@pytest.mark.parametrize("bits", [8, 16])
def test_five_planes_give_the_first_three(tmp_path, bits):
    five = of_bits(np.dstack([gradient(), gradient()[..., :2] // 2]), bits)
    np.testing.assert_array_equal(read(tmp_path, tiff(five, RGB, (338, "H", [0, 0]), separate=True)), gradient())


def test_five_samples_a_pixel_give_the_first_three(tmp_path):
    five = np.dstack([gradient(), gradient()[..., :2] // 2])
    np.testing.assert_array_equal(read(tmp_path, tiff(five, RGB, (338, "H", [0, 0]))), gradient())


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_is_no_negative(tmp_path, bits):
    grey = gradient()[..., 0]
    data = tiff(~of_bits(grey, bits), NEGATIVE)
    np.testing.assert_array_equal(read(tmp_path, data), np.dstack([grey] * 3))


def packed_12(samples: np.ndarray) -> np.ndarray:
    """Pairs of samples of 12 bits in three bytes, as uint8 (H, 1.5 W)."""
    first, second = samples[:, ::2].astype(np.uint32), samples[:, 1::2].astype(np.uint32)
    three = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(three, -1).reshape(len(samples), -1).astype(np.uint8)


@pytest.mark.parametrize("photometric", [GREY, NEGATIVE])
def test_packed_samples_of_12_bits_keep_their_scale_even_where_all_are_dark(tmp_path, photometric):
    grey = gradient()[..., 0] // 16  # so dark that a guess would call it 8 bits
    samples = grey.astype(np.uint16) << 4
    stored = packed_12(4095 - samples if photometric == NEGATIVE else samples)
    data = bytearray(tiff(stored, photometric, bits=12))
    at = data.index(b"\0\1\4\0\1\0\0\0")  # the width, in samples
    data[at + 8 : at + 12] = (64).to_bytes(4, "little")
    np.testing.assert_array_equal(read(tmp_path, bytes(data)), np.dstack([grey] * 3))


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_few_bits_in_samples_of_16_are_as_light_as_they_were(tmp_path, bits):
    data = tiff(gradient().astype(np.uint16) << (bits - 8), RGB)
    np.testing.assert_array_equal(read(tmp_path, data), gradient())


def test_samples_that_need_13_bits_have_16(tmp_path):
    assert read(tmp_path, tiff(np.full((20, 20), 4096, np.uint16), GREY)).max() == 16


# In the wheels from 12 on; those of before may crash in the next file after one that they refused to write.
ZSTD = pytest.param(
    "zstd", marks=pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 12, reason="Pillow before 12")
)


@pytest.mark.parametrize("compression", [ZSTD, "lzma", "tiff_lzw"])
def test_compressions_that_opencv_lacks_are_read(tmp_path, compression):
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, "TIFF", compression=compression)
    np.testing.assert_array_equal(read(tmp_path, file.getvalue()), gradient())


REFUSED = {
    "signed": (np.zeros((20, 20, 3), np.int16), RGB, ((339, "H", [2] * 3),), "has int16 samples"),
    "half floats": (np.zeros((20, 20), np.uint16), GREY, ((339, "H", [3]),), "has float16 samples"),
    "32 bits": (np.zeros((20, 20), np.uint32), GREY, (), "has uint32 samples"),
    "a raw mosaic": (np.zeros((20, 20), np.uint16), 32803, (), "PhotometricInterpretation 32803"),
    "Lab": (np.zeros((20, 20, 3), np.uint8), 8, (), "PhotometricInterpretation 8, 3 samples"),
    "RGB of two samples": (np.zeros((20, 20, 2), np.uint8), RGB, (), "PhotometricInterpretation 2, 2 samples"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_honoured_is_one_line(tmp_path, kind):
    samples, photometric, extra, said = REFUSED[kind]
    assert said in refusal(tmp_path, tiff(samples, photometric, *extra))


def test_webp_in_a_tiff_is_one_line_and_nothing_else_on_stderr(tmp_path, capfd):
    data = bytearray(tiff(gradient(), RGB))
    at = data.index(b"\3\1\3\0\1\0\0\0")  # tag 259, the compression
    data[at + 8 : at + 10] = (50001).to_bytes(2, "little")
    assert "compressed as WebP, which is not read in a TIFF" in refusal(tmp_path, bytes(data))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("separate", [False, True])
def test_a_picture_of_planes_is_turned_upright(tmp_path, separate):
    data = tiff(of_bits(gradient(), 16), RGB, (274, "H", [6]), separate=separate)
    np.testing.assert_array_equal(read(tmp_path, data), np.rot90(gradient(), -1))


@pytest.mark.parametrize("big", [False, True])
def test_a_picture_of_planes_that_is_cut_is_refused(tmp_path, big):
    data = tiff(of_bits(gradient(), 16), RGB, separate=True, big=big)
    for length in range(20, len(data), len(data) // 20):
        assert "truncated" in refusal(tmp_path, data[:length]), length


def test_planes_whose_places_are_of_no_known_type_are_one_line(tmp_path):
    data = bytearray(tiff(of_bits(gradient(), 16), RGB, separate=True))
    at = data.index(b"\x11\1\4\0\3\0\0\0")  # tag 273 of three integers
    data[at + 2] = 255
    assert "damaged" in refusal(tmp_path, bytes(data))


def test_a_directory_behind_any_file_is_one_line(tmp_path):
    data = bytearray(tiff(gradient(), RGB, big=True))
    data[8:16] = b"\xff" * 8
    assert "truncated" in refusal(tmp_path, bytes(data))


def test_many_depths_are_told_in_one_short_line():
    assert len(_told((1,), tuple(range(1, 301)))) < 60
