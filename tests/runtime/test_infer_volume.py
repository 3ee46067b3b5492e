"""`runtime.infer` for many files: lists, shares of them, runs that go on where one ended, counts."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import cli, infer
from runtime.errors import EngineError, FrameError, OutputError
from runtime.media.claims import pictures_claimed
from tests.helpers import fake_backend
from tests.helpers.fake_backend import PICTURE, files_below, write_fake_engine
from tests.helpers.pictures import gradient
from tests.helpers.videos import moving, write_video


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


@pytest.fixture
def many(here):
    """Six pictures in `in`."""
    (here / "in").mkdir()
    for i in range(6):
        (here / "in" / f"{i}.png").write_bytes(PICTURE)
    return here


def segmented() -> int:
    return sum(backend.segmented for backend in fake_backend.opened)


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_list_names_inputs(many, capsys):
    (many / "list.txt").write_bytes(b"\xef\xbb\xbfin/1.png\r\n\r\nin/3.png\n")
    assert infer.main(["a.png", "--list", "list.txt", "--save", "ids", "-o", "out"]) == cli.DONE
    assert files_below(many / "out") == ["a_png_ids.png", "in/1_png_ids.png", "in/3_png_ids.png"]


@pytest.mark.parametrize("data", [b"in/1.png\0in/3.png\0", b"in/1.png\nin/3.png"])
def test_standard_input_is_a_list(many, monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    infer.main(["--list", "-", "--save", "ids", "-o", "out"])
    assert files_below(many / "out") == ["in/1_png_ids.png", "in/3_png_ids.png"]


def test_a_list_that_cannot_be_read_or_is_empty_is_one_line(here):
    (here / "empty").write_bytes(b"\n\n")
    for name, said in (("none", "cannot be read"), ("empty", "names no file")):
        with pytest.raises(FrameError, match=said):
            infer.main(["--list", name])


def test_shards_together_do_each_input_once_and_into_one_folder(many):
    for number in (1, 2, 3, 4):
        assert infer.main(["in", "--shard", f"{number}/4", "--save", "ids", "-o", "out"]) == cli.DONE
    assert segmented() == 6
    runs = [f"run-{number}-of-4.json" for number in (1, 2, 3, 4)]
    assert files_below(many / "out") == sorted([*(f"in/{i}_png_ids.png" for i in range(6)), *runs])


@pytest.mark.parametrize("given", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_usage(here, given):
    with pytest.raises(SystemExit):
        infer.main(["a.png", "--shard", given])


def test_a_run_goes_on_where_one_ended(many):
    infer.main(["in", "-o", "out"])
    (many / "out" / "in" / "2_png_ids.png").unlink()
    overlay = many / "out" / "in" / "4_png_overlay.png"
    overlay.write_bytes(overlay.read_bytes()[:-20])
    assert infer.main(["in", "-o", "out", "--resume"]) == cli.DONE
    assert segmented() == 6 + 2
    told = json.loads((many / "out" / "run.json").read_text())
    assert (told["done"], told["kept"], told["failed"], told["interrupted"]) == (2, 4, 0, False)


CHANGES = {
    "another engine": lambda here: ["--engine", str(write_fake_engine(here / "other", delay_s=0.0))],
    "another look": lambda here: ["--alpha", "0.3"],
    "another fit": lambda here: ["--fit", "pad"],
    "other colours": lambda here: ["--colors", "cityscapes"],
    "another input": lambda here: os.utime(here / "in" / "0.png", (1, 1)) or [],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_there_from_something_else_is_not_mistaken_for_it(many, change):
    infer.main(["in", "-o", "out"])
    before = segmented()
    infer.main(["in", "-o", "out", "--resume", *CHANGES[change](many)])
    assert segmented() - before == (1 if change == "another input" else 6)


def test_frames_far_from_the_networks_shape_are_told_once_a_run(many, capsys):
    cv2.imwrite(str(many / "in" / "tall.png"), np.zeros((90, 30, 3), np.uint8))
    infer.main(["in", "-o", "out"])
    told = [line for line in capsys.readouterr().err.splitlines() if "far from the network's shape" in line]
    assert len(told) == 1 and " of 7 frames " in told[0] and "such as 90x30, stretched 6.0 times to 64x128" in told[0]


def test_what_has_no_effect_on_the_pixels_is_no_reason_to_do_them_again(many):
    infer.main(["in", "-o", "out"])
    infer.main(["in/", "-o", "out", "--resume", "--sequential", "--lanes", "2", "--save", "ids"])
    assert segmented() == 6


def test_a_video_that_is_whole_is_kept(here):
    write_video(here / "v.mp4", moving(4))
    infer.main(["v.mp4", "-o", "out"])
    infer.main(["v.mp4", "-o", "out", "--resume"])
    assert segmented() == 4
    (here / "out" / "v_mp4_overlay.mp4").write_bytes(b"shorter")
    infer.main(["v.mp4", "-o", "out", "--resume"])
    assert segmented() == 8


def test_a_line_of_json_tells_of_each_input_as_it_is_done(many, capsys):
    (many / "in" / "3.png").write_bytes(b"broken")
    assert infer.main(["in", "-o", "out", "--jsonl", "--save", "ids"]) == cli.FAILED
    told = lines(capsys)
    assert [each["input"] for each in told] == [f"in/{i}.png" for i in range(6)]
    assert "not an image" in told[3]["error"] and told[0]["outputs"] == {"ids": "out/in/0_png_ids.png"}
    infer.main(["in/0.png", "in", "-o", "out", "--jsonl", "--save", "ids", "--resume"])
    assert sum(each.get("kept", False) for each in lines(capsys)) == 5


def test_a_second_run_does_not_take_its_outputs_for_inputs(many):
    for _ in range(2):
        assert infer.main(["in", "-o", "in"]) == cli.DONE
        assert len(files_below(many / "in")) == 6 * 4
    infer.main(["in", "-o", "in/deeper", "--save", "ids"])
    assert files_below(many / "in" / "deeper" / "in") == [f"{i}_png_ids.png" for i in range(6)]
    infer.main(["in/*.png", "-o", "out", "--save", "ids"])
    assert len(files_below(many / "out")) == 6


def test_a_second_run_does_not_take_its_videos_for_inputs(here):
    write_video(here / "in" / "v.mp4", moving(3)) if (here / "in").mkdir() is None else None
    for _ in range(2):
        infer.main(["in", "-o", "in"])
    assert files_below(here / "in") == ["in/v_mp4_overlay.mp4", "v.mp4"]


def test_a_picture_that_is_only_called_like_an_output_is_an_input(here):
    (here / "in").mkdir()
    (here / "in" / "a_ids.png").write_bytes(PICTURE)
    infer.main(["in", "-o", "out", "--save", "ids"])
    assert files_below(here / "out") == ["in/a_ids_png_ids.png"]


def test_run_json_names_engine_classes_and_options(here):
    infer.main(["a.png", "-o", "out", "--alpha", "0.25"])
    told = json.loads((here / "out" / "run.json").read_text())
    assert told["engine"]["model"] == "icnet" and len(told["engine"]["sha256"]) == 64
    assert told["classes"][0].keys() == {"id", "name", "color"} and told["options"]["alpha"] == 0.25
    assert told["done"] == 1 and told["stats"] == {}


def rows(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected_pixels(mask) -> list[int]:
    return np.bincount(mask.ravel(), minlength=11).tolist()


def test_pixels_of_each_class_are_counted_by_input_and_over_all(many, capsys):
    infer.main(["in", "-o", "out", "--stats", "out/stats.csv"])
    found = rows(many / "out" / "stats.csv")
    mask = fake_backend.expected_mask(gradient())
    assert len(found) == 6 * 11 and {row["region"] for row in found} == {""}
    assert [int(row["pixels"]) for row in found[:11]] == expected_pixels(mask)
    assert sum(float(row["share"]) for row in found[:11]) == pytest.approx(1)
    total = json.loads((many / "out" / "run.json").read_text())["stats"]["all"]
    assert [of["pixels"] for of in total.values()] == [6 * n for n in expected_pixels(mask)]
    assert "pixels of all" in capsys.readouterr().out


def test_what_is_kept_is_counted_from_its_ids(many):
    infer.main(["in", "-o", "out", "--stats", "first.csv"])
    infer.main(["in", "-o", "out", "--stats", "second.csv", "--resume"])
    assert segmented() == 6 and sorted(map(str, rows(many / "first.csv"))) == sorted(
        map(str, rows(many / "second.csv"))
    )


def test_regions_are_counted_each_at_the_frames_own_size(here):
    half = {"size": [20, 32], "regions": {"left": [[0, 0], [15.5, 0], [15.5, 20], [0, 20]]}}
    (here / "regions.json").write_text(json.dumps(half))
    infer.main(["a.png", "-o", "out", "--stats", "s.csv", "--regions", "regions.json"])
    left = [int(row["pixels"]) for row in rows(here / "s.csv") if row["region"] == "left"]
    assert left == expected_pixels(fake_backend.expected_mask(gradient())[:, :32])


def test_frames_of_a_video_are_counted_together(here):
    write_video(here / "v.mp4", moving(4))
    infer.main(["v.mp4", "-o", "out", "--save", "ids", "--stats", "s.csv"])
    size = cv2.VideoCapture("v.mp4").get(cv2.CAP_PROP_FRAME_WIDTH) * cv2.VideoCapture("v.mp4").get(4)
    assert sum(int(row["pixels"]) for row in rows(here / "s.csv")) == 4 * size


def test_counts_are_written_as_parquet_too(here):
    parquet = pytest.importorskip("pyarrow.parquet")
    infer.main(["a.png", "-o", "out", "--stats", "s.csv"])
    infer.main(["a.png", "-o", "out", "--stats", "s.parquet"])
    table = parquet.read_table("s.parquet").to_pydict()
    assert table["pixels"] == [int(row["pixels"]) for row in rows(here / "s.csv")] and set(table["input"]) == {"a.png"}


@pytest.mark.parametrize(
    "text", ["[]", '{"size": [4, 4], "regions": {}}', '{"size": [4, 4], "regions": {"a": [[1, 2]]}}']
)
def test_regions_of_another_form_are_one_line(here, text):
    (here / "r.json").write_text(text)
    with pytest.raises(FrameError, match=r"r\.json: .*expected"):
        infer.main(["a.png", "--stats", "s.csv", "--regions", "r.json"])


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (["0"], FrameError, "the camera of that number is camera:0"),
        (["https://example.org/bus.jpg?size=2"], FrameError, "download it first"),
        (["a.png", "--engine", "enet.onnx"], EngineError, "is a graph, not an engine"),
    ],
)
def test_a_mistake_is_told_with_what_was_probably_meant(here, given, kind, said):
    (here / "enet.onnx").write_bytes(b"")
    with pytest.raises(kind, match=said):
        infer.main(given)


def test_options_that_contradict_each_other_are_usage(here):
    for given in (["a.png", "--json", "--jsonl"], ["a.png", "--regions", "r.json"], []):
        with pytest.raises(SystemExit):
            infer.main(given)


def test_pictures_that_another_run_writes_into_the_same_folder_are_refused_before_any_is_done(many):
    (many / "out").mkdir()
    with pictures_claimed(many / "out", [Path("a.png")], ["ids"]), pytest.raises(OutputError, match=r"masks of a\.png"):
        infer.main(["a.png", "-o", "out"])
    assert list((many / "out").iterdir()) == [] and segmented() == 0
    assert infer.main(["a.png", "-o", "out"]) == cli.DONE
