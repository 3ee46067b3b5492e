"""Which inputs there are beside and below the outputs, and whatever they are called."""

import os

import pytest

from runtime import cli
from runtime.errors import FrameError, OutputError
from runtime.fleet import main
from runtime.fleet.listing import listed, refuse_wrong
from tests.helpers.fleet import fill, masks, results

fsspec = pytest.importorskip("fsspec", reason="the extra fleet brings it")

# Keys that a path cannot be, or that a path is of another object.
ODD = {
    "../../../escaped.png": "..", "a/b/c/../../../x.png": "..", "a/./b.png": ".", "a//b.png": "an empty one",
    "/0.png": "an empty one", f"{'long' * 70}/0.png": "long", "a\0b/0.png": r"a\x00b",
    "a::file:///x.png": "a::file:",
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    fsspec.filesystem("memory").store.clear()


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def places(given, output):
    return [str(each.place) for each in listed([str(given)], [], output)]


@pytest.mark.parametrize("output", ["s3://bucket/masks", "memory://b/out", "file:///nowhere/out"])
def test_the_current_folder_is_an_input_like_others_where_the_outputs_are_elsewhere(here, monkeypatch, output):
    touch(here / "data/day1/1.png", here / "data/day2/1.png")
    monkeypatch.chdir(here / "data" / "day1")
    assert places(here / "data", output) == ["data/day1/1.png", "data/day2/1.png"]
    assert places(".", output) == ["1.png"]


def test_a_folder_at_file_is_one_like_any_other(here):
    touch(here / "in/1.png", here / "in/out/masks/2.png", here / "in/masks/in/1_png_ids.png")
    assert places("in", f"file://{here}/in/out") == ["in/1.png", "in/masks/in/1_png_ids.png"]
    inputs = listed(["in/1.png", "in/masks/in/1_png_ids.png"], [], f"file://{here}/in")
    with pytest.raises(OutputError, match="would overwrite an input"):
        refuse_wrong(inputs, f"file://{here}/in", ("ids", "color"))


@pytest.mark.parametrize("given", [".", "in", "**/*", "in/**/*.*"])
@pytest.mark.parametrize("output", [".", "in", "out", "in/out", "in/day1"])
def test_masks_are_no_inputs_of_the_next_run_wherever_inputs_and_outputs_lie(here, engine, given, output):
    fill(here / "in", pictures=1)
    before = places(given, output)
    assert len(before) == 2
    assert main(["plan", given, "-o", output, "--save", "ids,overlay"]) == cli.DONE
    assert main(["-o", output, "--item", "1/1", "--engine", str(engine)]) == cli.DONE
    assert len(masks(here / output)) == 4
    assert places(given, output) == before


def test_what_lies_in_the_outputs_masks_alone_is_told_in_a_line(here):
    touch(here / "out/masks/0_mp4_overlay.mp4")
    with pytest.raises(FrameError, match="what is there are the masks of out"):
        listed(["out/masks"], [], "out")
    assert places("out/masks/0_mp4_overlay.mp4", "out") == ["out/masks/0_mp4_overlay.mp4"]  # who names it means it


@pytest.mark.parametrize("given", ["memory://b", "memory://b/day/", "memory://b/day/*"])
@pytest.mark.parametrize("output", ["memory://b", "memory://b/day", "memory://b/out", "memory://b/day/out"])
def test_in_a_store_inputs_in_the_outputs_prefix_are_taken_and_masks_are_not(here, given, output):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/b/day/1.png", b"x")
    memory.pipe_file(f"{output.removeprefix('memory:/')}/masks/day/1_png_ids.png", b"x")
    assert [each.address for each in listed([given], [], output)] == ["memory:///b/day/1.png"]


def test_a_key_that_is_no_path_is_a_row_with_its_error_and_the_rest_is_done(here, engine, capsys):
    memory = fsspec.filesystem("memory")
    fill(here / "in", pictures=2, films=0)
    for key in (*ODD, "0.png", r"a\..\b.png", "a\nb.png", "...", "..png", f"{'n' * 240}.png"):
        memory.pipe_file(f"/b/in/{key}", (here / "in/0.png").read_bytes())
    (here / "run").mkdir()
    os.chdir(here / "run")
    for _ in range(2):  # as it is, and where folders of the outputs are there
        main(["plan", "memory://b/in", "-o", "out"])
        assert main(["-o", "out", "--item", "1/1", "--engine", str(engine), "--retry-errors"]) == cli.FAILED
    assert main(["merge", "-o", "out"]) == cli.FAILED
    rows = results(here / "run" / "out")
    errors = {row.input.removeprefix("memory:///b/in/"): row.error for row in rows if row.error}
    assert errors.keys() == ODD.keys() and len(rows) == len(ODD) + 5
    for key, why in ODD.items():
        assert f"its key has a part that no file or folder is called, {why}" in errors[key]
        assert "\n" not in errors[key]
    written = {path.relative_to(here).parts[0] for path in here.rglob("*") if path.is_file()}
    assert written == {"in", "run"} and {path.name for path in (here / "run").iterdir()} == {"out"}
    assert len(masks(here / "run" / "out")) == 5 and all(row.outputs for row in rows if not row.error)


@pytest.mark.parametrize("names", [("a.png", "a.jpg", "a.jpeg"), ("a.mp4", "a_mp4_ids/a.png"), ("a\nb.png", "a b.png")])
def test_inputs_of_names_that_are_alike_have_masks_of_their_own(here, engine, names, capsys):
    from tests.helpers.pictures import gradient, lossless
    from tests.helpers.videos import moving, write_video

    for number, name in enumerate(names):
        path = here / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".mp4"):
            write_video(path, moving(20), key_every=8)
        else:
            path.write_bytes(lossless(".png", gradient(40, 64 + number)))
    assert main(["plan", "in", "-o", "out"]) == cli.DONE
    assert main(["-o", "out", "--item", "1/1", "--engine", str(engine)]) == cli.DONE
    assert main(["merge", "-o", "out"]) == cli.DONE
    rows = results(here / "out")
    assert {row.input for row in rows} == {f"in/{name}" for name in names}
    assert len({output.path for row in rows for output in row.outputs}) == len(names) == len(masks(here / "out"))


def test_an_address_that_is_not_utf_8_is_refused_in_a_line():
    with pytest.raises(FrameError, match="is not UTF-8"):
        listed([os.fsdecode(b"memory://b/\xff.png")], [], "out")
