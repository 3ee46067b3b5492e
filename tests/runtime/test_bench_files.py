"""File to file: every input in every way, and README's table of what the files say."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import bench_files, cli
from runtime.bench_files import BEGIN, Way, main, pass_through, read_document, table, write_inputs
from runtime.bench_report import END, between_marks
from runtime.errors import FrameError, PipelineError
from runtime.lanes import open_lanes
from runtime.pipeline import overlapped
from tests.helpers.engines import built_engine
from tests.helpers.videos import moving, read_video

ROOT = Path(__file__).parents[2]
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
        assert list(ways) == ["sequential", "overlapped, 1 lane", "overlapped, 2 lanes"]
        for way in ways.values():
            assert len(way["frames_per_s"]) == 2 and min(way["frames_per_s"]) > 0
            assert list(way["stages_ms"]) == ["decode", "segment", "encode"]
            assert all(len(samples) == 2 and min(samples) > 0 for samples in way["stages_ms"].values())
        for i, rate in enumerate(ways["sequential"]["frames_per_s"]):  # which nothing overlaps
            assert sum(samples[i] for samples in ways["sequential"]["stages_ms"].values()) < 1e3 / rate
    assert found["frames"] == 3 and "-m runtime.bench_files --engine" in found["fingerprint"]["command"]


def test_the_table_gives_medians_and_what_overlapping_brings(document):
    found = read_document(document)
    ways = found["inputs"]["JPEG"]
    ways["sequential"] = {
        "frames_per_s": [10, 20, 30],
        "stages_ms": {"decode": [1, 2, 9], "segment": [3], "encode": [4]},
    }
    ways["overlapped, 1 lane"]["frames_per_s"] = [15, 30, 90]
    ways["overlapped, 2 lanes"]["frames_per_s"] = [20, 10, 60]
    rows = table(found).splitlines()
    assert "| 3 frames, JPEG | 2 | 3 | 4 | 20.0 fps | 30.0 fps, 1.50x | 20.0 fps, 2.00x |" in rows
    assert "icnet fp32 on openvino" in rows[-1] and "frames of 64x128; medians of 2 rounds" in rows[-1]


def test_a_frame_that_is_damaged_ends_the_measurement(tmp_path):
    engine, bad = built_engine(tmp_path), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with open_lanes(engine, 1) as lanes, pytest.raises(FrameError, match=r"bad\.png"):
        pass_through([bad], tmp_path / "out", Way(overlapped, lanes))


def test_the_table_is_written_between_its_marks(document, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(document), "--readme", str(readme)]) == cli.DONE
    assert readme.read_text() == f"before\n{BEGIN}\n{table(read_document(document))}\n{END}\nafter\n"
    assert capsys.readouterr().out == ""
    for alone in ([str(document)], ["--readme", str(readme)]):
        with pytest.raises(SystemExit):
            main(alone)
        assert "go together" in capsys.readouterr().err


def test_what_is_no_document_is_refused(tmp_path):
    for text in (
        "",
        "[]",
        "{}",
        json.dumps({"version": 1, "inputs": {}}),
        json.dumps({"version": 0, "inputs": {"a": 1}}),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(PipelineError, match=r"no document of runtime\.bench_files"):
            read_document(tmp_path / "x.json")
    with pytest.raises(PipelineError, match="FileNotFoundError"):
        read_document(tmp_path / "none.json")


def test_readme_shows_the_figures_of_the_committed_files():
    readme = (ROOT / "README.md").read_text()
    body = "\n\n".join(table(read_document(path)) for path in FIGURES)
    assert FIGURES and between_marks(readme, BEGIN, body) == readme
