"""What was measured with other weights than the shipped ones stands where a page says so, whatever the figure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from export.checkpoints.sources import default_weights
from tests.helpers.earlier import SAID, are_earlier, are_shipped
from tests.helpers.project import ROOT

# Where each figure stands that has such weights: a page, and of it a section; None is the whole page.
PLACES = {
    "calibration-icnet": ("int8", "Which method"),
    "gate-trial": ("gate", "Tried for real"),
    "kinds-amx-icnet": ("int8", "CPUs without VNNI"),
    "pairs-icnet": ("int8", "CPUs with VNNI"),
    "pairs-nncf-icnet": ("int8", "CPUs with VNNI"),
    "sensitivity-icnet": ("int8", "Which layers cost what"),
    "views-icnet-fp16": ("history", None),
    "views-icnet-int8": ("history", None),
}
OF_THE_STUDY = ("networks", "study")  # held by test_study_tables
OLDER = ("gate-trial",)  # of weights before the earlier ones


def weights(values: Any) -> Iterator[tuple[str, str]]:
    """Every network of a document with the checksum of its weights, where that network ships some."""
    if isinstance(values, dict):
        if "weights_sha256" in values and default_weights(model := values.get("model", "icnet")):
            yield model, values["weights_sha256"]
        for value in values.values():
            yield from weights(value)
    elif isinstance(values, list):
        for value in values:
            yield from weights(value)


FOUND = {path.stem: set(weights(json.loads(path.read_text()))) for path in sorted((ROOT / "figures").glob("*.json"))}
OTHER = {
    name: {each for each in found if not are_shipped(*each)}
    for name, found in FOUND.items()
    if name not in OF_THE_STUDY and not all(are_shipped(*each) for each in found)
}


def test_figures_have_weights_that_are_found():
    assert sum(map(bool, FOUND.values())) > 30 and len(OTHER) > 5


@pytest.mark.parametrize("name", OTHER)
def test_a_figure_of_other_weights_stands_where_its_page_says_so(name):
    assert name in PLACES, (
        f"say {SAID!r} where figures/{name}.json stands, and name the place here; or measure it again"
    )
    page, title = PLACES[name]
    text = (ROOT / f"docs/{page}.md").read_text()
    told = text if title is None else text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert SAID in told
    assert name in OLDER or all(are_earlier(*each) for each in OTHER[name])


def test_no_place_is_kept_for_a_figure_that_was_measured_again():
    assert sorted(PLACES) == sorted(OTHER)
