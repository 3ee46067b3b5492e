import json

import cv2
import numpy as np
import pytest

from calib.sample import FEWEST, digest_of, sample_frames
from runtime.artifacts import sha256_of
from runtime.errors import DatasetError
from tests.helpers.labelled import write_image


@pytest.fixture
def images(tmp_path):
    """Write `count` images of distinct bytes into a folder below the data set's."""

    def write(folder, count):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((16, 16, 3), i % 250, np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{i:03d}.png"), pixels)
        return tmp_path

    return write


def test_of_cityscapes_every_city_gives_its_share(images):
    for city, count in (("aachen", 40), ("bochum", 40), ("zurich", 3)):
        data = images(f"leftImg8bit/train/{city}", count)
    images("leftImg8bit/val/munster", 40)
    cities = [path.parent.name for path in sample_frames(data, 33, seed=0).frames]
    assert {city: cities.count(city) for city in cities} == {"aachen": 15, "bochum": 15, "zurich": 3}


def test_of_a_split_data_set_only_the_training_frames_are_taken(images):
    images("train", 40), images("trainannot", 40), images("val", 40)
    assert {path.parent.name for path in sample_frames(images("test", 40), 512, seed=0).frames} == {"train"}


def test_of_a_users_own_classes_the_training_frames_that_they_name_are_taken(tmp_path):
    classes = [{"name": name, "color": [i, 0, 0]} for i, name in enumerate("ab")]
    (tmp_path / "classes.json").write_text(
        json.dumps({"classes": classes, "folders": {"train": ["images/2024", "masks/2024"]}})
    )
    frame, label = np.full((8, 8, 3), 7, np.uint8), np.zeros((8, 8), np.uint8)
    for folder, labels in (("images/2024", "masks/2024"), ("val", "valannot")):
        for name in ("0.png", "1.png"):
            write_image(tmp_path / folder / name, frame)
            write_image(tmp_path / labels / name, label)
    frames = sample_frames(tmp_path, 512, seed=0, few=True).frames
    assert sorted(frames) == [tmp_path / "images/2024/0.png", tmp_path / "images/2024/1.png"]


def test_a_folder_of_images_is_searched_to_the_bottom(images):
    images("a", 20)
    assert len(sample_frames(images("b/c", 20), 512, seed=0).frames) == 40


def test_what_is_hidden_is_no_frame(images):
    data = images("a", 40)
    images(".ipynb_checkpoints", 3)
    for name in ("a/._000.png", "a/.cache.png"):
        (data / name).write_bytes(b"not an image")
    assert len(sample_frames(data, 512, seed=0).frames) == 40


@pytest.mark.parametrize("folder", ["masks", "Labels", "gtFine", "annotations", "valannot"])
def test_labels_beside_the_frames_are_left_out_and_said(images, folder, capsys):
    images(folder, 40)
    frames = sample_frames(images("images", 40), 512, seed=0).frames
    assert {path.parent.name for path in frames} == {"images"} and len(frames) == 40
    assert "40 pictures are labels by their folder or name, and left out" in capsys.readouterr().err


def test_labels_by_their_names_are_left_out(images):
    data = images(".", 40)
    for ending in ("mask", "labelIds", "color"):
        (data / f"000_{ending}.png").write_bytes((data / "000.png").read_bytes())
    (data / "other_mask.png").write_bytes((data / "000.png").read_bytes())
    names = {path.name for path in sample_frames(data, 512, seed=0).frames}
    assert len(names) == 41 and "other_mask.png" in names


def test_frames_to_test_on_are_told_as_such(images, capsys):
    images("val", 40)
    data = images("train", 40)
    sample_frames(data / "val", 512, seed=0)
    assert (
        f"val looks like frames to test on; ranges are found on training frames: give {data}" in capsys.readouterr().err
    )
    sample_frames(data, 512, seed=0)
    assert capsys.readouterr().err == ""


def test_a_folder_of_which_all_would_be_labels_is_taken_as_it_is(images):
    assert len(sample_frames(images("seg", 40), 512, seed=0).frames) == 40


def test_a_seed_gives_the_same_frames_and_another_seed_others(images):
    data = images(".", 60)
    first, again, other = (sample_frames(data, 40, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first.frames) != set(other.frames)
    assert len(set(first.frames)) == 40


def test_the_sample_tells_the_bytes_of_its_frames(images):
    sample = sample_frames(images(".", 40), 40, seed=0)
    assert list(sample.sha256) == [sha256_of(path) for path in sample.frames]
    assert digest_of(sample.sha256) != digest_of(sample.sha256[::-1])


def test_too_few_frames_are_refused_unless_said(images):
    data = images(".", FEWEST - 1)
    with pytest.raises(DatasetError, match=r"gives 31 calibration frames, at least 32 are needed .*say --few"):
        sample_frames(data, 512, seed=0)
    assert len(sample_frames(data, 512, seed=0, few=True).frames) == FEWEST - 1


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no folder .*nowhere"):
        sample_frames(tmp_path / "nowhere", 512, seed=0)
    with pytest.raises(DatasetError, match="holds no images"):
        sample_frames(tmp_path, 512, seed=0)
