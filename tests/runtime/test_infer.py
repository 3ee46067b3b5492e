import json

import cv2
import numpy as np
import pytest

from runtime import cli, infer
from runtime.errors import OutputError
from runtime.labels import CAMVID, CITYSCAPES, IN_CITYSCAPES, Label, cityscapes_colors, palette
from runtime.media.frames import read_frame
from runtime.media.outputs import Look
from tests.helpers import fake_backend
from tests.helpers.fake_backend import PICTURE, STAGES_MS, files_below, write_fake_engine
from tests.helpers.pictures import gradient


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


def test_one_picture_gives_ids_colours_and_overlay_of_its_own_size(here, capsys):
    assert infer.main(["a.png", "-o", "out", "--alpha", "0.25"]) == cli.DONE
    assert files_below(here / "out") == ["a_png_color.png", "a_png_ids.png", "a_png_overlay.png"]
    mask = cv2.imread("out/a_png_ids.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, fake_backend.expected_mask(gradient()))
    colors = palette(CAMVID)[mask]
    np.testing.assert_array_equal(read_frame("out/a_png_color.png"), colors)
    # Halves round either way.
    assert np.abs(read_frame("out/a_png_overlay.png") - (gradient() * 0.75 + colors * 0.25)).max() <= 0.5
    assert fake_backend.opened[0].closed


def test_one_picture_prints_its_files_stages_and_shares(here, capsys):
    infer.main(["a.png"])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:3] == [f"artifacts/masks/a_png_{kind}.png" for kind in ("ids", "color", "overlay")]
    rows = {line[:12].strip(): line[12:].strip() for line in printed.out.splitlines()}
    assert [name for name in rows if name in infer.STAGES] == list(infer.STAGES)
    assert rows["network"] == "2.0" and float(rows["total"]) > float(rows["encode"])
    shares = [float(line.split()[-1][:-1]) for line in printed.out.splitlines() if line.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(CAMVID)) and shares == sorted(shares, reverse=True)
    chosen, line = printed.err.splitlines()
    assert f"{chosen}\n" == fake_backend.CHOSEN
    assert line == (
        "artifacts/masks/a_png_ids.png holds class ids 0..10, which look black in a viewer: for the colours open "
        "artifacts/masks/a_png_overlay.png"
    )


def test_without_stages_from_the_backend_the_table_has_segment(here, capsys):
    write_fake_engine(here / "engines", tells_stages=False)
    infer.main(["a.png", "--engine", "engines/icnet-fp16.engine"])
    out = capsys.readouterr().out
    assert "segment" in out and "network" not in out


def test_json_is_one_document_with_everything(here, capsys):
    (here / "b.png").write_bytes(b"not an image")
    assert infer.main(["a.png", "b.png", "--json", "--save", "color,ids"]) == cli.FAILED
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == "artifacts/engines/icnet-fp16.engine" and document["model"] == "icnet"
    (file,) = document["files"]
    outputs = {"ids": "artifacts/masks/a_png_ids.png", "color": "artifacts/masks/a_png_color.png"}
    assert (file["input"], file["outputs"], file["height"], file["width"]) == ("a.png", outputs, 40, 64)
    assert set(file["milliseconds"]) == {"decode", "segment", *STAGES_MS, "encode"}
    assert list(file["shares"]) == [label.name for label in CAMVID] and sum(file["shares"].values()) == pytest.approx(1)
    (error,) = document["errors"]
    assert error["input"] == "b.png" and "not an image" in error["error"]


def test_stage_table_is_the_mean_over_the_frames():
    frames = [dict.fromkeys((*infer.STAGES, "segment"), ms) for ms in (1.0, 3.0)]
    rows = infer.stage_table(frames).splitlines()
    assert rows[1].split() == ["decode", "2.0"] and rows[-1].split() == ["total", "6.0"]


def test_several_pictures_print_files_only_unless_stages_are_asked(here, capsys):
    (here / "b.png").write_bytes(PICTURE)
    infer.main(["a.png", "b.png", "--save", "ids"])
    assert capsys.readouterr().out.split() == ["artifacts/masks/a_png_ids.png", "artifacts/masks/b_png_ids.png"]
    infer.main(["a.png", "b.png", "--save", "ids", "--stages"])
    out = capsys.readouterr().out
    assert "postprocess" in out and "class" not in out
    busy = out.splitlines()[-1]
    assert [part.split()[-2] for part in busy.split(";")[0].split(",")] == list(infer.WHOLE)
    assert "2 frames in" in busy and busy.endswith("a second")


def test_warmup_runs_on_the_first_good_frame_only(here):
    (here / "b.png").write_bytes(PICTURE)
    infer.main(["missing.png", "a.png", "b.png", "--warmup", "3"])
    assert fake_backend.opened[0].segmented == 3 + 1 + 1


def test_warmup_is_not_timed(here, capsys):
    delay_s, warmup = 0.05, 10
    write_fake_engine(here / "artifacts" / "engines", delay_s=delay_s)
    infer.main(["a.png", "--warmup", str(warmup), "--json"])
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert delay_s * 1e3 <= sum(file["milliseconds"][stage] for stage in infer.WHOLE) < warmup * delay_s * 1e3


def test_warmup_writes_its_masks_once_and_keeps_none(here, monkeypatch):
    written = []
    write = Look.write_pictures
    monkeypatch.setattr(Look, "write_pictures", lambda *given: written.append(given[1]) or write(*given))
    infer.main(["a.png", "--warmup", "2", "--save", "color,overlay"])
    assert [list(outputs) for outputs in written] == [["color", "overlay"]] * 2
    assert not written[0]["color"].exists() and written[1]["color"].exists()


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ("color,overlay", None),
        ("ids", "for colours give --save ids,color,overlay"),
        ("ids,color", "open out/a_png_color.png"),
    ],
)
def test_ids_that_look_black_are_explained_once_a_run_where_they_are_written(here, capsys, saved, says):
    (here / "b.png").write_bytes(PICTURE)
    infer.main(["a.png", "b.png", "-o", "out", "--save", saved])
    engine, *lines = capsys.readouterr().err.splitlines()
    assert engine.startswith("engine ") and len(lines) == (0 if says is None else 1)
    assert says is None or lines[0].endswith(says)


def test_colours_of_cityscapes_for_the_classes_that_it_has(here):
    infer.main(["a.png", "-o", "out", "--colors", "cityscapes"])
    mask = cv2.imread("out/a_png_ids.png", cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read_frame("out/a_png_color.png"), palette(cityscapes_colors(CAMVID))[mask])
    named = dict(cityscapes_colors((*CAMVID, Label("rail", (1, 2, 3)))))
    assert named["pedestrian"] == (220, 20, 60) and named["rail"] == (1, 2, 3)
    assert cityscapes_colors(CITYSCAPES) == CITYSCAPES
    assert {label.name for label in CITYSCAPES} >= {IN_CITYSCAPES.get(label.name, label.name) for label in CAMVID}


def test_a_folder_keeps_its_structure_and_a_second_run_gives_the_same(here):
    (here / "in" / "sub").mkdir(parents=True)
    for name in ("x.png", "x.jpg", "sub/x.png"):
        (here / "in" / name).write_bytes(PICTURE)
    for _ in range(2):
        assert infer.main(["in", "-o", "in/out", "--save", "ids"]) == cli.DONE
        assert files_below(here / "in" / "out" / "in") == ["sub/x_png_ids.png", "x_jpg_ids.png", "x_png_ids.png"]


def test_the_newest_engine_is_the_default(here, capsys):
    write_fake_engine(here / "artifacts" / "engines", name="enet-fp16", created="2026-02-02")
    infer.main(["a.png", "--json"])
    assert json.loads(capsys.readouterr().out)["engine"].endswith("enet-fp16.engine")


def test_nothing_runs_when_an_output_would_overwrite_an_input(here):
    (here / "a_png_overlay.png").write_bytes(PICTURE)
    with pytest.raises(OutputError, match=r"a_png_overlay\.png would overwrite an input"):
        infer.main([".", "-o", "."])
    assert fake_backend.opened == [] and (here / "a_png_overlay.png").read_bytes() == PICTURE
    assert not (here / "a_png_ids.png").exists()


def test_help_tells_defaults_and_units(capsys):
    with pytest.raises(SystemExit) as caught:
        infer.main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and "(default: artifacts/masks)" in printed and "ms" in printed


def test_an_overlay_is_a_jpeg_where_asked_and_ids_and_colours_stay_png(here):
    infer.main(["a.png", "-o", "out", "--overlay-format", "jpeg", "--quality", "100"])
    names = sorted(path.name for path in (here / "out").iterdir() if path.name != "run.json")
    assert names == ["a_png_color.png", "a_png_ids.png", "a_png_overlay.jpg"]
    infer.main(["a.png", "-o", "out", "--save", "overlay"])
    lossless = cv2.imread(str(here / "out/a_png_overlay.png")).astype(int)
    assert np.abs(cv2.imread(str(here / "out/a_png_overlay.jpg")) - lossless).mean() < 2


def test_a_lower_quality_is_a_smaller_file_and_the_default_is_90(here):
    sizes = []
    for more in (["--quality", "20"], ["--quality", "90"], [], ["--quality", "100"]):
        infer.main(["a.png", "-o", "out", "--save", "overlay", "--overlay-format", "jpeg", *more])
        sizes.append((here / "out/a_png_overlay.jpg").stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2] < sizes[3]


def test_resume_keeps_a_jpeg_of_its_quality_alone(here, capsys):
    asked = ["a.png", "-o", "out", "--resume", "--jsonl", "--overlay-format", "jpeg"]
    kept = []
    for more in ([], ["--quality", "90"], ["--quality", "80"], ["--save", "overlay", "--quality", "80"]):
        capsys.readouterr()
        infer.main([*asked, *more])
        kept.append("kept" in json.loads(capsys.readouterr().out))
    assert kept == [False, True, False, True]


def test_an_overlay_as_jpeg_never_replaces_an_input(here):
    (here / "a_png_overlay.jpg").write_bytes(PICTURE)
    with pytest.raises(OutputError, match="would overwrite an input"):
        infer.main(["a.png", "a_png_overlay.jpg", "-o", ".", "--overlay-format", "jpeg"])
    assert (here / "a_png_overlay.jpg").read_bytes() == PICTURE


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--overlay-format", "jpeg", "--quality", "0"], "'0' is not a quality of JPEG, 1 to 100"),
        (["--overlay-format", "jpeg", "--quality", "101"], "'101' is not a quality of JPEG, 1 to 100"),
        (["--overlay-format", "jpeg", "--quality", "９"], "'９' is not a quality of JPEG, 1 to 100"),
        (["--overlay-format", "bmp"], "invalid choice: 'bmp'"),
        (["--quality", "90"], "--quality is that of --overlay-format jpeg"),
    ],
)
def test_an_odd_format_or_quality_is_usage(here, capsys, asked, says):
    with pytest.raises(SystemExit) as exit_code:
        infer.main(["a.png", *asked])
    assert exit_code.value.code == cli.USAGE and says in capsys.readouterr().err
