import cv2
import numpy as np
import pytest

from runtime.accuracy.stored import read_stored
from runtime.errors import DatasetError
from tests.helpers.stored_labels import png, write

IDS = np.array([[0, 1, 2, 3, 2, 1, 0, 0], [3, 3, 0, 1, 2, 2, 1, 0]], np.uint8)
COLORS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_few_bits_are_the_values_that_were_written(tmp_path, bits):
    stored = read_stored(write(tmp_path / "a.png", png(IDS, bits)))
    assert stored.palette is None and (stored.pixels == IDS).all()


def test_one_bit_is_zero_and_one(tmp_path):
    assert read_stored(write(tmp_path / "a.png", png(IDS % 2, 1))).pixels.tolist() == (IDS % 2).tolist()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_palette_gives_indices_and_colours(tmp_path, bits):
    stored = read_stored(write(tmp_path / "a.png", png(IDS, bits, COLORS)))
    assert (stored.pixels == IDS).all() and stored.palette.tolist() == list(map(list, COLORS))


def encoded(pixels, suffix=".png", *settings):
    return cv2.imencode(suffix, pixels, settings)[1].tobytes()


@pytest.mark.parametrize(("kind", "suffix"), [(np.uint16, ".png"), (np.uint16, ".tif"), (np.int32, ".tif")])
def test_wider_values_that_fit_into_eight_bits_are_values(tmp_path, kind, suffix):
    assert (read_stored(write(tmp_path / f"a{suffix}", encoded(IDS.astype(kind), suffix))).pixels == IDS).all()


def test_alpha_that_is_opaque_is_left_out(tmp_path):
    painted = np.dstack([IDS * 10, IDS * 20, IDS * 30, np.full_like(IDS, 255)])
    stored = read_stored(write(tmp_path / "a.png", encoded(painted)))
    assert (stored.pixels == painted[..., 2::-1]).all()


def test_a_transparent_label_is_refused_with_its_share(tmp_path):
    painted = np.zeros((2, 2, 4), np.uint8)
    painted[0, :, 3] = 255
    with pytest.raises(DatasetError, match=r"transparent in 50\.0% of its pixels"):
        read_stored(write(tmp_path / "a.png", encoded(painted)))


@pytest.mark.parametrize(
    ("suffix", "settings", "what"),
    [(".jpg", (), "JPEG"), (".webp", (cv2.IMWRITE_WEBP_QUALITY, 80), "lossy WebP")],
)
def test_what_is_compressed_with_loss_is_refused(tmp_path, suffix, settings, what):
    path = write(tmp_path / f"a{suffix}", encoded(np.dstack([IDS] * 3), suffix, *settings))
    with pytest.raises(DatasetError, match=f"is a {what}, which changes values"):
        read_stored(path)


def test_webp_without_loss_is_taken(tmp_path):
    painted = np.dstack([IDS * 10, IDS * 20, IDS * 30])
    path = write(tmp_path / "a.webp", encoded(painted, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101))
    assert (read_stored(path).pixels == painted[..., ::-1]).all()
