import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from runtime.media import colour
from tests.helpers import pictures
from tests.helpers.pictures import gradient, read
from tests.helpers.tiffs import P3, SRGB, SRGB_SWAPPED, icc

# Off by rounding in LittleCMS; a profile that is passed over moves the gradient by more than ten levels.
ROUNDED = 3
SAVED = {
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}
LOSSY = {"JPEG": 8, "AVIF": 8}


def saved(kind: str, profile: bytes, pixels: np.ndarray | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(gradient() if pixels is None else pixels).save(file, kind, icc_profile=profile, **SAVED[kind])
    return file.getvalue()


def linear(levels: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: sRGB's curve."""
    v = levels / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("kind", SAVED)
def test_swapped_primaries_are_swapped_back(tmp_path, kind):
    # Red's place holds green's primary: what is stored as (r, g, b) is seen as (g, r, b), but for the curve.
    frame = read(tmp_path, saved(kind, icc(SRGB_SWAPPED, 2.2)))
    meant = (gradient()[..., [1, 0, 2]] / 255) ** 2.2
    assert np.abs(linear(frame) - meant).max() <= (LOSSY.get(kind, 0) + ROUNDED) / 100


def test_display_p3_is_seen_in_srgb(tmp_path):
    frame = read(tmp_path, saved("PNG", icc(P3, 2.2), np.full((20, 20, 3), (200, 100, 100), np.uint8)))
    # W3C CSS Color 4, 17.6: from P3's linear light to sRGB's.
    light = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]) @ (
        (np.array([200, 100, 100]) / 255) ** 2.2
    )
    assert np.abs(linear(frame[0, 0]) - light).max() < 0.01 and frame[0, 0, 0] > 205


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_picture_in_srgb_is_not_touched_whatever_its_profile_is_called(tmp_path, kind, monkeypatch):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    read(tmp_path, saved(kind, profile))  # what it does is found out once
    monkeypatch.setattr(colour.Profile, "applied", lambda *_: pytest.fail("it was applied"))
    np.testing.assert_array_equal(read(tmp_path, saved(kind, profile)), gradient())


def test_a_grey_profile_is_applied_to_grey(tmp_path):
    grey = gradient()[..., 0]
    profile = bytearray(icc(SRGB, 1.0))
    profile[16:20] = b"GRAY"
    profile = bytes(profile).replace(b"rTRC", b"kTRC")
    frame = read(tmp_path, saved("PNG", profile, grey))
    assert np.abs(linear(frame[..., 1]) - grey / 255).max() < 0.02


@pytest.mark.parametrize("block", [b"x\0\0garbage", b"x\0\0" + zlib.compress(bytes(200)), b"", b"no end"])
def test_a_profile_that_cannot_be_read_is_left_aside(tmp_path, block):
    rows = [row.tobytes() for row in gradient()]
    data = pictures.png(rows, 64, 8, 2, pictures.png_chunk(b"iCCP", block))
    np.testing.assert_array_equal(read(tmp_path, data), gradient())


def test_a_profile_that_unpacks_to_gigabytes_is_left_aside(tmp_path):
    rows = [row.tobytes() for row in gradient()]
    bomb = b"x\0\0" + zlib.compress(bytes(200 << 20), 9)
    np.testing.assert_array_equal(
        read(tmp_path, pictures.png(rows, 64, 8, 2, pictures.png_chunk(b"iCCP", bomb))), gradient()
    )
