"""The page on a user's own classes: its classes.json are read, and each mistake is told in the words that it shows."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime.accuracy.datasets import open_dataset, read_pair
from runtime.accuracy.own import own_classes_from_json
from runtime.errors import DatasetError
from tests.helpers.labelled import write_image

PAGE = Path(__file__).parents[2] / "docs/own-classes.md"
SHORT, LONG = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.M | re.S)
SAID = dict(re.findall(r"^\| ([^|`]+) \| `([^`]+)` \|$", PAGE.read_text(), re.M))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The page's folder, with a labelled frame a split, by ids and painted."""
    monkeypatch.chdir(tmp_path)
    root = Path("tramway")
    ids = np.arange(96 * 128).reshape(96, 128) % 3
    colors = np.array([row["color"] for row in json.loads(SHORT)["classes"]])
    for split, name, label in (("train", "0001", ids), ("val", "0101", colors[ids])):
        write_image(root / split / f"{name}.jpg", np.zeros((96, 128, 3)))
        write_image(root / f"{split}annot/{name}.png", label)
    (root / "classes.json").write_text(SHORT)
    return root


def read_all(root):
    for split in ("train", "val"):
        for pair in open_dataset("own", root).pairs(split):
            yield read_pair(pair)


def a_value(root):
    write_image(root / "trainannot/0001.png", np.full((96, 128), 7))


def a_colour(root):
    write_image(root / "valannot/0101.png", np.broadcast_to([1, 2, 3], (96, 128, 3)))


def a_frame_alone(root):
    write_image(root / "train/0002.jpg", np.zeros((96, 128, 3)))


def counted_from_one(root):
    write_image(root / "trainannot/0001.png", np.arange(96 * 128).reshape(96, 128) % 3 + 1)


def another_size(root):
    write_image(root / "trainannot/0001.png", np.zeros((90, 128)))


def one_name_twice(root):
    (root / "classes.json").write_text(SHORT.replace("tram", "rail"))


def another_shape(root):
    shutil.rmtree(root / "trainannot")
    shape = {"label": "bus", "shape_type": "rectangle", "points": [[0, 0], [9, 9]]}
    content = {"shapes": [shape], "imageHeight": 96, "imageWidth": 128}
    (root / "train/0001.json").write_text(json.dumps(content))


def without_images(root):
    (root / "SegmentationClass").mkdir()


MISTAKES = {
    "a value that is no class": a_value,
    "a colour that is not named": a_colour,
    "a frame without its label": a_frame_alone,
    "classes counted from 1": counted_from_one,
    "another size": another_size,
    "a shape of another class": another_shape,
    "a tool's export without its images": without_images,
    "two classes of one name or colour": one_name_twice,
}


def test_the_pages_folder_is_read_by_ids_and_painted(here):
    (_, by_ids), (_, painted) = read_all(here)
    np.testing.assert_array_equal(by_ids, painted)
    assert set(np.unique(by_ids)) == {0, 1, 2}


def test_both_files_of_the_page_name_the_same_classes():
    short, long = own_classes_from_json(SHORT), own_classes_from_json(LONG)
    assert short.classes == long.classes and not (short.ignored_ids or short.folders)
    assert long.ignored_ids == (254,) and long.ignored_colors == ((0, 0, 0),)
    assert long.folders == {"train": ("images/2024", "masks/2024")}


def test_every_mistake_of_the_page_is_tried():
    assert SAID.keys() == MISTAKES.keys()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_the_words_of_the_page(here, mistake):
    MISTAKES[mistake](here)
    with pytest.raises(DatasetError) as raised:
        list(read_all(here))
    assert str(raised.value) == SAID[mistake]
