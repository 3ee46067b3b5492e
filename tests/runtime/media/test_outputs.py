from pathlib import Path

import pytest

from runtime.errors import OutputError
from runtime.media.frames import FrameFile, locate_frames
from runtime.media.outputs import plan_outputs, refuse_overwrites


def planned(files: list[FrameFile]) -> list[str]:
    return [str(paths["ids"].relative_to("out")) for paths in plan_outputs(files, Path("out"), ("ids",))]


def given(*paths: str) -> list[FrameFile]:
    return [FrameFile(Path(path), Path(Path(path).name)) for path in paths]


def test_each_kind_gets_its_name():
    assert plan_outputs(given("in/a.png"), Path("out"), ("ids", "color", "overlay")) == [
        {"ids": Path("out/a_ids.png"), "color": Path("out/a_color.png"), "overlay": Path("out/a_overlay.png")}
    ]


def test_the_place_below_a_folder_is_kept():
    files = [FrameFile(Path("in/b/a.png"), Path("b/a.png")), FrameFile(Path("in/a.png"), Path("a.png"))]
    assert planned(files) == ["b/a_ids.png", "a_ids.png"]


def test_one_stem_with_two_extensions_is_told_apart():
    assert planned(given("a.png", "a.jpg", "b.png")) == ["a_png_ids.png", "a_jpg_ids.png", "b_ids.png"]


def test_the_extension_is_tried_before_the_folder():
    assert planned(given("x/a.png", "x/a.jpg", "y/b.png")) == ["a_png_ids.png", "a_jpg_ids.png", "b_ids.png"]


def test_one_name_in_two_folders_is_told_apart():
    assert planned(given("x/a.png", "y/a.png", "y/b.png")) == ["x/a_png_ids.png", "y/a_png_ids.png", "b_ids.png"]


def test_a_file_that_steps_aside_onto_another_moves_that_one_too():
    assert planned(given("a.png", "a.jpg", "a_jpg.png")) == ["a_png_ids.png", "a_jpg_ids.png", "a_jpg_png_ids.png"]


def test_the_names_do_not_depend_on_the_order():
    files = given("x/a.png", "a_jpg.png", "y/a.png", "a.jpg", "a", "c.png", "c")
    names = dict(zip(files, planned(files), strict=True))
    assert len(set(names.values())) == len(files)
    for turned in (files[::-1], files[3:] + files[:3]):
        assert dict(zip(turned, planned(turned), strict=True)) == names


def test_what_cannot_be_told_apart_is_refused():
    twice = [FrameFile(Path("in/a.png"), Path("a.png"))] * 2
    with pytest.raises(OutputError, match=r"in/a\.png and in/a\.png would write the same files"):
        plan_outputs(twice, Path("out"), ("ids",))


def test_an_output_that_is_an_input_is_refused(tmp_path):
    for name in ("a.png", "a_ids.png"):
        (tmp_path / name).touch()
    files = locate_frames([str(tmp_path)])
    with pytest.raises(OutputError, match=r"a_ids\.png would overwrite an input; give another folder with -o"):
        refuse_overwrites(files, plan_outputs(files, tmp_path, ("ids",)))
    refuse_overwrites(files, plan_outputs(files, tmp_path, ("color",)))


def test_an_input_under_another_name_is_still_an_input(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_ids.png").hardlink_to(tmp_path / "in" / "a.png")
    files = locate_frames([str(tmp_path / "in")])
    with pytest.raises(OutputError, match="overwrite"):
        refuse_overwrites(files, plan_outputs(files, tmp_path / "out", ("ids",)))


def test_a_missing_input_is_not_overwritten(tmp_path):
    (tmp_path / "a_ids.png").touch()
    files = locate_frames([str(tmp_path / "a.png")])
    refuse_overwrites(files, plan_outputs(files, tmp_path, ("ids",)))
