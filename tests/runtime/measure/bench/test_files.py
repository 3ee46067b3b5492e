"""File to file: every input in every way, and the page's table of what the files say."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.errors import FrameError, PipelineError
from runtime.lanes import open_lanes
from runtime.measure.bench import files as bench_files
from runtime.measure.bench.files import BEGIN, Way, main, pass_through, read_document, table, write_inputs
from runtime.measure.bench.tables import END, between_marks
from runtime.media.pipeline import Clock, Stage, one_after_another, overlapped
from runtime.media.results import WHOLE
from tests.helpers.engines import built_engine
from tests.helpers.videos import moving, read_video

ROOT = Path(__file__).parents[4]
FIGURES = sorted((ROOT / "figures").glob("files-*.json"))


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    options = ["--frames", "3", "--rounds", "2", "--frame-size", "64x128", "--json", str(folder / "out.json")]
    assert main(["--engine", str(built_engine(folder)), *options]) == cli.DONE
    return folder / "out.json"


def test_the_inputs_hold_the_same_moving_frames(tmp_path):
    frame = moving(1, (64, 128))[0]
    inputs = write_inputs(tmp_path, frame, 3)
    expected = np.array([np.roll(frame, bench_files.STEP_PX * i, 1) for i in range(3)], int)
    pictures = {kind: [cv2.imread(str(path))[..., ::-1] for path in inputs[kind]] for kind in ("PNG", "JPEG")}
    np.testing.assert_array_equal(pictures["PNG"], expected)
    (video,) = inputs["H.264"]
    for seen in (pictures["JPEG"], read_video(video)[0]):
        assert np.shape(seen) == expected.shape and np.abs(np.array(seen, int) - expected).mean() < 6


def test_every_input_is_measured_in_every_way(document):
    found = read_document(document)
    assert list(found["inputs"]) == ["PNG", "JPEG", "H.264"]
    for ways in found["inputs"].values():
        assert list(ways) == ["one core", "sequential", "overlapped, 1 lane", "overlapped, 2 lanes"]
        for way in ways.values():
            assert len(way["frames_per_s"]) == 2 and min(way["frames_per_s"]) > 0
            assert len(way["cpu_ms"]) == 2 and min(way["cpu_ms"]) > 0
            assert list(way["stages_ms"]) == ["decode", "segment", "encode"]
            assert all(len(samples) == 2 and min(samples) > 0 for samples in way["stages_ms"].values())
        for i, rate in enumerate(ways["sequential"]["frames_per_s"]):  # which nothing overlaps
            assert sum(samples[i] for samples in ways["sequential"]["stages_ms"].values()) < 1e3 / rate
        for i, cpu_ms in enumerate(ways["one core"]["cpu_ms"]):  # which counts what is done between the stages, too
            assert sum(samples[i] for samples in ways["one core"]["stages_ms"].values()) < cpu_ms
    assert found["frames"] == 3 and "-m runtime.bench_files --engine" in found["fingerprint"]["command"]


def test_every_kind_of_file_is_measured_by_itself(document):
    found = read_document(document)["written"]
    assert list(found) == ["ids.png", "color.png", "overlay.png", "overlay.jpg"]
    assert all(len(of["cpu_ms"]) == 3 and min(of["cpu_ms"]) > 0 and of["kib"] > 0 for of in found.values())
    rows = table(read_document(document)).splitlines()
    assert f"| ids.png | {np.median(found['ids.png']['cpu_ms']):.1f} | {found['ids.png']['kib']:.0f} |" in rows


def test_each_way_is_what_it_is_called_and_its_first_run_is_not_counted(tmp_path, monkeypatch):
    seen = []

    def fake(files, out, way):
        seen.append((files[0].suffix, way.pipeline, way.lanes.count, way.threads))
        clock = Clock(busy_ms={"decode": 8.0, "segment": 16.0, "encode": 24.0 + len(seen)})
        return 0.5, clock

    monkeypatch.setattr(bench_files, "pass_through", fake)
    found = bench_files.measure(built_engine(tmp_path), np.zeros((64, 128, 3), np.uint8), 4, 2)
    ways = {
        "one core": (bench_files.in_processor_time, 1, 1),
        "sequential": (one_after_another, 1, None),
        "overlapped, 1 lane": (overlapped, 1, None),
        "overlapped, 2 lanes": (overlapped, 2, None),
    }
    kinds = {".png", ".jpg", ".mp4"}
    assert len(set(seen)) == 12 and set(seen) == {(kind, *way) for kind in kinds for way in ways.values()}
    assert all(seen.count(one) == 3 for one in seen)
    for of_kind in found.values():
        for way in of_kind.values():
            assert way["frames_per_s"] == [8.0, 8.0]
            assert way["stages_ms"]["decode"] == [2.0, 2.0] and way["stages_ms"]["segment"] == [4.0, 4.0]
            assert min(way["stages_ms"]["encode"]) > (24 + 12) / 4  # after the twelve that are not counted


def test_an_engine_of_one_lane_is_opened_once(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_files, "pass_through", lambda *_: (1.0, Clock(busy_ms=dict.fromkeys(WHOLE, 1.0))))
    opened = []
    monkeypatch.setattr(bench_files, "open_lanes", lambda *a, **b: opened.append(open_lanes(*a, **b)) or opened[-1])
    engine = built_engine(tmp_path, backend="onnxruntime")
    found = bench_files.measure(engine, np.zeros((64, 128, 3), np.uint8), 1, 1)
    assert list(found["PNG"]) == ["one core", "sequential", "overlapped, 1 lane"]
    assert len(opened) == 3 and all(lanes._closed for lanes in opened)


def test_the_table_gives_medians_and_holds_each_way_to_the_bound(document):
    found = read_document(document)
    found["fingerprint"]["machine"]["threads"] = 2
    ways = found["inputs"]["JPEG"]
    ways["one core"] = {
        "frames_per_s": [1, 1, 1],
        "cpu_ms": [100, 40, 30],
        "stages_ms": {"decode": [1, 2, 9], "segment": [30], "encode": [4]},
    }
    ways["sequential"] |= {"frames_per_s": [10, 20, 50], "cpu_ms": [50, 60, 70]}
    ways["overlapped, 1 lane"] |= {"frames_per_s": [20, 40, 25], "cpu_ms": [40, 40, 40]}
    ways["overlapped, 2 lanes"] |= {"frames_per_s": [18, 40, 25], "cpu_ms": [100, 50, 40]}
    rows = table(found).splitlines()
    alone, one, two = (
        "20 ms, 1.00 of the bound on 3.50 cores",
        "25 ms, 1.25 of the bound on 1.60 cores",
        "25 ms, 1.25 of the bound on 2.00 cores",
    )
    assert f"| 3 frames, JPEG | 2.0 | 30.0 | 4.0 | 40.0 | 20 ms | {alone} | {one} | {two} |" in rows
    assert "icnet fp32 on openvino" in rows[-1] and "frames of 64x128; of 2 rounds" in rows[-1]


def test_processor_time_is_counted_and_waiting_is_not():
    def wait(item):
        time.sleep(0.05)
        return item

    def work(item):
        until = time.process_time() + 0.03
        while time.process_time() < until:
            pass
        return item

    clock = Clock()
    stages = [Stage("wait", wait), Stage("work", work)]
    assert [passage.value for passage in bench_files.in_processor_time([1, 2], stages, clock)] == [1, 2]
    assert clock.busy_ms["wait"] < 60 <= clock.busy_ms["work"]


def test_a_frame_that_is_damaged_ends_the_measurement(tmp_path):
    engine, bad = built_engine(tmp_path), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with open_lanes(engine, 1) as lanes, pytest.raises(FrameError, match=r"bad\.png"):
        pass_through([bad], tmp_path / "out", Way(overlapped, lanes))


def test_the_table_is_written_between_its_marks(document, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(document), "--page", str(page)]) == cli.DONE
    assert page.read_text() == f"before\n{BEGIN}\n\n{table(read_document(document))}\n\n{END}\nafter\n"
    assert capsys.readouterr().out == ""
    both = [str(document), "--page", str(page)]
    for wrong in (both[:1], both[1:], [*both, "--json", "x.json"], [*both, "--engine", "x.engine"]):
        with pytest.raises(SystemExit) as exit_:
            main(wrong)
        assert exit_.value.code == cli.USAGE and "--page" in capsys.readouterr().err


@pytest.mark.parametrize(
    "document",
    ["", [], {}, {"version": 2, "inputs": {}}, {"version": 1, "inputs": {}}, {"version": 2, "inputs": {"PNG": {}}}],
    ids=str,
)
def test_what_is_no_document_is_refused(document, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(document) if document != "" else "")
    with pytest.raises(PipelineError, match=r"no document of runtime\.bench_files"):
        read_document(tmp_path / "x.json")
    with pytest.raises(PipelineError, match="No such file"):
        read_document(tmp_path / "none.json")


def test_the_page_of_benchmarks_shows_the_figures_of_the_committed_files():
    page = (ROOT / "docs/benchmarks.md").read_text()
    body = "\n\n".join(table(read_document(path)) for path in FIGURES)
    assert FIGURES and between_marks(page, BEGIN, body) == page
