import dataclasses
import json

import cv2
import numpy as np
import onnx
import pytest

from calib import likeness, qdq, ranges, sample
from calib.likeness import LEAST, correlation
from calib.table import calibration_frames, load_table, save_table
from export import adopt
from export.adopting.options import Asked, Given
from runtime.errors import GraphError
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from tests.helpers.foreign import HEIGHT, WIDTH, Foreign

LAYERS = 6


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The FP16 graph of six convolutions, its table, and the folder of its calibration frames."""
    folder = tmp_path_factory.mktemp("likeness")
    made = Foreign().conv(3, 8, 2)
    for _ in range(LAYERS - 2):
        made.add("Relu")
        made.conv(8, 8, 1)
    path = made.conv(8, 5, kernel=1).give().save(folder / "net.onnx")
    asked = Asked(given=Given("imagenet"))
    graphs = {kind: adopt.adopt(path, asked._replace(precision=kind), folder) for kind in ("fp32", "fp16")}
    (folder / "frames").mkdir()
    street = resize_frame(read_frame(STREET), HEIGHT, WIDTH)
    for i in range(3):
        cv2.imwrite(str(folder / "frames" / f"{i}.png"), np.roll(street, 9 * i, 1)[..., ::-1])
    taken = sample.sample_frames(folder / "frames", 3, 0, few=True)
    return graphs["fp16"], ranges.calibrate(graphs["fp32"], taken, 0, "mse", folder / "tables"), folder / "frames"


def told_in(graph):
    return json.loads(next(entry.value for entry in onnx.load(graph).metadata_props if entry.key == qdq.PROPERTY))


def spoilt(table_path, tensors, tmp_path, monkeypatch):
    """The table with ranges of these tensors a thousandth of what they are."""
    table = load_table(table_path)
    wrong = {name: {kind: value / 1000 for kind, value in table.ranges[name].items()} for name in tensors}
    monkeypatch.setattr("calib.table.SMALLEST", 0)
    save_table(tmp_path / "table.json", dataclasses.replace(table, ranges=table.ranges | wrong))
    return tmp_path / "table.json"


def test_what_int8_costs_on_calibration_frames_is_always_told(stages, capsys):
    graph, table, _ = stages
    made = qdq.quantized_graph(graph, table)
    first = capsys.readouterr().err
    assert "in INT8 on 2 calibration frames: logits correlated 0.99" in first and "warning" not in first
    assert told_in(made)["likeness"]["correlation"] > 0.99 and told_in(made)["float_layers"] == []
    assert qdq.quantized_graph(graph, table) == made
    assert capsys.readouterr().err.splitlines()[-1] == first.splitlines()[-1]


def test_the_fewest_first_layers_are_left_that_bring_a_far_graph_back(stages, tmp_path, monkeypatch, capsys):
    graph, table, _ = stages
    made = qdq.quantized_graph(graph, spoilt(table, ["relu_1"], tmp_path, monkeypatch))
    told = capsys.readouterr().err
    assert "warning: the first 2 of 6 layers stay in FP16" in told and "--anyway takes all in INT8" in told
    assert "one grey level of noise in the frame alone leaves 0.99" in told
    assert len(told_in(made)["float_layers"]) == 2 and told_in(made)["likeness"]["correlation"] >= LEAST


def test_a_graph_that_cannot_be_brought_back_is_refused_and_written_anyway_where_that_is_asked(
    stages, tmp_path, monkeypatch, capsys
):
    graph, table, _ = stages
    spoiled = spoilt(table, load_table(table).ranges, tmp_path, monkeypatch)
    before = set(graph.parent.iterdir())
    with pytest.raises(GraphError, match=r"is not its float graph on the bundled .*PRECISION=fp16.*--anyway"):
        qdq.quantized_graph(graph, spoiled)
    assert not [path for path in set(graph.parent.iterdir()) - before if path.suffix == ".onnx"]
    made = qdq.quantized_graph(graph, spoiled, anyway=True)
    assert told_in(made)["likeness"]["correlation"] < LEAST and told_in(made)["float_layers"] == []
    assert "warning: net in INT8 on the bundled street frame" in capsys.readouterr().err


def test_frames_are_those_of_the_calibration_as_long_as_they_are_there(stages, tmp_path):
    _, path, folder = stages
    table = load_table(path)
    found = calibration_frames(path, table)
    assert len(found) == 2 and all(each.parent == folder for each in found)
    # Another table of the same calibration finds them, a changed file is none of them.
    assert calibration_frames(path.with_name("other.json"), dataclasses.replace(table, method="minmax")) == found
    before = found[0].read_bytes()
    found[0].write_bytes(b"another")
    assert calibration_frames(path, table) == found[1:]
    found[0].write_bytes(before)
    assert calibration_frames(tmp_path / "moved.json", table) == []
    assert likeness._frames(tmp_path / "moved.json", table)[1] == "the bundled street frame"


@pytest.mark.parametrize(
    ("found", "expected"),
    [([1.0, 2.0, 4.0], 1.0), ([-1.0, -2.0, -4.0], -1.0), ([np.nan, 2.0, 4.0], 0.0), ([3.0, 3.0, 3.0], 0.0)],
)
def test_correlation_of_values_that_are_constant_or_none(found, expected):
    wanted = [np.array([1.0, 2.0]), np.array([4.0])]
    assert correlation(wanted, [np.array(found[:2]), np.array(found[2:])]) == pytest.approx(expected)
    assert correlation([np.ones(3)], [np.ones(3)]) == 1
