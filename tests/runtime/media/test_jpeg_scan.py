"""What of a JPEG's compressed data does not add up."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.media import jpeg_scan
from runtime.media.decoding import opencv_decoded
from runtime.media.jpeg_scan import BROKEN, Scans, left_over
from tests.helpers.pictures import gradient

FORMS = {
    "as it comes": {},
    "of its own codes": {"optimize": True},
    "4:4:4": {"subsampling": 0, "quality": 95},
    "4:2:2": {"subsampling": 1},
    "restarts": {"restart_marker_blocks": 3},
    "a restart a row": {"restart_marker_rows": 1},
    "progressive, which is not followed": {"progressive": True},
}


def jpeg(size: tuple[int, int] = (64, 96), mode: str = "RGB", **options: object) -> bytes:
    pixels = (gradient(*size) // 2 + np.random.default_rng(0).integers(0, 128, (*size, 3))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def spoilt(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    at = int(rng.integers(data.index(b"\xff\xda") + 14, len(data) - 8))
    return data[:at] + rng.bytes(4) + data[at + 4 :]


@pytest.mark.parametrize("form", FORMS)
def test_whole_jpegs_add_up(form):
    assert left_over(jpeg(**FORMS[form])) == 0


@pytest.mark.parametrize("size", [(2, 2), (17, 33), (8, 9), (2, 641)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_whole_jpegs_of_odd_sizes_add_up(size, subsampling):
    assert left_over(jpeg(size, subsampling=subsampling)) == 0


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_one_and_four_planes_add_up(mode):
    assert left_over(jpeg(mode=mode)) == 0


@pytest.mark.parametrize("form", ["as it comes", "4:4:4", "a restart a row"])
def test_nearly_all_damage_that_shows_is_found(form):
    data = jpeg((128, 128), **FORMS[form])
    whole = opencv_decoded(data, cv2.IMREAD_COLOR).astype(int)
    found = []
    for damaged in (spoilt(data, seed) for seed in range(60)):
        off = np.abs(opencv_decoded(damaged, cv2.IMREAD_COLOR) - whole).max(2) > 24
        found += [left_over(damaged) != 0] * int(off.mean() > 0.01)
    assert len(found) > 15 and sum(found) >= 0.8 * len(found)  # the rest leaves every count as it was


def test_a_jpeg_that_ends_early_is_damaged_and_one_without_its_end_marker_is_not():
    data = jpeg()
    assert left_over(data[: len(data) // 2]) == BROKEN
    assert left_over(data[:-2]) == 0


def test_codes_that_a_film_leaves_out_are_the_usual_ones():
    data = jpeg()
    while (at := data.find(b"\xff\xc4")) >= 0:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert left_over(data) == 0
    assert left_over(data[:-40]) == BROKEN


def test_both_fields_in_one_packet_are_looked_at():
    data = jpeg()
    assert left_over(data + data) == 0
    assert left_over(data + data[: len(data) // 2]) == BROKEN


@pytest.mark.parametrize("marker", [0xC4, 0xDB, 0xC0, 0xDD, 0xDA])
def test_a_segment_that_says_less_than_it_must_is_damage_and_no_traceback(marker):
    data = jpeg(restart_marker_blocks=3)
    at = data.index(bytes((0xFF, marker))) + 2
    assert left_over(data[:at] + b"\0\3\x08" + data[at + int.from_bytes(data[at : at + 2], "big") :]) == BROKEN


@pytest.mark.parametrize("seed", range(40))
def test_noise_behind_a_header_ends_in_a_verdict(seed):
    data = bytearray(jpeg())
    rng = np.random.default_rng(seed)
    for at in rng.integers(2, data.index(b"\xff\xda"), 6):
        data[at] = rng.integers(256)
    assert left_over(bytes(data)) >= BROKEN


def test_bytes_behind_the_last_block_are_damage_only_where_most_pictures_have_none():
    whole = jpeg()
    loose = whole[:-2] + b"\x12\x34\x56" + whole[-2:]
    clean, sloppy = Scans(), Scans()
    assert all(clean.fit(whole) for _ in range(5)) and not clean.fit(loose)
    assert [sloppy.fit(loose) for _ in range(4)] == [False, True, True, True]
    assert not sloppy.fit(whole[: len(whole) // 2])


def test_without_numba_nothing_is_followed(monkeypatch):
    monkeypatch.setattr(jpeg_scan, "_compiled", lambda: None)
    assert left_over(jpeg()[:700]) == 0


def test_the_loop_is_the_same_uncompiled(monkeypatch):
    found = [left_over(spoilt(jpeg((16, 24)), seed)) for seed in range(6)]
    monkeypatch.setattr(jpeg_scan, "_compiled", lambda: jpeg_scan.walk)
    with np.errstate(over="ignore"):
        assert [left_over(spoilt(jpeg((16, 24)), seed)) for seed in range(6)] == found
