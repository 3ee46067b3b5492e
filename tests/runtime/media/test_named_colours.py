"""Colours that a picture names by numbers are seen as with the profile that says the same."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from runtime.media.named_colours import of_gamma
from tests.helpers.pictures import gradient, png, png_chunk, read, refusal
from tests.helpers.tiffs import P3, SRGB, SRGB_SWAPPED, icc

ROUNDED = 3  # levels: profiles round their curves, LittleCMS what it makes of them
NEAR, FAR = 1.5, 4.0  # levels, in the mean
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
WHITE = (0.3127, 0.3290)


# W3C CSS Color 4, 17.6: from P3's linear light to sRGB's.
FROM_P3 = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])


def linear(levels: np.ndarray) -> np.ndarray:
    v = levels / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def named(*chunks: bytes) -> bytes:
    rows = [row.tobytes() for row in gradient()]
    return png(rows, gradient().shape[1], 8, 2, *chunks)


def code_points(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


def gamma(value: int) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", value))


def chroma(primaries) -> bytes:
    numbers = [round(each * 1e5) for point in (WHITE, *primaries) for each in point]
    return png_chunk(b"cHRM", struct.pack(">8I", *numbers))


def with_profile(tmp_path, primaries, power: float) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, "PNG", icc_profile=icc(primaries, power))
    return read(tmp_path, file.getvalue())


def exif(space: int, index: str) -> bytes:
    tags = Image.Exif()
    tags[0x8769] = {0xA001: space, 0xA005: {1: index}}
    file = io.BytesIO()
    Image.fromarray(gradient()).save(file, "JPEG", quality=100, subsampling=0, exif=tags)
    return file.getvalue()


@pytest.mark.parametrize(
    ("chunks", "primaries", "power"),
    [
        ([gamma(100_000)], SRGB, 1.0),
        ([code_points(12, 4)], P3, 2.2),
        ([code_points(1, 8)], SRGB, 1.0),
    ],
)
def test_a_png_is_seen_in_the_colours_that_it_names(tmp_path, chunks, primaries, power):
    frame = read(tmp_path, named(*chunks)).astype(int)
    assert np.abs(frame - with_profile(tmp_path, primaries, power)).max() <= ROUNDED
    assert np.abs(frame - gradient()).mean() > FAR


@pytest.mark.parametrize(
    ("chunks", "matrix"),
    [
        ([gamma(45455), chroma(P3)], FROM_P3),
        ([gamma(45455), chroma(SRGB_SWAPPED)], np.eye(3)[[1, 0, 2]]),
        ([code_points(12, 13), gamma(100_000), png_chunk(b"sRGB", b"\0")], FROM_P3),
    ],
)
def test_with_srgbs_own_curve_only_the_primaries_are_changed(tmp_path, chunks, matrix):
    light = np.clip(linear(gradient()) @ matrix.T, 0, 1)
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    off = np.abs(read(tmp_path, named(*chunks)) - wanted)
    assert off.mean() < NEAR and np.percentile(off, 99) < FAR
    assert np.abs(wanted - gradient()).mean() > FAR


@pytest.mark.parametrize(
    "chunks",
    [
        [code_points(1, 13)],
        [code_points(2, 2)],
        [gamma(45455), chroma(SRGB)],
        [gamma(45455)],
        [chroma(P3)],
        [png_chunk(b"sRGB", b"\0"), gamma(100_000), chroma(P3)],
        [gamma(0)],
        [gamma(45455), chroma([(0, 0)] * 3)],
        [png_chunk(b"gAMA", b"\0")],
    ],
)
def test_srgb_and_numbers_that_say_nothing_leave_a_png_as_it_is(tmp_path, chunks):
    np.testing.assert_array_equal(read(tmp_path, named(*chunks)), gradient())


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_a_png_in_hdr_is_one_line(tmp_path, transfer, name):
    assert f"is HDR ({name})" in refusal(tmp_path, named(code_points(9, transfer)))


def test_primaries_on_a_line_are_nonsense():
    assert of_gamma(60_000, (31270, 32900, 30000, 30000, 30000, 30000, 30000, 30000)) is None


@pytest.mark.parametrize(("space", "index"), [(0xFFFF, "R03"), (2, "R03"), (2, "R98")])
def test_adobe_rgb_is_known_by_exif_alone(tmp_path, space, index):
    frame = read(tmp_path, exif(space, index), "x.jpg").astype(int)
    assert np.abs(frame - with_profile(tmp_path, ADOBE, 2.2)).mean() < NEAR
    assert np.abs(frame - gradient()).mean() > FAR


@pytest.mark.parametrize(("space", "index"), [(1, "R98"), (0xFFFF, "R98")])
def test_srgb_and_what_is_uncalibrated_stay_as_they_are(tmp_path, space, index):
    plain = io.BytesIO()
    Image.fromarray(gradient()).save(plain, "JPEG", quality=100, subsampling=0)
    np.testing.assert_array_equal(
        read(tmp_path, exif(space, index), "x.jpg"), read(tmp_path, plain.getvalue(), "x.jpg")
    )
