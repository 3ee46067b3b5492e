"""Rows and items as Parquet: of one form whatever is in them."""

import dataclasses

import pytest

from runtime.fleet.rows import (
    Asked,
    Item,
    Output,
    Row,
    bytes_from_items,
    bytes_from_rows,
    items_from_bytes,
    rows_from_bytes,
)

EMPTY = Row("i", "k", "a.png", "a.png", "1", "s", False, 0, None, None, None, "is none")
FULL = dataclasses.replace(
    EMPTY,
    error="",
    next=4,
    start=-3,
    stop=9,
    shares={"road": 0.25, "sky": 0.75},
    milliseconds={"decode": 1.5},
    outputs=(Output("ids", "masks/a.png", 3, "0"), Output("color", "masks/b.png", 4, "1")),
)


@pytest.mark.parametrize("rows", [[], [EMPTY], [FULL], [EMPTY, FULL], [FULL, EMPTY]])
def test_rows_come_back_as_they_were(rows):
    assert rows_from_bytes(bytes_from_rows(rows)) == rows


def test_files_of_rows_have_one_form_whether_their_lists_are_empty_or_not(tmp_path):
    import pyarrow.dataset

    for name, rows in (("a", [EMPTY]), ("b", [FULL]), ("c", [])):
        (tmp_path / f"{name}.parquet").write_bytes(bytes_from_rows(rows))
    assert pyarrow.dataset.dataset(tmp_path).to_table().num_rows == 2


def test_items_come_back_as_they_were():
    items = [Item("a.png", "a.png", "1", "s"), Item("v.mp4", "v.mp4", "2", "t", True, 60.0, 0, 9, 12, None, 400)]
    assert items_from_bytes(bytes_from_items(items)) == items and items_from_bytes(bytes_from_items([])) == []


def test_a_table_of_another_form_is_refused():
    with pytest.raises(ValueError, match="columns"):
        rows_from_bytes(bytes_from_items([]))


def test_an_item_is_known_by_its_place_and_its_key_by_what_it_is_made_of():
    item = Item("x/v.mp4", "v.mp4", "2", "t", True, 60.0, 0, 9, 12, None, 400)
    moved = dataclasses.replace(item, input="y/v.mp4", version="3")
    assert item.id(Asked()) == moved.id(Asked())
    elsewhere = dataclasses.replace(item, place="w.mp4")
    assert item.id(Asked()) != elsewhere.id(Asked()) and item.key(Asked(), "e") == elsewhere.key(Asked(), "e")
    for other in (dataclasses.replace(item, sha256="u"), dataclasses.replace(item, first=3)):
        assert other.id(Asked()) != item.id(Asked()) and other.key(Asked(), "e") != item.key(Asked(), "e")
    assert item.key(Asked(), "e") != item.key(Asked(), "f") != item.key(Asked(alpha=0.1), "f")
