import json
import weakref

import cv2
import numpy as np
import pytest

from runtime import cli
from runtime.accuracy import evaluate
from runtime.errors import DatasetError, EngineError, LibraryError, OutputError
from runtime.labels import CAMVID, IGNORED
from runtime.manifest import read_manifest
from tests.helpers import fake_backend
from tests.helpers.fake_backend import expected_mask, files_below, write_fake_engine
from tests.helpers.labelled import write_pair

VOID = len(CAMVID)


def frame_of(mask):
    """A frame that every fake engine segments as this mask."""
    return np.stack([mask, np.zeros_like(mask), np.zeros_like(mask)], axis=-1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two frames of different sizes, one wrong and one void pixel in ten, and an engine that is the newest."""
    fake_backend.working_folder(tmp_path, monkeypatch)
    write_pair(tmp_path / "data", "a", frame_of(np.array([[0, 0, 1], [1, 1, 1]])), np.array([[0, 1, 1], [1, 1, 1]]))
    write_pair(tmp_path / "data", "b", frame_of(np.array([[2, 2], [0, 3]])), np.array([[2, 2], [0, VOID]]))
    return tmp_path


def figures(capsys, *arguments):
    """The JSON document of a run."""
    assert evaluate.main(["--data", "data", "--json", *arguments]) == cli.DONE

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def test_figures_are_those_that_one_counts_by_hand(here, capsys):
    found = figures(capsys)
    (engine,) = found["engines"]
    expected = {"sky": 2 / 3, "building": 4 / 5, "pole": 1.0}
    assert {name: share for name, share in engine["iou"].items() if share is not None} == pytest.approx(expected)
    assert list(engine["iou"]) == [label.name for label in CAMVID]
    assert engine["miou"] == pytest.approx(sum(expected.values()) / 3)
    assert engine["pixel_accuracy"] == pytest.approx(8 / 9)
    assert engine["agreement"] == [1.0] and engine["frames"] == found["frames_in_split"] == 2


def test_what_is_left_above_a_confidence_is_what_one_counts_by_hand(here, capsys):
    plain = figures(capsys)["engines"][0]
    (engine,) = figures(capsys, "--void-below", "0", "1", "--void-below", "2", "255")["engines"]
    assert engine == plain | {"void_below": engine["void_below"]}
    whole, sure, surer, none = engine["void_below"]  # a fake engine's confidence is the id
    assert whole == {"below": 0, "void": 0.0, "miou": plain["miou"], "pixel_accuracy": plain["pixel_accuracy"]}
    assert sure == {"below": 1, "void": pytest.approx(3 / 9), "miou": 1.0, "pixel_accuracy": 1.0}
    assert (surer["void"], surer["pixel_accuracy"]) == (pytest.approx(7 / 9), 1.0)
    assert none == {"below": 255, "void": 1.0, "miou": None, "pixel_accuracy": None}


def test_what_is_left_stands_in_a_table_of_its_own(here, capsys):
    evaluate.main(["--data", "data", "--void-below", "1", "255"])
    table = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split() for line in table] == [
        ["void", "below,", "of", "1", "void", "mIoU", "accuracy"],
        ["1", "33.33%", "100.00%", "100.00%"],
        ["255", "100.00%", "-", "-"],
    ]


def test_the_document_says_what_was_run_on_what(here, capsys):
    found = figures(capsys)
    assert (found["dataset"], found["split"]) == ("camvid", "val")
    told = {key: found["engines"][0][key] for key in ("engine", "precision", "executed", "backend")}
    assert told == {"engine": "icnet-fp16", "precision": "fp16", "executed": {"f16": 1}, "backend": "openvino"}
    assert found["engines"][0]["network_size"] == [64, 128]
    assert all(backend.closed for backend in fake_backend.opened)


def two_engines(here, monkeypatch):
    """The second gives class 3 wherever the first gives class 1."""
    write_fake_engine(here, name="first")
    write_fake_engine(here, name="second")
    real = fake_backend.FakeBackend.segment

    def segment(self, frame):
        mask = real(self, frame)
        return np.where(mask == 1, 3, mask).astype(np.uint8) if self is fake_backend.opened[1] else mask

    monkeypatch.setattr(fake_backend.FakeBackend, "segment", segment)


def test_agreement_is_over_all_pixels_and_with_each_engine(here, capsys, monkeypatch):
    two_engines(here, monkeypatch)
    first, second = figures(capsys, "--engine", "first.engine", "--engine", "second.engine")["engines"]
    assert (first["agreement"], second["agreement"]) == ([1.0, 6 / 10], [6 / 10, 1.0])
    assert first["miou"] > second["miou"] and second["iou"]["building"] == 0


def test_engines_stand_side_by_side_in_one_table(here, capsys, monkeypatch):
    two_engines(here, monkeypatch)
    assert evaluate.main(["--data", "data", "--engine", "first.engine", "second.engine"]) == cli.DONE
    printed = capsys.readouterr()
    rows = {line[:16].strip(): line[16:].split() for line in printed.out.splitlines()}
    assert "camvid val, 2 of 2 frames" in printed.out
    far = "1 of 2 frames are far from the network's shape, such as 2x2, stretched 2.0 times to 64x128"
    assert [line.split(":")[0] for line in printed.err.splitlines()] == ["camvid val, 2 labels", "warning", far]
    assert "  2  second: fp16 on openvino, weighted layers: 1 f16" in printed.out.splitlines()
    assert rows["same mask as 1"] == ["100.00%", "60.00%"] and rows["same mask as 2"] == ["60.00%", "100.00%"]
    assert rows["building"] == ["80.00%", "0.00%"]
    assert rows["tree"] == ["-", "-"] and rows["pixel accuracy"][0] == "88.89%"


def test_limit_takes_the_first_frames_and_says_of_how_many(here, capsys):
    found = figures(capsys, "--limit", "1")
    assert found["frames_in_split"] == 2 and found["engines"][0]["frames"] == 1
    assert found["engines"][0]["pixel_accuracy"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("limit", ["0", "-1", "few"])
def test_a_limit_that_is_no_count_is_a_usage_error(here, capsys, limit):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--data", "data", f"--limit={limit}"])
    assert caught.value.code == cli.USAGE and "is not a count" in capsys.readouterr().err


def test_an_engine_of_other_classes_is_refused_with_both_before_it_is_opened(here):
    (here / "data" / "classes.json").write_text('{"classes": [{"name": "rail", "color": [1, 2, 3]}]}')
    with pytest.raises(EngineError) as caught:
        evaluate.main(["--data", "data", "--dataset", "own"])
    message = str(caught.value)
    assert "icnet-fp16.engine has 11 classes (sky, building, " in message and "data has 1 classes (rail)" in message
    assert "\n" not in message and fake_backend.opened == []


def test_classes_in_other_colours_are_the_same_classes(here, capsys):
    classes = [{"name": label.name, "color": [i, 0, 0]} for i, label in enumerate(CAMVID)]
    (here / "data" / "classes.json").write_text(json.dumps({"classes": classes, "ignored": [VOID]}))
    assert figures(capsys, "--dataset", "own")["engines"][0]["pixel_accuracy"] == pytest.approx(8 / 9)


def test_an_engine_given_twice_is_refused(here):
    engine = "artifacts/engines/icnet-fp16.engine"
    with pytest.raises(EngineError, match="two engines are named icnet-fp16"):
        evaluate.main(["--data", "data", "--engine", engine, engine])


def test_masks_are_saved_as_the_labels_of_the_data_set(here, capsys):
    figures(capsys, "--save-labels", "out")
    assert files_below(here / "out") == ["icnet-fp16/a.png", "icnet-fp16/b.png"]
    mask = cv2.imread("out/icnet-fp16/b.png", cv2.IMREAD_UNCHANGED)
    assert mask.tolist() == [[2, 2], [0, 3]] and mask.dtype == np.uint8


def test_nothing_runs_when_a_saved_mask_would_overwrite_a_frame(here):
    write_fake_engine(here, name="val")
    before = (here / "data/val/a.png").read_bytes()
    with pytest.raises(OutputError, match=r"a\.png would overwrite an input"):
        evaluate.main(["--data", "data", "--engine", "val.engine", "--save-labels", "data"])
    assert fake_backend.opened == [] and (here / "data/val/a.png").read_bytes() == before


def test_a_split_whose_labels_do_not_count_still_gives_masks(here, capsys):
    frame = frame_of(np.array([[1, 2]]))
    write_pair(here / "data", "t", frame, np.full((1, 2), IGNORED), split="test")
    (engine,) = figures(capsys, "--split", "test", "--save-labels", "out")["engines"]
    assert engine["miou"] is None and engine["pixel_accuracy"] is None and engine["agreement"] == [1.0]
    assert files_below(here / "out") == ["icnet-fp16/t.png"]


def test_frames_are_read_one_after_the_other(here, monkeypatch, capsys):
    for name in "cdef":
        write_pair(here / "data", name, frame_of(np.zeros((2, 2))), np.zeros((2, 2)))
    real, frames, alive = evaluate.read_pair, [], []

    def read_pair(pair):
        alive.append(sum(reference() is not None for reference in frames))
        frame, label = real(pair)
        frames.append(weakref.ref(frame))
        return frame, label

    monkeypatch.setattr(evaluate, "read_pair", read_pair)
    assert figures(capsys)["engines"][0]["frames"] == len(alive) == 6
    assert max(alive) <= 1  # the one before, until the next has been read


def test_engines_are_closed_when_a_frame_is_damaged(here):
    (here / "data/val/b.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"b\.png is missing or is not an image"):
        evaluate.main(["--data", "data"])
    assert [backend.closed for backend in fake_backend.opened] == [True]


def test_engines_are_closed_when_another_cannot_be_opened(here, monkeypatch):
    write_fake_engine(here, name="first")
    write_fake_engine(here, name="second")
    backend = read_manifest("second.engine").backend
    targets = iter([fake_backend.TARGET])

    def this_target(name):
        for target in targets:
            return target
        raise LibraryError(f"{backend} is not installed")

    monkeypatch.setattr(fake_backend, "this_target", this_target)
    with pytest.raises(LibraryError):
        evaluate.main(["--data", "data", "--engine", "first.engine", "second.engine"])
    assert [backend.closed for backend in fake_backend.opened] == [True]


def test_a_mask_has_its_label_s_size_whatever_the_network_s(here, capsys):
    frame = np.random.default_rng(0).integers(0, 80, (37, 53, 3), dtype=np.uint8)
    write_pair(here / "data", "odd", frame, expected_mask(frame), split="odd")
    assert figures(capsys, "--split", "odd")["engines"][0]["miou"] == 1.0


@pytest.mark.parametrize(("shape", "size"), [(1.0, (6, 6)), (2.0, (5, 10)), (9 / 16, (6, 3)), (100.0, (1, 10))])
def test_the_middle_of_a_shape_is_cut_from_frame_and_label_alike(shape, size):
    array = np.arange(60).reshape(6, 10)
    part = evaluate.cropped(array, shape)
    assert part.shape == size
    assert abs(part.mean() - array.mean()) <= 5.5  # the middle, to half a pixel each way
    assert evaluate.cropped(np.zeros((6, 10, 3), np.uint8), shape).shape == (*size, 3)


def test_a_shape_that_is_none_is_usage(here, capsys):
    for text in ("9", "0:16", "a:b", ":", "9:16:2"):
        with pytest.raises(SystemExit):
            evaluate.main(["--data", "data", "--shape", text])
        assert "is no W:H, for example 9:16" in capsys.readouterr().err
