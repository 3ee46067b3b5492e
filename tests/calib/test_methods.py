import json

import numpy as np
import pytest

from calib import methods
from calib.graphs import load_graph
from calib.sensitivity import Labelled, worth
from calib.table import save_table
from calib.thresholds import METHODS
from runtime.cli import DONE
from runtime.reference import preprocess


@pytest.fixture
def data(graphs, frame, monkeypatch):
    """One real frame; its labels are the float graph's own mask, so that float is worth 100."""
    model, spec = load_graph(graphs("icnet")["fp32"], "fp32")
    inputs = [preprocess(frame, spec.preprocess)]
    masks = worth(model, spec, Labelled(inputs, [np.zeros((64, 128), np.uint8)])).masks
    found = Labelled(inputs, masks)
    monkeypatch.setattr(methods, "load_frames", lambda *_: found)
    return found


def test_every_way_is_compared_with_float(graphs, tables, data, tmp_path, capsys):
    table, written = tmp_path / "table.json", tmp_path / "figures.json"
    save_table(table, tables("icnet"))
    options = ["--table", table, "--dataset", "camvid", "--data", tmp_path, "--json", written]
    assert methods.main([str(graphs("icnet")["fp32"]), *map(str, options)]) == DONE
    document = json.loads(written.read_text())
    assert (document["model"], document["frames"], document["calibration_frames"]) == ("icnet", 1, 1)
    float_row, *rows = document["ways"]
    assert (float_row["miou"], float_row["changed_percent"]) == (100.0, 0.0)
    assert [(row["method"], row["bias_correction"]) for row in rows] == [(m, c) for m in METHODS for c in (False, True)]
    assert all(50 < row["miou"] < 100 and 0 < row["changed_percent"] < 10 for row in rows)
    assert len({row["changed_percent"] for row in rows}) > len(METHODS)  # methods and correction make a difference
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        row["method"] for row in document["ways"]
    ]
