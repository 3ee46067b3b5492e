from pathlib import Path

import numpy as np
import pytest

from runtime.accuracy.cityscapes import cityscapes_table
from runtime.accuracy.datasets import identity_table
from runtime.accuracy.readings import ids_of
from runtime.accuracy.stored import Stored
from runtime.errors import DatasetError
from runtime.labels import IGNORED

VOC = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
OWN = {(0, 0, 0): 0, (128, 64, 128): 1, (0, 0, 142): 2}
PLANE = np.array([[0, 1, 2, 1]], np.uint8)


def read(pixels, palette=None, colors=OWN, by=None, classes=3, table=None):
    table = table or identity_table(classes, ())
    return ids_of(Path("a.png"), Stored(pixels, palette), table, colors, by).tolist()


def test_a_palette_in_the_classes_colours_is_read_by_colour_in_whatever_order():
    palette = np.array([(0, 0, 142), (0, 0, 0), (128, 64, 128)], np.uint8)
    assert read(PLANE, palette) == [[2, 0, 1, 0]]


def test_a_palette_of_other_colours_is_read_by_index():
    assert read(PLANE, VOC) == PLANE.tolist()


def test_a_palette_that_names_one_class_otherwise_is_refused_and_told_how_to_say_it():
    swapped = {(128, 0, 0): 0, (0, 0, 0): 1}
    with pytest.raises(DatasetError, match=r'two ways .*"labels": "colors", "values" or "indices"'):
        read(PLANE, VOC, swapped)
    assert read(PLANE, VOC, swapped, by="indices") == PLANE.tolist()
    with pytest.raises(DatasetError, match=r"holds the colour \[0, 128, 0\]"):
        read(PLANE, VOC, swapped, by="colors")


def test_a_palette_of_greys_is_the_grey_picture_that_it_was_made_of():
    greys = np.repeat(np.array([[7], [23], [26]], np.uint8), 3, 1)
    assert read(PLANE, greys, None, table=cityscapes_table()) == [[0, 10, 13, 10]]


def test_greys_that_are_other_classes_than_their_indices_are_refused():
    greys = np.repeat(np.array([[2], [1], [0]], np.uint8), 3, 1)
    with pytest.raises(DatasetError, match="two ways"):
        read(PLANE, greys, {(1, 2, 3): 0})
    assert read(PLANE, greys, {(1, 2, 3): 0}, by="values") == [[2, 1, 0, 1]]
    assert read(PLANE, greys, {(1, 2, 3): 0}, by="indices") == PLANE.tolist()


def test_greys_to_look_at_are_read_by_index():
    greys = np.repeat(np.array([[0], [120], [240]], np.uint8), 3, 1)
    assert read(PLANE, greys, {(1, 2, 3): 0}) == PLANE.tolist()


@pytest.mark.parametrize("colors", [None, OWN])
def test_ids_in_three_equal_channels_are_ids(colors):
    assert read(np.dstack([PLANE] * 3), colors=colors) == PLANE.tolist()


def test_white_is_a_class_where_all_classes_are_greys():
    mask = np.array([[0, 255]], np.uint8)
    assert read(mask, colors={(0, 0, 0): 0, (255, 255, 255): 1}, classes=2) == [[0, 1]]
    assert read(mask, colors=OWN) == [[0, IGNORED]]


def test_a_value_beyond_the_classes_tells_that_they_are_counted_from_zero():
    with pytest.raises(DatasetError, match=r"value 3; labels are 0\.\.2, 255; are the classes counted from 1"):
        read(PLANE + 1)
    with pytest.raises(DatasetError, match=r"labels are 0\.\.2, 255$"):
        read(np.array([[0, 3]], np.uint8))


def test_an_index_beyond_the_palette_is_damage():
    with pytest.raises(DatasetError, match="damaged: it holds the index 2 of 2 colours"):
        read(PLANE, VOC[:2])


def test_255_classes_are_told_apart():
    values = np.arange(256, dtype=np.uint8)[None]
    assert read(values, colors=None, classes=255)[0] == [*range(255), IGNORED]
