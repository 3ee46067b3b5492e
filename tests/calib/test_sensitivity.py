import json
from pathlib import Path

import numpy as np
import pytest

from calib import sensitivity
from calib.graphs import load_graph
from calib.sensitivity import (
    Bounds,
    Cost,
    Labelled,
    Worth,
    analyse,
    as_text,
    changed_percent,
    draw_costs,
    fewest_left,
    layer_costs,
)
from calib.table import load_table, save_table
from runtime.errors import DatasetError
from runtime.reference import preprocess

COSTS = [Cost(name, 0.1, changed) for name, changed in (("a", 4.0), ("b", 2.0), ("c", 1.0), ("d", 0.5))]
MASK = np.zeros((2, 5), np.uint8)


def test_a_layers_cost_is_measured_with_all_others_left():
    asked = []

    def of(left):
        asked.append(left)
        changed = MASK.copy()
        changed[0, : 2 if "a" not in left else 1] = 1
        return Worth(70.0 if "a" not in left else 79.0, [changed])

    costs = layer_costs(["b", "a"], of, Worth(80.0, [MASK]))
    assert asked == [("a",), ("b",)]
    assert costs == [Cost("a", 10.0, 20.0), Cost("b", 1.0, 10.0)]


def test_either_bound_alone_is_enough_to_leave_a_layer():
    other = MASK.copy()
    other[0, 0] = 1  # 10 % of the pixels
    found, whole = Worth(79.0, [other]), Worth(80.0, [MASK])
    kept = {bounds: Bounds(*bounds).keep(found, whole) for bounds in ((1.0, 10.0), (0.9, 10.0), (1.0, 9.9))}
    assert list(kept.values()) == [True, False, False]


@pytest.mark.parametrize(("needed", "max_drop"), [(0, 5.0), (1, 3.5), (2, 1.5), (4, 0.0)])
def test_the_fewest_layers_that_keep_the_bound_are_left(needed, max_drop):
    drops = [4.0, 3.0, 1.0, 0.5, 0.0]  # with so many of the costliest left
    assert fewest_left(COSTS, lambda left: drops[len(left)] <= max_drop) == tuple("abcd"[:needed])


def test_changed_pixels_are_counted_over_all_frames():
    other = MASK.copy()
    other[0, 0] = 1
    assert changed_percent([MASK, MASK], [MASK, other]) == 5.0


def test_the_table_and_the_picture_name_every_layer():
    assert [line.split()[0] for line in as_text(COSTS).splitlines()[1:]] == list("abcd")
    picture = draw_costs(COSTS)
    lengths = [(picture[18 * row - 5] == sensitivity.BAR).all(axis=1).sum() for row in range(2, 6)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=2)


BOTH = {"conv6_cls", "fusion_12"}


@pytest.mark.parametrize(
    ("bounds", "left"),
    [((100.0, 100.0), set()), ((-100.0, 100.0), BOTH), ((100.0, 0.0), BOTH), ((100.0, 4.9), set())],
)
def test_the_table_names_the_layers_to_leave(graphs, tables, frame, monkeypatch, bounds, left):
    model, spec = load_graph(graphs("icnet")["fp32"], "fp32")
    data = Labelled([preprocess(frame, spec.preprocess)], [np.zeros((64, 128), np.uint8)])
    monkeypatch.setattr(sensitivity, "layers", lambda graph: {0: "conv6_cls", 1: "fusion_12"})
    found = analyse(model, spec, tables("icnet"), data, Bounds(*bounds))
    assert {cost.layer for cost in found.costs} == BOTH
    assert all(0 < cost.changed < 5 for cost in found.costs) and 0 < found.changed_percent < 10
    assert set(found.left) == left


def test_the_command_keeps_figures_picture_and_table(graphs, tables, frame, tmp_path, monkeypatch, capsys):
    spec = load_graph(graphs("icnet")["fp32"], "fp32")[1]
    data = Labelled([preprocess(frame, spec.preprocess)], [np.zeros((64, 128), np.uint8)])
    monkeypatch.setattr(sensitivity, "layers", lambda graph: {0: "conv6_cls"})
    monkeypatch.setattr(sensitivity, "load_frames", lambda *_: data)
    monkeypatch.setattr(sensitivity, "TABLES", tmp_path)
    save_table(tmp_path / "given.json", tables("icnet"))
    options = ["--table", tmp_path / "given.json", "--dataset", "camvid", "--data", tmp_path, "--max-drop", -100]
    options += ["--max-changed", 0.5]
    assert sensitivity.main([str(graphs("icnet")["fp32"]), *map(str, options), "--json", str(tmp_path / "f.json")]) == 0
    document = json.loads((tmp_path / "f.json").read_text())
    assert (document["model"], document["frames"], document["left"]) == ("icnet", 1, ["conv6_cls"])
    assert [cost["layer"] for cost in document["costs"]] == ["conv6_cls"]
    assert document["bounds"] == {"max_drop": -100.0, "max_changed": 0.5}
    written = Path(capsys.readouterr().out.splitlines()[-1])
    assert load_table(written).float_layers == ("conv6_cls",)
    assert (tmp_path / "f.png").read_bytes() == written.with_suffix(".png").read_bytes()


def test_a_data_set_of_other_classes_is_refused(tmp_path, graphs):
    spec = load_graph(graphs("icnet")["fp32"], "fp32")[1]
    (tmp_path / "leftImg8bit" / "train" / "x").mkdir(parents=True)
    with pytest.raises(DatasetError, match="cityscapes has other classes than icnet: 19, 11"):
        sensitivity.load_frames("cityscapes", tmp_path, spec, 4, 0)


@pytest.mark.parametrize("bound", ["--max-drop", "--max-changed"])
def test_a_bound_that_is_no_number_is_usage(bound, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        sensitivity.main(["a.onnx", "--dataset", "camvid", "--data", str(tmp_path), bound, "nan"])
    assert exit_.value.code == 2
