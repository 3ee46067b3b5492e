import json

import pytest

from runtime.measure.bench.tables import between_marks
from tests import serve_figures
from tests.helpers.engines import built_engine
from tests.helpers.project import ROOT
from tests.helpers.runs import conditions, run_of

FIGURES, PAGE = sorted((ROOT / "figures").glob("serving-*.json")), ROOT / "docs" / "serving.md"


def test_the_pages_tables_are_those_of_the_figures():
    (figures,) = FIGURES
    text = PAGE.read_text()
    assert between_marks(text, serve_figures.MARK, serve_figures.as_markdown(json.loads(figures.read_text()))) == text


def test_the_page_names_the_machine_and_the_weights_of_every_part():
    found = json.loads(FIGURES[0].read_text())
    assert sorted(name for run in found["runs"] for name in run["parts"]) == sorted(serve_figures.PARTS)
    text = serve_figures.as_markdown(found)
    assert {each for each in map(conditions, found["runs"]) if each not in text} == set()
    other = json.loads(json.dumps(found))
    other["runs"][0]["parts"].remove("cpu")
    other["runs"].insert(1, {**found["runs"][0], "parts": ["cpu"], "measured": "2027-01-01"})
    last_row = f" The last row: {conditions(other['runs'][1])}."
    assert last_row in serve_figures.as_markdown(other) and last_row not in text


def again(monkeypatch, *parts):
    """What is left of the figures after a rerun of some parts, on another machine with another engine; and before."""
    before = json.loads(FIGURES[0].read_text())
    own = run_of(before, "cpu")
    if own["parts"] != ["cpu"]:  # of two runs, as figures are of which some parts were measured again
        own["parts"].remove("cpu")
        before["runs"].append({**own, "parts": ["cpu"], "measured": "2026-01-01"})
    here = {**run_of(before, "throughput")["machine"], "cpu": "another"}
    engine = {**run_of(before, "throughput")["engine"], "weights_sha256": "0" * 64, "onnx_sha256": "1" * 64}
    for name, given in (("machine", here), ("engine_facts", engine), ("read_manifest", None), ("today", "2027-01-01")):
        monkeypatch.setattr(serve_figures, name, lambda *_, given=given: given)
    for name in ("masks", "lone_by_lanes", "throughput", "cpu", "hostile", "too_many", "too_many_even"):
        monkeypatch.setattr(serve_figures, name, lambda *_, name=name: {"new": name})
    return before, serve_figures.measured(None, 2, 1, 1, parts, before)


def test_a_rerun_of_some_parts_leaves_the_others_their_machine_engine_and_date(monkeypatch):
    before, found = again(monkeypatch, "cpu", "even")
    assert found["cpu"]["new"] == "cpu" and found["even"]["new"] == "too_many_even"
    for name in serve_figures.PARTS:
        run = run_of(found, name)
        if name in ("cpu", "even"):
            assert (run["machine"]["cpu"], run["engine"]["weights_sha256"], run["measured"]) == (
                "another", "0" * 64, "2027-01-01",
            )  # fmt: skip
        else:
            assert found[name] == before[name]
            assert {**run, "parts": 0} == {**run_of(before, name), "parts": 0}


def test_a_run_whose_parts_were_all_measured_again_is_gone(monkeypatch):
    before, found = again(monkeypatch, *serve_figures.PARTS)
    assert [run["measured"] for run in found["runs"]] == ["2027-01-01"] and len(before["runs"]) > 1


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_every_mask_was_equal_and_every_refusal_arrived(path):
    found = json.loads(path.read_text())
    assert len(found["masks"]) >= 10 and all(found["masks"].values())
    assert sorted(found["hostile"]["got"].values()) == [400, 400, 408, 413]
    assert max(found["hostile"]["times_idle"].values()) <= 1.2
    waits = found["overload"]["waits"]
    for flooded in (*waits.values(), found["even"]):
        assert set(flooded["statuses"]) == {"200", "503"}
    assert found["even"]["p99_of_bound"] <= 1  # of its own the server adds no tail
    assert waits["auto"]["p99_of_bound"] <= 1 and waits["auto"]["accepted_per_s"] > 0.95 * waits["0"]["accepted_per_s"]
    assert found["throughput"]["peak_ratio"] <= 1.4 and found["cpu"]["beyond_ms"] <= 3


@pytest.mark.serve
def test_it_measures(tmp_path, monkeypatch):
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed: make test-serve does")
    small = {"PAIRS": 1, "LONE": 2, "OVERLOAD_S": 1.0, "FLOODS": 1, "UPLOAD_S": 1, "CHEAP_FRAMES": 5, "SETTLE_S": 0.3}
    small |= {"LONE_PAIRS": 1, "EVEN_S": 0.05, "TURNS": 1}
    for name, value in small.items():
        monkeypatch.setattr(serve_figures, name, value)
    found = json.loads(json.dumps(serve_figures.measured(built_engine(tmp_path), 2, 1, 3)))
    assert all(found["masks"].values()) and found["hostile"]["got"]["a body that does not come"] == 408
    assert set(found["overload"]["waits"]) == {"auto", "0"} and set(found["even"]["statuses"]) <= {"200", "503"}
    assert "| most memory, MiB |" in serve_figures.as_markdown(found)
