"""HDR as SDR, against the formulas the other way round."""

import numpy as np
import pytest

from runtime.media import tones
from runtime.media.tones import HLG, PQ, sdr_from_hdr
from tests.helpers.pictures import gradient

BT2020, WHITE = 9, 255
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
# The levels of sRGB near black are steeper than 16 bits of light.
NEAR = 1


def light(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def pq(relative):
    y = np.clip(relative * 203 / 10000, 0, 1) ** tones.M1
    return ((tones.C1 + tones.C2 * y) / (1 + tones.C3 * y)) ** tones.M2


def hlg(relative):
    e = relative * (np.exp((0.75 - tones.C) / tones.A) + tones.B) / 12
    return np.where(e <= 1 / 12, np.sqrt(3 * e), tones.A * np.log(np.maximum(12 * e - tones.B, 1e-9)) + tones.C)


def as_levels(signal):
    return np.rint(np.clip(signal, 0, 1) * 65535).astype(np.uint16)


@pytest.mark.parametrize(("transfer", "curve"), [(PQ, pq), (HLG, hlg)])
@pytest.mark.parametrize(("primaries", "matrix"), [(BT2020, TO_2020), (2, TO_2020), (1, np.eye(3))])
def test_an_sdr_picture_comes_back_from_hdr(transfer, curve, primaries, matrix):
    given = gradient(37, 51)
    scene = np.clip(light(given / 255) @ matrix.T, 0, None)
    got = sdr_from_hdr(as_levels(curve(scene)), transfer, primaries)
    assert got.dtype == np.uint8 and got.shape == given.shape
    assert np.abs(got.astype(int) - given).max() <= NEAR


@pytest.mark.parametrize(("transfer", "curve"), [(PQ, pq), (HLG, hlg)])
def test_what_is_brighter_than_white_is_white(transfer, curve):
    bright = as_levels(curve(np.full((16, 16, 3), 2.5)))
    assert (sdr_from_hdr(bright, transfer, BT2020) == WHITE).all()


def test_a_p3_phone_in_hlg_keeps_its_greys():
    grey = np.full((16, 16, 3), light(np.array(0.5)))
    assert np.abs(sdr_from_hdr(as_levels(hlg(grey)), HLG, 12).astype(int) - 127.5).max() <= NEAR
