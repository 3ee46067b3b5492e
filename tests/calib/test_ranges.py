import dataclasses
import os

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calib.ranges import FRAMES, calibrate, collect, main
from calib.sample import sample_frames
from calib.table import SMALLEST, find_table, load_table, save_table
from runtime import artifacts
from runtime.errors import FrameError, GraphError
from tests.helpers.graphs import tiny_graph

SECOND_NS = 10**9


@pytest.fixture
def data(tmp_path, frame):
    """Four images: the street frame and three that are darker."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), (frame[::4, ::4, ::-1] // (i + 1)).astype(np.uint8))
    return folder


@pytest.fixture
def graph(tmp_path):
    """Two convolutions under ICNet's name."""
    path = tmp_path / "icnet.onnx"
    path.write_bytes(tiny_graph())
    return path


@pytest.fixture
def calibrated(graph, data, tmp_path):
    """Calibrate on the images; options of the sample and the method."""

    def table(seed=0, method="percentile", count=FRAMES, graph=graph):
        sample = sample_frames(data, count, seed, few=True)
        return calibrate(graph, sample, seed, method, tmp_path / "tables")

    return table


def test_the_table_tells_frames_seed_method_versions_and_every_range(calibrated, data, graphs):
    table = load_table(calibrated(graph=graphs("icnet")["fp32"]))
    assert (table.model, table.seed, table.method, table.float_layers) == ("icnet", 0, "percentile", ())
    assert set(zip(table.frames, table.frames_sha256, strict=True)) == {
        (path.name, artifacts.sha256_of(path)) for path in data.iterdir()
    }
    assert set(table.versions) == {"onnxruntime", "onnx", "numpy", "opencv-python-headless"}
    assert len(table.ranges) > 60
    for of in table.ranges.values():
        assert set(of) == {"minmax", "percentile", "entropy", "mse"}
        assert max(of.values()) == of["minmax"]


def test_a_range_is_what_the_graph_gives_over_all_frames(tiny_model):
    model = tiny_model(("Conv", ["frame", "w"], ["a"], {"pads": [1, 1, 1, 1]}), ("Relu", ["a"], ["logits"], {}))
    inputs = [np.random.default_rng(i).normal(size=(1, 3, 8, 8)).astype(np.float32) for i in range(3)]
    found = collect(model, ["a"], inputs)
    each = [collect(model, ["a"], [values]) for values in inputs]
    assert found.histograms["a"].largest == max(one.histograms["a"].largest for one in each)
    assert np.allclose(found.means["a"], np.mean([one.means["a"] for one in each], axis=0))
    assert np.allclose(found.means["frame"], np.mean(inputs, axis=(0, 1, 3, 4)))


def test_a_range_under_half_precisions_smallest_step_is_that_step_so_the_table_is_read(calibrated, graph):
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        if tensor.dims:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-7), tensor.name))
    onnx.save(model, graph)
    ranges = load_table(calibrated()).ranges
    assert SMALLEST in {value for by_method in ranges.values() for value in by_method.values()}


def test_a_second_calibration_is_taken_from_the_first(calibrated):
    first = calibrated()
    before = first.read_bytes(), first.stat().st_ino
    assert calibrated() == first
    assert (first.read_bytes(), first.stat().st_ino) == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "mse"}, {"count": 3}])
def test_another_seed_method_or_count_is_another_table(calibrated, change):
    assert calibrated() != calibrated(**change)


def test_another_frame_is_another_table(calibrated, data):
    first = calibrated()
    pixels = cv2.imread(str(data / "0.png"))
    pixels[0, 0] ^= 1
    cv2.imwrite(str(data / "0.png"), pixels)
    assert calibrated() != first


def test_an_unreadable_frame_stops_the_run_and_leaves_nothing(calibrated, data, tmp_path):
    (data / "2.png").write_bytes((data / "2.png").read_bytes()[:500])
    with pytest.raises(FrameError, match=r"2\.png"):
        calibrated()
    assert not list((tmp_path / "tables").glob("*.json"))


def test_one_unreadable_frame_of_many_is_left_out_said_and_counted(calibrated, data, capsys):
    pixels = (data / "0.png").read_bytes()
    for i in range(4, 20):
        (data / f"{i}.png").write_bytes(pixels)
    (data / "2.png").write_bytes(b"broken")
    table = load_table(first := calibrated())
    assert len(table.frames) == len(table.frames_sha256) == 19 and "2.png" not in table.frames
    err = capsys.readouterr().err
    assert "left out: " in err and "2.png: not an image" in err and "calibrated on 19 of 20 frames: 1 could not" in err
    assert calibrated() == first and "is up to date" in capsys.readouterr().err


def test_ranges_are_taken_from_the_fp32_graph_alone(graph, data, tmp_path):
    graph.write_bytes(tiny_graph(None, "fp16"))
    with pytest.raises(GraphError, match="is fp16, needed is fp32"):
        calibrate(graph, sample_frames(data, 4, 0, few=True), 0, "mse", tmp_path)


def test_the_command_prints_the_tables_path(graph, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "__defaults__", (tmp_path / "tables",))
    assert main([str(graph), "--data", str(data), "--few"]) == 0
    assert load_table(type(tmp_path)(capsys.readouterr().out.strip())).method == "mse"


def test_the_newest_table_of_the_same_weights_is_found(calibrated, tmp_path, monkeypatch):
    older, newer = calibrated(), calibrated(method="mse")
    stamp_ns = newer.stat().st_mtime_ns
    os.utime(older, ns=(stamp_ns - SECOND_NS, stamp_ns - SECOND_NS))
    monkeypatch.setattr("calib.table.TABLES", tmp_path / "tables")
    weights = load_table(older).weights_sha256
    assert find_table("icnet", weights) == newer
    # Not `touch`: both may then be of one tick of the kernel's clock.
    os.utime(older, ns=(stamp_ns + SECOND_NS, stamp_ns + SECOND_NS))
    assert find_table("icnet", weights) == older
    with pytest.raises(GraphError, match=r"no calibration table for these weights of icnet; make one: make calib"):
        find_table("icnet", "e" * 64)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json", b"\xff\xfe"])
def test_a_damaged_table_is_one_line(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GraphError, match=r"table\.json is no calibration table .*make calib"):
        load_table(path)


def test_a_table_survives_being_written(calibrated, tmp_path):
    table = dataclasses.replace(load_table(calibrated()), float_layers=("conv6_cls",))
    save_table(tmp_path / "again.json", table)
    assert load_table(tmp_path / "again.json") == table
