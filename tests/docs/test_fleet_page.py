"""docs/fleet.md tells what figures/fleet.json and figures/fleet-cost.json have, and every way left what it must."""

import json

from runtime.measure.bench.tables import between_marks
from tests import fleet_cost
from tests.helpers.snippets import ROOT

PAGE = (ROOT / "docs/fleet.md").read_text()
TRIAL, COST = (json.loads((ROOT / "figures" / name).read_text()) for name in ("fleet.json", "fleet-cost.json"))


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


def test_the_table_of_costs_is_that_of_the_figures():
    assert between_marks(PAGE, fleet_cost.MARK, fleet_cost.as_markdown(COST)) == PAGE


def test_an_hour_of_film_costs_what_its_items_took_and_starting_is_beside_it():
    ways = {way["name"]: way for way in COST["ways"]}
    assert all(len(way["whole_s"]) == COST["rounds"] >= 3 for way in ways.values())
    for name in ("without Ray", "Ray, one worker"):
        way = ways[name]
        for hour, own, whole in zip(
            way["machine_seconds_per_video_hour"], way["machine_seconds"], way["whole_s"], strict=True
        ):
            by_items = 3600 / COST["film"]["seconds"] * own
            assert abs(hour - by_items) < 1 + by_items / 1000 and own < whole
