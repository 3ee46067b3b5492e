import json
from statistics import median

import pytest

from runtime.measure.bench.tables import between_marks
from tests import triton_figures
from tests.helpers.engines import built_engine
from tests.helpers.project import ROOT

FIGURES, PAGE = ROOT / "figures" / "triton.json", ROOT / "docs" / "triton.md"


def test_the_pages_table_is_that_of_the_figures():
    figures, text = json.loads(FIGURES.read_text()), PAGE.read_text()
    assert between_marks(text, triton_figures.MARK, triton_figures.as_markdown(figures)) == text


def test_every_mask_was_equal():
    found = json.loads(FIGURES.read_text())
    assert found["masks"] == dict.fromkeys(triton_figures.WAYS, True)
    assert all(len(per_s) == found["rounds"] for kind in found["per_s"].values() for per_s in kind.values())


@pytest.mark.triton
def test_it_measures(tmp_path, monkeypatch):
    monkeypatch.setattr(triton_figures, "LONE", 2)
    found = json.loads(json.dumps(triton_figures.measured(built_engine(tmp_path), 2, 2, 8)))
    assert all(found["masks"].values()) and len(found["peak_mib"]) == 2
    assert median(found["per_s"]["several"]["grpc"]) > 0
    assert "| Triton, gRPC |" in triton_figures.as_markdown(found)
