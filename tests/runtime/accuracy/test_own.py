import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.accuracy.datasets import open_dataset, read_pair
from runtime.errors import DatasetError
from runtime.labels import IGNORED, Label
from tests.helpers.labelled import write_image

RAIL, TRAM, VOID = (1, 2, 3), (4, 5, 6), (7, 7, 7)
CLASSES = [{"name": "rail", "color": [*RAIL]}, {"name": "tram", "color": [*TRAM]}]


def own(root, **content):
    """The data set of these classes, or of that content."""
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES, **content}), "utf-8")
    return open_dataset("own", root)


def write_label(root, label, folders=("train", "trainannot")):
    write_image(root / folders[0] / "a.png", np.zeros((*label.shape[:2], 3)))
    write_image(root / folders[1] / "a.png", label)


def labels(dataset):
    return read_pair(dataset.pairs("train")[0])[1].tolist()


def test_classes_come_from_json(tmp_path):
    write_label(tmp_path, np.array([[0, 1, 9, 255]]))
    dataset = own(tmp_path, ignored=[9])
    assert dataset.classes == (Label("rail", RAIL), Label("tram", TRAM)) and dataset.name == tmp_path.name
    assert labels(dataset) == [[0, 1, IGNORED, IGNORED]]


def test_names_are_any_text(tmp_path):
    assert own(tmp_path, classes=[{"name": "trottoir, pavé", "color": [1, 1, 1]}]).classes[0].name == "trottoir, pavé"


def test_frames_and_labels_lie_where_json_says(tmp_path):
    folders = {"train": ["images/first", "labels/first"], "val": ["images/second", "labels/second"]}
    dataset = own(tmp_path, folders=folders)
    for split, pair in folders.items():
        write_label(tmp_path, np.array([[split == "val"]]), pair)
    assert labels(dataset) == [[0]] and read_pair(dataset.pairs("val")[0])[1].tolist() == [[1]]
    write_label(tmp_path, np.array([[0]]), ("test", "testannot"))
    assert len(dataset.pairs("test")) == 1


def test_labels_may_be_painted(tmp_path):
    write_label(tmp_path, np.array([[TRAM, RAIL, VOID, TRAM]]))
    assert labels(own(tmp_path, ignored=[9, [*VOID]])) == [[1, 0, IGNORED, 1]]


@pytest.mark.parametrize("color", [(0, 0, 0), (1, 2, 4), (2, 2, 3), (255, 255, 255), RAIL[::-1]])
def test_a_colour_that_nobody_named_is_refused(tmp_path, color):
    write_label(tmp_path, np.array([[RAIL, color]]))
    with pytest.raises(DatasetError, match=r"a\.png holds the colour \[.*\], which classes.json neither") as raised:
        labels(own(tmp_path))
    assert str([*color]) in str(raised.value)


def test_a_value_that_is_no_class_is_refused_with_what_is_taken(tmp_path):
    write_label(tmp_path, np.array([[0, 2]]))
    with pytest.raises(DatasetError, match=r"a\.png holds the value 2; labels are 0\.\.1, 9, 255"):
        labels(own(tmp_path, ignored=[9]))


def test_a_label_of_another_kind_is_told_that_colours_are_taken_too(tmp_path):
    write_label(tmp_path, np.array([[0]]))
    cv2.imwrite(str(tmp_path / "trainannot/a.png"), np.full((1, 1), 300, np.uint16))
    with pytest.raises(
        DatasetError, match=r"1 channel of 16 bits, up to 300; a label has one, .* or three, the colours"
    ):
        labels(own(tmp_path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", '"classes"'),
        ("no json", "line 1 column 1"),
        ("{}", "not a list of 1 to 255"),
        ('{"classes": []}', "not a list of 1 to 255"),
        ('{"classes": [{"name": "a"}]}', '{"name": "a"} is not'),
        ('{"classes": [{"name": "a", "color": [1, 2]}]}', "is not"),
        ('{"classes": [{"name": "a", "color": [1, 2, 256]}]}', "is not"),
        ('{"classes": [{"name": "a", "color": [1, 2, true]}]}', "is not"),
        ('{"classes": [{"name": " ", "color": [1, 2, 3]}]}', "is not"),
        ('{"classes": [{"name": "a\\nb", "color": [1, 2, 3]}]}', "is not"),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "ignored": [-1]}', '"ignored" is not'),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "ignored": [[1, 2]]}', '"ignored" is not'),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "ignored": [0]}', "0 is ignored, but it is the id of 'a'"),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "ignored": [[1, 2, 3]]}', "two are of colour [1, 2, 3]"),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "colour": 1}', "at most"),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "folders": {"train": ["a"]}}', '"folders" is not'),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}], "folders": ["a", "b"]}', '"folders" is not'),
        (
            '{"classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "a", "color": [3, 2, 1]}]}',
            "two are named 'a'",
        ),
        (
            '{"classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [1, 2, 3]}]}',
            "two are of colour [1, 2, 3]",
        ),
    ],
)
def test_classes_that_are_not_understood_are_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DatasetError) as raised:
        open_dataset("own", tmp_path)
    message = str(raised.value)
    assert "classes.json: " in message and said in message and "\n" not in message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "classes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DatasetError, match=r"classes\.json: "):
        open_dataset("own", tmp_path)


def test_own_needs_its_classes(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no .*classes\.json"):
        open_dataset("own", tmp_path)


def test_a_data_set_is_named_by_its_folder_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "classes.json").write_text('{"classes": [{"name": "rail", "color": [1, 2, 3]}]}')
    monkeypatch.chdir(tmp_path)
    assert open_dataset("own", Path()).name == tmp_path.name


def test_255_classes_are_the_most(tmp_path):
    rows = [{"name": f"c{i}", "color": [i % 256, i // 256, 7]} for i in range(256)]
    write_label(tmp_path, np.array([[0, 254, 255]]))
    assert labels(own(tmp_path, classes=rows[:255])) == [[0, 254, IGNORED]]
    with pytest.raises(DatasetError, match="not a list of 1 to 255"):
        own(tmp_path, classes=rows)
