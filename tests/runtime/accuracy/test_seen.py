import json

import numpy as np
import pytest

from runtime.accuracy.datasets import LOOKED, open_dataset, read_pair, spread
from runtime.accuracy.seen import look, seen_in, tell
from runtime.errors import DatasetError
from runtime.labels import IGNORED, Label
from tests.helpers.labelled import write_pair

CLASSES = (Label("sky", (0, 0, 0)), Label("road", (1, 1, 1)), Label("car", (2, 2, 2)))


def told(capsys, *labels):
    tell(seen_in((np.array(label, np.uint8) for label in labels), len(labels)), CLASSES, "own val")
    return capsys.readouterr().err.splitlines()


def test_classes_shares_and_what_is_ignored_are_told(capsys):
    assert told(capsys, [[0, 0, 0, 1]], [[2, 2, 1, IGNORED]]) == [
        "own val, 2 labels: sky 42.9%, road 28.6%, car 28.6%; 12.5% of the pixels do not count"
    ]


def test_a_class_that_no_label_holds_is_a_warning(capsys):
    assert told(capsys, [[0, 1]])[1] == (
        "warning: none of these labels holds car: it is neither learnt nor measured with them"
    )


def test_more_than_half_ignored_is_a_warning(capsys):
    assert "66.7% of own val does not count" in told(capsys, [[0, 1, 2, *[IGNORED] * 6]])[-1]
    assert len(told(capsys, [[0, 1, 2, *[IGNORED] * 3]])) == 1


def test_labels_of_which_no_pixel_counts_are_refused(capsys):
    with pytest.raises(DatasetError, match="none of the 2 labels of own val has a pixel that counts"):
        told(capsys, [[IGNORED]], [[IGNORED]])


def own_set(root, classes, labels):
    for index, label in enumerate(labels):
        write_pair(root, f"{index:04}", np.zeros((*np.shape(label), 3)), np.array(label))
    (root / "classes.json").write_text(json.dumps({"classes": [label._asdict() for label in classes]}))
    return open_dataset("own", root)


def test_of_many_labels_some_are_looked_at_and_that_is_said(tmp_path, capsys):
    dataset = own_set(tmp_path, CLASSES, [[[0, 1, 2]]] * (LOOKED + 20))
    look(dataset.pairs("val"), dataset.classes, "own val")
    assert f"{LOOKED} of {LOOKED + 20} labels looked at" in capsys.readouterr().err


def test_a_split_is_refused_only_when_all_of_it_was_looked_at(tmp_path, capsys):
    labels = [[[IGNORED]]] * (LOOKED + 20)
    labels[3] = [[2]]
    dataset = own_set(tmp_path, CLASSES, labels)
    pairs = dataset.pairs("val")
    assert pairs[3] not in spread(pairs, LOOKED)
    look(dataset.pairs("val"), dataset.classes, "own val")
    assert "car 100.0%" in capsys.readouterr().err


def test_masks_of_0_and_255_hold_the_second_of_two_classes_and_that_is_said(tmp_path, capsys):
    dataset = own_set(tmp_path, CLASSES[:2], [[[0, 0, 255]]])
    assert read_pair(dataset.pairs("val")[0])[1].tolist() == [[0, 0, 1]]
    assert "255 is taken for 'road'" in capsys.readouterr().err


def test_masks_of_0_and_255_with_one_class_are_told_how_they_are_read(tmp_path, capsys):
    dataset = own_set(tmp_path, CLASSES[:1], [[[0, 0, 255]]])
    assert read_pair(dataset.pairs("val")[0])[1].tolist() == [[0, 0, IGNORED]]
    assert "0 is 'sky', and 255 does not count" in capsys.readouterr().err


def test_beside_an_id_255_does_not_count(tmp_path, capsys):
    dataset = own_set(tmp_path, CLASSES[:2], [[[0, 0, 255]], [[0, 1, 255]]])
    assert read_pair(dataset.pairs("val")[0])[1].tolist() == [[0, 0, IGNORED]]


def test_black_and_white_classes_are_read_by_colour(tmp_path, capsys):
    white_first = (Label("road", (255, 255, 255)), Label("rest", (0, 0, 0)))
    dataset = own_set(tmp_path, white_first, [[[0, 0, 255]]])
    assert read_pair(dataset.pairs("val")[0])[1].tolist() == [[1, 1, 0]]
