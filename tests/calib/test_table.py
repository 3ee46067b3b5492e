import dataclasses
import json
import os

import numpy as np
import pytest

from calib.graphs import load_graph
from calib.qdq import quantize
from calib.table import find_table, load_table, save_table
from calib.thresholds import METHODS
from runtime.commands import ADOPTED
from runtime.errors import GraphError

TENSOR = "relu_4"


def spoilt(table, **fields):
    return json.loads(json.dumps(dataclasses.asdict(table) | fields))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 1e-30, 1e-6, 1e30])
def test_a_range_that_is_none_is_refused_where_it_is_read(tables, tmp_path, value):
    table, path = tables("icnet"), tmp_path / "table.json"
    path.write_text(json.dumps(spoilt(table, ranges=table.ranges | {TENSOR: dict.fromkeys(METHODS, value)})))
    with pytest.raises(GraphError, match=rf"is no calibration table \((a range of '{TENSOR}' is none|.*not finite)"):
        load_table(path)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e-6, 1e30])
def test_a_range_that_would_not_be_read_is_not_written_in_the_same_words(tables, tmp_path, value):
    table, path = tables("icnet"), tmp_path / "table.json"
    none = dataclasses.replace(table, ranges=table.ranges | {TENSOR: dict.fromkeys(METHODS, value)})
    with pytest.raises(
        GraphError, match=rf"would be no calibration table \(a range of '{TENSOR}' is none.*not written"
    ):
        save_table(path, none)
    assert not path.exists()


@pytest.mark.parametrize("means", [[float("nan")], [1e30], []])
def test_means_that_are_none_are_refused_where_they_are_read(tables, tmp_path, means):
    table, path = tables("icnet"), tmp_path / "table.json"
    path.write_text(json.dumps(spoilt(table, means=table.means | {"frame": means})))
    with pytest.raises(GraphError, match=r"the means of 'frame' are not finite numbers|has the number NaN"):
        load_table(path)


@pytest.mark.parametrize("fields", [{"model": "../../x"}, {"ranges": {TENSOR: {}}}])
def test_another_name_or_methods_that_are_missing_are_refused(tables, tmp_path, fields):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(spoilt(tables("icnet"), **fields)))
    with pytest.raises(GraphError, match="is no calibration table"):
        load_table(path)


def test_a_tensor_that_never_was_anything_but_zero_is_taken(tables, tmp_path):
    table, path = tables("icnet"), tmp_path / "table.json"
    dead = {"ranges": table.ranges | {TENSOR: dict.fromkeys(METHODS, 0.0)}, "means": table.means | {TENSOR: (0.0,) * 8}}
    save_table(path, dataclasses.replace(table, **dead))
    assert load_table(path).ranges[TENSOR]["mse"] == 0


def test_means_of_other_channels_are_refused_by_the_layer_that_reads_them(graphs, tables):
    table, model = tables("icnet"), load_graph(graphs("icnet")["fp16"], "fp16")[0]
    name = next(name for name, means in table.means.items() if len(means) > 3)
    short = dataclasses.replace(table, means=table.means | {name: table.means[name][:-1]})
    with pytest.raises(GraphError, match=rf"means of tensor {name}, .* reads \d+ channels; take it again: make calib"):
        quantize(model, short)
    assert np.isfinite(table.ranges[TENSOR]["mse"])


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "NaN", '{"a": 1, "a": 2}'])
def test_a_broken_table_beside_others_is_passed_over_with_one_warning(tables, tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr("calib.table.TABLES", tmp_path)
    table = tables("icnet")
    save_table(tmp_path / "icnet-good.json", table)
    (tmp_path / "icnet-broken.json").write_text(text)
    os.utime(tmp_path / "icnet-good.json", (1, 1))  # the broken one is the newest
    assert find_table("icnet", table.weights_sha256) == tmp_path / "icnet-good.json"
    warned = capsys.readouterr().err
    assert warned.startswith("warning: passed over: ") and warned.count("\n") == 1


def test_a_missing_table_of_an_adopted_graph_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("calib.table.TABLES", tmp_path)
    with pytest.raises(GraphError, match=r"make one: .*calib (ONNX=|--onnx )their\.onnx") as refused:
        find_table("their", "a" * 64, f"{ADOPTED}their.onnx")
    assert "MODEL" not in str(refused.value) and "--model" not in str(refused.value)


def test_a_table_of_another_network_of_the_same_weights_is_passed_over(tables, tmp_path, monkeypatch):
    table = tables("icnet")
    monkeypatch.setattr("calib.table.TABLES", tmp_path)
    monkeypatch.setattr("calib.table.SHIPPED", tmp_path)
    save_table(tmp_path / "icnet-sub24-mse-0.json", dataclasses.replace(table, model="icnet-sub24"))
    with pytest.raises(GraphError, match="no calibration table for these weights of icnet;"):
        find_table("icnet", table.weights_sha256)
    save_table(tmp_path / "icnet-mse-0.json", table)
    assert find_table("icnet", table.weights_sha256).name == "icnet-mse-0.json"
