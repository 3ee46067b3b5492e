"""`runtime.infer --confidence --void-below`: what is written, counted, shown and refused."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest

from runtime import cli, infer
from runtime.errors import EngineError
from runtime.labels import CAMVID, IGNORED, VOID, palette
from runtime.manifest import read_manifest, write_engine
from runtime.media.frames import read_frame
from tests.helpers import fake_backend
from tests.helpers.fake_backend import expected_confidence, expected_mask, files_below
from tests.helpers.pictures import gradient
from tests.helpers.videos import read_video, write_video

BELOW = 100


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


def written(name):
    return cv2.imread(f"out/{name}.png", cv2.IMREAD_UNCHANGED)


def test_a_confidence_is_a_grey_picture_beside_the_ids(here):
    assert infer.main(["a.png", "-o", "out", "--confidence"]) == cli.DONE
    assert files_below(here / "out") == [f"a_png_{kind}.png" for kind in ("color", "confidence", "ids", "overlay")]
    np.testing.assert_array_equal(written("a_png_confidence"), expected_confidence(gradient()))
    np.testing.assert_array_equal(written("a_png_ids"), expected_mask(gradient()))


def test_it_is_asked_for_by_these_options_alone(here, monkeypatch):
    asked = []
    monkeypatch.setattr(fake_backend.FakeBackend, "confidence", lambda *given: asked.append(given))
    assert infer.main(["a.png", "--void-below", "0"]) == cli.DONE
    assert not asked


@pytest.mark.parametrize("how", [[], ["--sequential"], ["--warmup", "1"]])
def test_what_is_below_is_of_no_class_in_every_output(here, how, capsys):
    arguments = ["a.png", "-o", "out", "--void-below", str(BELOW), "--json", "--stats", "out/stats.csv", *how]
    assert infer.main(arguments) == cli.DONE
    frame, void = gradient(), expected_confidence(gradient()) < BELOW
    assert 0.1 < void.mean() < 0.9
    expected = np.where(void, IGNORED, expected_mask(frame))
    np.testing.assert_array_equal(written("a_png_ids"), expected)
    colors, overlay = read_frame("out/a_png_color.png"), read_frame("out/a_png_overlay.png")
    np.testing.assert_array_equal(colors, palette(CAMVID)[expected])
    np.testing.assert_array_equal(overlay[void], frame[void])
    assert not np.array_equal(overlay[~void], frame[~void])
    (told,) = json.loads(capsys.readouterr().out)["files"]
    assert told["shares"][VOID] == pytest.approx(void.mean())
    assert sum(told["shares"].values()) == pytest.approx(1)
    rows = list(csv.DictReader((here / "out/stats.csv").open()))
    assert [row["class"] for row in rows] == [*(label.name for label in CAMVID), VOID]
    assert int(rows[-1]["pixels"]) == void.sum() and float(rows[-1]["share"]) == pytest.approx(void.mean())


def test_without_a_threshold_nothing_is_called_void(here, capsys):
    infer.main(["a.png", "--confidence", "--json", "--stats", "stats.csv"])
    assert VOID not in capsys.readouterr().out + (here / "stats.csv").read_text()


def test_of_a_video_it_is_a_film_without_loss(here):
    frames = [np.roll(gradient(), 8 * i, 1) for i in range(3)]
    write_video(here / "film.mp4", frames)
    assert (
        infer.main(["film.mp4", "-o", "out", "--save", "ids", "--confidence", "--void-below", str(BELOW)]) == cli.DONE
    )
    assert files_below(here / "out") == ["film_mp4_confidence.mkv", "film_mp4_ids.mkv"]
    ids, found = (read_video(here / f"out/film_mp4_{kind}.mkv", "gray")[0] for kind in ("ids", "confidence"))
    assert len(ids) == len(found) == 3
    for mask, confidence in zip(ids, found, strict=True):
        assert ((mask == IGNORED) == (confidence < BELOW)).all()


def test_a_run_that_goes_on_makes_what_is_missing_and_what_has_another_threshold(here, capsys):
    def kept(*more):
        capsys.readouterr()
        infer.main(["a.png", "-o", "out", "--resume", "--jsonl", *more])
        return json.loads(capsys.readouterr().out).get("kept", False)

    assert [kept(), kept(), kept("--confidence"), kept("--confidence"), kept()] == [False, True, False, True, True]
    assert [kept("--void-below", "9"), kept("--void-below", "9"), kept("--void-below", "8")] == [False, True, False]


def test_a_network_of_ids_is_refused_before_anything_is_read(here):
    engine = here / "artifacts/engines/icnet-fp16.engine"
    made = read_manifest(engine)
    made = dataclasses.replace(made, spec=dataclasses.replace(made.spec, upsample="nearest"))
    write_engine(engine, engine.read_bytes(), made)
    for option in (["--confidence"], ["--void-below", "9"]):
        with pytest.raises(EngineError, match="icnet has no confidence: its graph gives class ids and no logits"):
            infer.main(["missing.png", "a.png", "-o", "out", *option])
    assert files_below(here / "out") == []
    assert infer.main(["a.png"]) == cli.DONE


@pytest.mark.parametrize("below", ["256", "-1", "x", "1.5"])
def test_what_is_no_confidence_is_usage(here, below, capsys):
    with pytest.raises(SystemExit) as end:
        infer.main(["a.png", f"--void-below={below}"])
    assert end.value.code == cli.USAGE and "is not a confidence, 0 to 255" in capsys.readouterr().err
