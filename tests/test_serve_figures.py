import json

import pytest

from runtime.measure.bench.tables import between_marks
from tests import serve_figures
from tests.helpers.engines import built_engine
from tests.helpers.project import ROOT

FIGURES, PAGE = sorted((ROOT / "figures").glob("serving-*.json")), ROOT / "docs" / "serving.md"


def test_the_pages_tables_are_those_of_the_figures():
    (figures,) = FIGURES
    text = PAGE.read_text()
    assert between_marks(text, serve_figures.MARK, serve_figures.as_markdown(json.loads(figures.read_text()))) == text


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_every_mask_was_equal_and_every_refusal_arrived(path):
    found = json.loads(path.read_text())
    assert len(found["masks"]) >= 10 and all(found["masks"].values())
    assert sorted(found["hostile"]["got"].values()) == [400, 400, 408, 413]
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
    small |= {"LONE_PAIRS": 1, "EVEN_S": 0.05}
    for name, value in small.items():
        monkeypatch.setattr(serve_figures, name, value)
    found = json.loads(json.dumps(serve_figures.measured(built_engine(tmp_path), 2, 1, 3)))
    assert all(found["masks"].values()) and found["hostile"]["got"]["a body that does not come"] == 408
    assert set(found["overload"]["waits"]) == {"auto", "0"} and set(found["even"]["statuses"]) <= {"200", "503"}
    assert "| most memory, MiB |" in serve_figures.as_markdown(found)
