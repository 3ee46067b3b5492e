"""The study's page and picture hold what was measured, of the weights that are shipped, or says of which."""

import json

import pytest

from runtime.measure.bench.tables import between_marks
from streetseg.study import page
from streetseg.study.plot import picture
from streetseg.study.points import BRANCH, BRANCHES, CASCADE, STUDY
from tests.helpers.earlier import are_earlier, are_shipped, may_stand
from tests.helpers.project import ROOT

STUDIED, NETWORKS = (json.loads((ROOT / f"figures/{name}.json").read_text()) for name in ("study", "networks"))
SAME_ACCURACY = 0.1  # points, between an engine in FP16 and the one in FP32 that the page of accuracy is of


@pytest.mark.parametrize(
    ("mark", "table"),
    [
        (page.STUDY_MARK, f"{page.study_table(STUDIED)}\n\n{page.conditions_of_all(STUDIED)}"),
        (page.CASCADE_MARK, page.cascade_table(STUDIED)),
        (page.STAGES_MARK, page.stages_table(STUDIED)),
        (page.NETWORKS_MARK, f"{page.networks_table(NETWORKS)}\n\n{page.conditions_of_all(NETWORKS)}"),
    ],
)
def test_a_table_of_the_page_is_what_was_measured(mark, table):
    text = (ROOT / "docs/study.md").read_text()
    assert between_marks(text, mark, table) == text


def test_the_picture_is_of_what_was_measured():
    machine = STUDIED["machine"]
    drawn = picture(STUDIED["points"], f"{machine['cpu']}, {machine['threads']} threads")
    assert (ROOT / "docs/images/study.svg").read_text() == drawn


def test_every_point_was_measured_of_the_shipped_weights_where_there_are_some_or_the_page_says_of_which():
    text = (ROOT / "docs/study.md").read_text()
    assert [point["name"] for point in STUDIED["points"]] == [point.name for point in (*STUDY, *CASCADE)]
    for of in (*STUDIED["points"], *({**each, "model": each["name"]} for each in NETWORKS["networks"])):
        if of["trained"]:
            assert may_stand(of["model"], of["weights_sha256"], text), of["name"]


def test_both_tables_are_of_one_machine_and_its_libraries():
    for key in ("machine", "software"):
        assert STUDIED[key] == NETWORKS[key]


def test_the_whole_networks_accuracy_is_that_of_the_page_of_accuracy():
    weights = next(point["weights_sha256"] for point in STUDIED["points"] if point["name"] == "icnet-1024x2048")
    folder = "figures/earlier" if are_earlier("icnet", weights) else "figures"
    known = json.loads((ROOT / folder / "sizes-icnet.json").read_text())["engines"]
    assert {engine["weights_sha256"] for engine in known} == {weights}
    sizes = {tuple(engine["network_size"]): engine["miou"] for engine in known}
    found = {tuple(point["size"]): point["miou"] for point in STUDIED["points"] if point["series"] == BRANCH
             and point["model"] == "icnet"}  # fmt: skip
    assert STUDIED["accuracy"]["frames"] == 101 and len(found) == 3
    for size, miou in found.items():
        assert abs(100 * (miou - sizes[size])) < SAME_ACCURACY


def test_what_the_branches_are_worth_in_int8_is_what_was_measured():
    found = json.loads((ROOT / "figures/branches-icnet.json").read_text())["engines"]
    assert {(e["precision"], e["frames"]) for e in found} == {("int8", 101)}
    assert all(are_shipped(e["model"], e["weights_sha256"]) for e in found)
    worth = {(e["model"], *e["network_size"]): 100 * e["miou"] for e in found}
    text = " ".join((ROOT / "docs/study.md").read_text().split())
    for size in ((1024, 2048), (704, 960)):
        of = [worth[(model, *size)] for model in BRANCHES]
        assert f"{of[0]:.2f}, {of[1]:.2f} and {of[2]:.2f} at {size[0]}x{size[1]}" in text
        points = [point for point in STUDIED["points"] if point["series"] == BRANCH and tuple(point["size"]) == size]
        assert all(100 * point["miou"] - worth[(point["model"], *size)] < 0.5 for point in points)
