import os
from pathlib import Path

import pytest

from runtime.errors import OutputError
from runtime.media.frames import FrameFile, locate_frames
from runtime.media.outputs import outputs_of, plan_outputs, prepare_folder, refuse_overwrites


def planned(files: list[FrameFile]) -> list[str]:
    return [str(paths["ids"].relative_to("out")) for paths in plan_outputs(files, Path("out"), ("ids",))]


def given(*paths: str) -> list[FrameFile]:
    return locate_frames(paths)


def test_each_kind_gets_its_name():
    assert plan_outputs(given("/in/a.png"), Path("out"), ("ids", "color", "overlay")) == [
        {
            "ids": Path("out/a_png_ids.png"),
            "color": Path("out/a_png_color.png"),
            "overlay": Path("out/a_png_overlay.png"),
        }
    ]


def test_a_video_has_an_overlay_and_a_picture_everything():
    assert outputs_of(FrameFile(Path("a.mp4"), Path("a.mp4")), Path("out")) == {
        "overlay": Path("out/a_mp4_overlay.mp4")
    }
    assert len(outputs_of(FrameFile(Path("a.png"), Path("a.png")), Path("out"))) == 3


def test_the_place_below_a_folder_is_kept():
    files = [FrameFile(Path("in/b/a.png"), Path("b/a.png")), FrameFile(Path("in/a.png"), Path("a.png"))]
    assert planned(files) == ["b/a_png_ids.png", "a_png_ids.png"]


def test_a_path_as_it_was_typed_keeps_its_folders():
    assert planned(given("x/a.png", "y/a.png", "./b.png", "../z/c.png", "x/../d.png")) == [
        "x/a_png_ids.png",
        "y/a_png_ids.png",
        "b_png_ids.png",
        "z/c_png_ids.png",
        "d_png_ids.png",
    ]


def test_a_file_has_one_name_by_itself_through_its_folder_and_through_a_glob(tmp_path, monkeypatch):
    for name in ("camA/1.png", "camA/deep/2.png", "camB/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    names = ["camA/1_png_ids.png", "camB/1_png_ids.png", "camA/deep/2_png_ids.png"]
    for given in (
        ["camA", "camB"],
        ["cam?/*.png", "camA/deep/2.png"],
        ["."],
        ["../" + tmp_path.name + "/camA", "camB"],
    ):
        found = {name.removeprefix(f"{tmp_path.name}/") for name in planned(locate_frames(given))}
        assert found == set(names), given
    assert planned(locate_frames([str(tmp_path / "camA")])) == ["camA/1_png_ids.png", "camA/deep/2_png_ids.png"]


def test_a_name_does_not_depend_on_what_else_is_given():
    files = given("x/a.png", "a_jpg.png", "y/a.png", "a.jpg", "a", "c.png", "c", "y/a.mp4")
    together = planned(files)
    assert together == [planned([file])[0] for file in files] and len(set(together)) == len(files)


def test_two_files_that_write_to_one_place_are_refused():
    with pytest.raises(OutputError, match=r"/x/a\.png and /y/a\.png would write the same files; name the folder that"):
        plan_outputs(given("/x/a.png", "/y/a.png"), Path("out"), ("ids",))
    with pytest.raises(OutputError, match="would write the same files"):
        plan_outputs(given("a_png", "a.png"), Path("out"), ("ids",))


@pytest.mark.parametrize("letter", ["x", "ß", "日"])
def test_a_name_as_long_as_a_disk_takes_gives_outputs_that_it_takes(tmp_path, letter):
    longest = letter * (250 // len(letter.encode()))
    names = {
        planned([FrameFile(Path(f"{stem}.jpg"), Path(f"{stem}.jpg"))])[0] for stem in (longest, longest[:-1] + "y")
    }
    assert len(names) == 2
    for name in names:
        (tmp_path / name.replace("_ids.png", "_overlay.size99.01234567.part.mp4")).touch()


def test_an_output_that_is_an_input_is_refused(tmp_path):
    for name in ("a.png", "a_png_ids.png"):
        (tmp_path / name).touch()
    files = locate_frames([str(tmp_path)])
    with pytest.raises(OutputError, match=r"a_png_ids\.png would overwrite an input; give another folder with -o"):
        refuse_overwrites(files, plan_outputs(files, tmp_path.parent, ("ids",)))
    refuse_overwrites(files, plan_outputs(files, tmp_path.parent, ("color",)))


def test_an_input_under_another_name_is_still_an_input(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "out" / "in").mkdir(parents=True)
    (tmp_path / "out" / "in" / "a_png_ids.png").hardlink_to(tmp_path / "in" / "a.png")
    files = locate_frames([str(tmp_path / "in")])
    with pytest.raises(OutputError, match="overwrite"):
        refuse_overwrites(files, plan_outputs(files, tmp_path / "out", ("ids",)))


def test_an_input_that_is_the_second_part_of_a_video_s_output_is_refused(tmp_path):
    for name in ("a.mp4", "a_mp4_overlay.size2.mp4"):
        (tmp_path / name).touch()
    files = locate_frames([str(tmp_path / name) for name in ("a.mp4", "a_mp4_overlay.size2.mp4")])
    with pytest.raises(OutputError, match=r"a_mp4_overlay\.size2\.mp4 would overwrite an input"):
        refuse_overwrites(files, plan_outputs(files, tmp_path))


def test_a_missing_input_is_not_overwritten(tmp_path):
    (tmp_path / "a_png_ids.png").touch()
    files = locate_frames([str(tmp_path / "a.png")])
    refuse_overwrites(files, plan_outputs(files, tmp_path, ("ids",)))


def test_what_a_killed_run_left_is_deleted_by_the_next_and_nothing_else(tmp_path):
    left, users, young = (
        ".street-segmentation-0123456789abcdef.part",
        "x_overlay.part.mp4",
        ".street-segmentation-0.part",
    )
    for name in (left, users, young):
        (tmp_path / name).touch()
    os.utime(tmp_path / left, (0, 0))
    prepare_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([users, young])
