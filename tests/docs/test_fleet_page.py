"""docs/fleet.md tells of every way what figures/fleet.json has, and every way left what it must."""

import json

from tests.helpers.snippets import ROOT

PAGE = (ROOT / "docs/fleet.md").read_text()
TRIAL = json.loads((ROOT / "figures/fleet.json").read_text())


def row(way):
    lost = way["done_before"] or ""
    return f"| {way['name']} | {lost} | {way['done_again'] if lost else ''} | {way['seconds']:.0f} |"


def test_the_page_tells_every_way_as_it_was_tried():
    assert [row(way) for way in TRIAL["ways"] if row(way) not in PAGE] == []
    assert f"{TRIAL['pictures']} pictures of {'x'.join(map(str, TRIAL['size']))}" in PAGE
    assert f"{TRIAL['films']} films of 60 frames in parts, {TRIAL['items']} items" in PAGE
    assert f"a run took {TRIAL['nothing_to_do_s']:.1f} s" in " ".join(PAGE.split())


def test_every_way_left_the_same_and_what_was_lost_cost_no_more_than_what_was_on_its_way():
    assert len(TRIAL["ways"]) == 8 and all(way["right"] for way in TRIAL["ways"])
    lost = [way for way in TRIAL["ways"] if way["done_before"]]
    assert len(lost) == 4 and all(way["done_again"] <= 2 * 8 and way["exits"][-1] == 1 for way in lost)
