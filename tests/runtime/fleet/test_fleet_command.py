"""Items without Ray: planned, done in shares, joined; redone only where something changed."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from runtime import cli
from runtime.artifacts import sha256_of
from runtime.backend import open_backend
from runtime.errors import EngineError, FrameError, OutputError
from runtime.fleet import command, main
from runtime.fleet.options import options_of
from runtime.fleet.rows import bytes_from_rows
from runtime.media.frames import read_frame
from runtime.media.marks import marked_png
from runtime.media.png import png_from_pixels
from runtime.media.video import VideoReader
from runtime.proof import expected_path
from tests.helpers.engines import built_engine, changed
from tests.helpers.fleet import FRAMES, PICTURES, do, fill, masks, plan, results, told
from tests.helpers.fleet_runs import rows_there, running
from tests.helpers.graphs import tiny_graph
from tests.helpers.videos import damage, moving, read_video, write_video


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "in")
    return tmp_path


def done_by(capsys) -> int:
    return int(capsys.readouterr().out.splitlines()[-1].split()[0])


@pytest.fixture
def done(here, engine, capsys):
    """All of it done and joined once."""
    plan()
    assert do(engine) == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    capsys.readouterr()
    return here


def test_masks_are_those_of_segment_over_the_whole_files(done, engine):
    rows = results(done / "out")
    assert len(rows) > PICTURES + 2
    with open_backend(engine) as segmenter:
        frame = read_frame(done / "in" / "1.png")
        (of_picture,) = (row for row in rows if row.input == "in/1.png")
        stored = read_frame(done / "out" / of_picture.outputs[0].path)[..., 0]
        mask = segmenter.segment(frame)
        assert np.array_equal(stored, mask)
        repeatable = marked_png(png_from_pixels(mask, repeatable=True), of_picture.key)
        assert (done / "out" / of_picture.outputs[0].path).read_bytes() == repeatable
        with VideoReader(done / "in" / "0.mp4") as reader:
            whole = [segmenter.segment(frame.pixels).copy() for frame in reader]
    parts = [row for row in rows if row.is_video]
    found = [mask for row in parts for mask in read_video(done / "out" / row.outputs[0].path, "gray")[0]]
    assert len(whole) == FRAMES and np.array_equal(np.array(found), np.array(whole))
    assert [row.frames for row in parts] == [
        len(read_video(done / "out" / r.outputs[0].path, "gray")[0]) for r in parts
    ]


def test_a_row_tells_what_was_done(done, engine):
    for row in results(done / "out"):
        (output,) = row.outputs
        assert output.bytes == (done / "out" / output.path).stat().st_size and output.kind == "ids"
        assert row.error == "" and row.frames and row.seconds > 0 and row.engine == engine.stem
        assert sum(row.shares.values()) == pytest.approx(1) and {"decode", "segment", "encode"} <= set(row.milliseconds)
    told = json.loads((done / "out" / "summary.json").read_text())
    assert told["frames"] == PICTURES + FRAMES and told["video_hours"] == pytest.approx(FRAMES / 25 / 3600, abs=1e-6)
    assert "machine seconds an hour of video" in (done / "out" / "summary.html").read_text()


def test_shares_in_any_order_give_the_same_rows_and_bytes(done, engine):
    plan(out="shares")
    for item in ("3/3", "1/3", "2/3"):
        assert do(engine, item, out="shares") == cli.DONE
    assert main(["merge", "-o", "shares"]) == cli.DONE
    assert told(results(done / "shares")) == told(results(done / "out"))
    assert masks(done / "shares") == masks(done / "out")


def test_what_is_done_is_not_done_again_and_opens_no_engine(done, engine, monkeypatch, capsys):
    before = (done / "out" / "results.parquet").read_bytes()
    monkeypatch.setattr(command, "Worker", None)
    assert do(engine) == cli.DONE and done_by(capsys) == 0
    assert main(["in", "-o", "out", "--part-seconds", "0.5", "--engine", str(engine)]) == cli.DONE  # without Ray
    assert (done / "out" / "results.parquet").read_bytes() == before


CHANGES = {
    "a mask is gone": (lambda here: (here / "out/masks/in/1_png_ids.png").unlink(), 1),
    "a mask is cut": (lambda here: os.truncate(here / "out/masks/in/1_png_ids.png", 20), 1),
    "an input is another": (lambda here: shutil.copy(here / "in/2.png", here / "in/1.png"), 1),
    "an input was copied anew": (lambda here: os.utime(here / "in/1.png", (1, 1)), 0),
    "one came to it": (lambda here: shutil.copy(here / "in/2.png", here / "in/9.png"), 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_done_and_nothing_else(done, engine, change, capsys):
    how, count = CHANGES[change]
    how(done)
    plan()
    assert do(engine) == cli.DONE and done_by(capsys) == count
    assert main(["merge", "-o", "out"]) == cli.DONE
    rows = results(done / "out")
    assert len({row.id for row in rows}) == len({(row.place, row.first) for row in rows}) == len(rows)


def test_another_engine_does_all_of_it_again(done, tmp_path_factory, capsys):
    other = built_engine(tmp_path_factory.mktemp("other"), seed=1)
    before = masks(done / "out")
    assert do(other, "1/2") == cli.DONE and 0 < done_by(capsys) < len(before)
    assert main(["merge", "-o", "out"]) == cli.DONE
    assert "rows are of 2 engines" in capsys.readouterr().err
    assert do(other) == cli.DONE and 0 < done_by(capsys) < len(before)
    assert main(["merge", "-o", "out"]) == cli.DONE
    assert "engines" not in capsys.readouterr().err
    assert masks(done / "out").keys() == before.keys() and masks(done / "out") != before


def test_masks_of_parts_that_are_cut_elsewhere_do_not_stay(done, engine):
    assert main(["plan", "in", "-o", "out", "--part-seconds", "0"]) == cli.DONE
    assert do(engine) == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    assert [name for name in masks(done / "out") if "mkv" in name] == ["masks/in/0_mp4_ids.mkv"]
    assert [row.frames for row in results(done / "out") if row.is_video] == [FRAMES]


def test_a_bad_file_is_a_row_with_its_error_and_the_rest_is_done(here, engine, capsys):
    (here / "in" / "bad.png").write_bytes(b"no picture" * 10)
    plan()
    capsys.readouterr()
    assert do(engine) == cli.FAILED
    assert "bad.png: not an image" in capsys.readouterr().err
    for _ in range(2):  # joined again it is still told
        assert main(["merge", "-o", "out"]) == cli.FAILED
        rows = results(here / "out")
        assert ["not an image" in row.error for row in rows if row.error] == [True]
        assert len(masks(here / "out")) == len(rows) - 1
    capsys.readouterr()
    assert do(engine) == cli.DONE and done_by(capsys) == 0
    assert do(engine, "1/1", "--retry-errors") == cli.FAILED


@pytest.mark.slow
def test_a_share_that_is_stopped_finishes_what_is_on_its_way_and_goes_on_from_there(tmp_path, engine):
    fill(tmp_path / "in", pictures=80, films=0, size=(600, 800))
    with running(tmp_path, "plan", "in", "-o", "out", "--save", "ids,color,overlay") as run:
        run.ended()
    words = ("-o", "out", "--item", "1/1", "--engine", str(engine))
    with running(tmp_path, *words) as run:
        run.until(lambda: rows_there(tmp_path / "out") >= 3)
        run.process.send_signal(signal.SIGINT)
        assert "interrupted" in run.ended([cli.INTERRUPTED])
    done = rows_there(tmp_path / "out")
    assert 3 <= done < 80 and len(masks(tmp_path / "out")) == 3 * done  # each whole, with its row
    with running(tmp_path, *words) as run:
        assert f"80 items, {done} done before" in run.ended()
    assert rows_there(tmp_path / "out") == 80


def test_a_damaged_video_is_read_by_the_rules_of_infer_and_its_row_says_what_was_left_out(here, engine):
    path = here / "in" / "0.mp4"
    write_video(path, moving(120), key_every=12, extra={"bf": "2"})
    damage(path, 0.45, 300)
    plan()
    assert do(engine) == cli.FAILED and main(["merge", "-o", "out"]) == cli.FAILED
    rows = [row for row in results(here / "out") if row.is_video]
    kept, lost = 0, 0
    with VideoReader(path) as reader:
        while True:
            try:
                frame = reader.read()
            except FrameError:
                lost += 1
                continue
            if not isinstance(frame, tuple):
                break
            kept += 1
    assert lost and [sum(row.damaged for row in rows), sum(row.frames for row in rows)] == [lost, kept]
    assert all(("left out" in row.error) == bool(row.damaged) for row in rows) and len(rows) > 3
    assert all(row.outputs for row in rows if row.frames)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("v.ts", {"codec": "mpeg2video", "extra": {"flags": "+ildct+ilme", "top": "1"}}),  # interlaced
        ("v.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("v.h264", {}),  # a raw stream, without times
    ],
)
def test_film_that_cannot_be_read_in_parts_is_one_item(here, engine, name, how):
    (here / "one").mkdir()
    write_video(here / "one" / name, moving(40), key_every=8, **how)
    assert main(["plan", "one", "-o", "out", "--part-seconds", "0.5"]) == cli.DONE
    assert do(engine) == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    assert [(row.frames, row.start) for row in results(here / "out")] == [(40, None)]


def test_what_is_no_file_is_a_row_with_its_error_and_is_not_waited_for(here, engine):
    os.mkfifo(here / "in" / "pipe.png")
    (here / "in" / "folder.png").mkdir()
    plan()
    assert main(["plan", "in", "in/pipe.png", "in/none.png", "-o", "out"]) == cli.DONE
    assert do(engine) == cli.FAILED and main(["merge", "-o", "out"]) == cli.FAILED
    errors = {row.place: row.error for row in results(here / "out") if row.error}
    assert errors.keys() == {"in/pipe.png", "in/none.png"}
    assert "not a regular file" in errors["in/pipe.png"] and "does not exist" in errors["in/none.png"]


def test_a_name_that_is_not_utf_8_is_refused_in_a_line(here):
    (here / "in" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    with pytest.raises(FrameError, match="is not UTF-8"):
        plan()


def test_a_file_that_is_missing_or_changed_since_it_was_listed_is_told(here, engine, capsys):
    plan()
    (here / "in" / "1.png").unlink()
    os.utime(here / "in" / "2.png", (1, 1))
    assert do(engine) == cli.FAILED
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all("is not what was listed" in line for line in errors)


def test_items_without_a_row_are_told_when_rows_are_joined(here, engine, capsys):
    plan()
    do(engine, "1/2")
    assert main(["merge", "-o", "out"]) == cli.FAILED
    assert "have no row yet" in capsys.readouterr().err
    do(engine, "2/2")
    assert main(["merge", "-o", "out"]) == cli.DONE


def test_an_engine_that_computes_something_else_does_no_item(here, tmp_path, capsys):
    wrong = built_engine(tmp_path / "wrong")
    other = built_engine(tmp_path / "other", seed=1)
    shutil.copy(expected_path(other), expected_path(wrong))
    plan()
    with pytest.raises(EngineError, match="does not compute on this machine what its graph says"):
        do(wrong)
    expected_path(wrong).unlink()
    with pytest.raises(EngineError, match="cannot be proven"):
        do(wrong)
    assert masks(here / "out") == {}


def test_of_several_engines_that_of_this_machine_is_taken(here, engine, tmp_path):
    import dataclasses

    foreign = built_engine(tmp_path / "foreign", seed=1)
    target = changed(foreign).target
    changed(foreign, target=dataclasses.replace(target, device="another CPU"))
    plan()
    with pytest.raises(EngineError, match=r"no engine for this machine .*another CPU"):
        do(foreign)
    assert main(["-o", "out", "--item", "1/1", "--engine", str(foreign), str(engine)]) == cli.DONE
    main(["merge", "-o", "out"])
    assert {row.engine for row in results(here / "out")} == {engine.stem}


@pytest.mark.slow
def test_a_machine_without_an_engine_builds_its_own_of_the_graph(here, tmp_path, capsys):
    graph = tmp_path / "tiny.onnx"
    graph.write_bytes(tiny_graph())
    plan()
    capsys.readouterr()
    of_graph = ["-o", "out", "--item", "1/1", "--graph", str(graph), "--precision", "fp32", "--backend", "openvino"]
    assert main(of_graph) == cli.DONE and done_by(capsys) > 0
    assert main(["merge", "-o", "out"]) == cli.DONE
    assert {row.graph_sha256 for row in results(here / "out")} == {sha256_of(graph)}
    capsys.readouterr()
    assert main(of_graph) == cli.DONE and done_by(capsys) == 0  # known by the graph, with no engine built
    graph.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"no engine could be built of tiny\.onnx on this machine"):
        main(of_graph)


def test_what_a_killed_writer_left_is_deleted_when_nobody_writes(done):
    (done / "out" / ".parts").mkdir(exist_ok=True)
    (done / "out" / ".parts" / "0123.part").write_bytes(b"half")
    assert main(["merge", "-o", "out"]) == cli.DONE
    assert list((done / "out").rglob("*.part")) == []


def test_rows_are_not_joined_while_a_share_is_being_done(done):
    from runtime.fleet.stores import Folder

    with command._claimed(Folder(done / "out"), alone=False):
        with command._claimed(Folder(done / "out"), alone=False):
            pass
        with pytest.raises(OutputError, match="another run writes"):
            main(["merge", "-o", "out"])


def test_parts_that_do_not_fit_each_other_are_an_error(here, engine):
    import dataclasses

    plan()
    do(engine)
    rows_folder = here / "out" / "rows"
    from runtime.fleet.rows import rows_from_bytes

    for path in rows_folder.iterdir():
        (row,) = rows_from_bytes(path.read_bytes())
        if row.is_video and row.first:
            path.write_bytes(bytes_from_rows([dataclasses.replace(row, seam_head="another")]))
            break
    assert main(["merge", "-o", "out"]) == cli.FAILED
    (failed,) = (row for row in results(here / "out") if row.error)
    assert failed.first == row.first and "--part-seconds 0" in failed.error


def test_two_pictures_of_the_same_bytes_are_two_items(here, engine):
    shutil.copy(here / "in" / "1.png", here / "in" / "same.png")
    plan()
    do(engine)
    main(["merge", "-o", "out"])
    same = [row for row in results(here / "out") if row.place in ("in/1.png", "in/same.png")]
    assert len(same) == 2 and len({row.key for row in same}) == 1 and len({row.id for row in same}) == 2
    assert masks(here / "out")["masks/in/1_png_ids.png"] == masks(here / "out")["masks/in/same_png_ids.png"]


def test_two_inputs_that_would_write_the_same_are_refused(here, tmp_path):
    fill(here / "sub" / "in", pictures=1, films=0)
    with pytest.raises(OutputError, match="would write the same"):
        main(["plan", str(here / "in" / "0.png"), str(here / "sub" / "in" / "0.png"), "-o", "out"])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["plan"],
        ["plan", "in", "--item", "1/2"],
        ["merge", "--item", "1/2"],
        ["in", "--item", "3/2"],
        ["in", "--part-seconds", "-1"],
        ["in", "--save", "nothing"],
    ],
)
def test_what_contradicts_itself_is_usage(here, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == cli.USAGE


def test_what_is_nearly_a_word_is_an_input_where_it_is_there(here):
    (here / "plans").mkdir()
    assert options_of(["plans"]).inputs == ["plans"] and options_of(["plan", "plans"]).word == "plan"
    assert options_of(["street.png"]).inputs == ["street.png"]  # a row will tell that it is not there


def test_a_run_is_joined_where_it_lies_and_is_no_input(done, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["merge", "out"])
    assert ended.value.code == cli.USAGE and "merge -o out" in capsys.readouterr().err


def test_what_was_never_listed_is_one_line(here):
    with pytest.raises(FrameError, match="holds no plan/items"):
        main(["-o", "out", "--item", "1/1"])
    with pytest.raises(OutputError, match="a store of this kind is not taken"):
        main(["plan", "in", "-o", "sftp://host/x"])
    with pytest.raises(FrameError, match="an address of this kind is not taken"):
        main(["plan", "ftp://host/x", "-o", "out"])


def test_a_table_that_is_none_is_one_line(done):
    (done / "out" / "results.parquet").write_bytes(b"x")
    with pytest.raises(OutputError, match="is not a table of this version"):
        main(["merge", "-o", "out"])


def test_another_save_and_look_are_asked_of_every_share(here, engine):
    plan("--save", "ids,color,overlay", "--alpha", "0.3")
    assert do(engine) == cli.DONE and main(["merge", "-o", "out"]) == cli.DONE
    names = [output.kind for row in results(here / "out") for output in row.outputs]
    assert {names.count(kind) for kind in ("ids", "color", "overlay")} == {len(results(here / "out"))}
