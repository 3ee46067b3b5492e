import errno
import os
from pathlib import Path

import pytest

from runtime.errors import FrameError
from runtime.media.frames import find_frames, locate_frames


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_folder_is_searched_to_the_bottom_in_natural_order(tmp_path):
    # f10 and f010 are the same number: what follows decides.
    order = ["a9/x.jpeg", "a10/x.bmp", "b/c/f3.tif", "b/f1.webp", "f01.png", "f2.png", "F3.tiff", "f10.JPG", "f010.png"]
    touched(tmp_path, *reversed(order), "notes.txt", ".hidden.png", ".git/x.png", "noext")
    found = locate_frames([str(tmp_path)])
    assert [str(file.relative) for file in found] == [f"{tmp_path.name}/{name}" for name in order]
    assert [file.path for file in found] == [tmp_path / name for name in order]


def test_inputs_keep_their_order_and_come_once(tmp_path, monkeypatch):
    touched(tmp_path, "b.png", "a.png", "sub/c.png")
    monkeypatch.chdir(tmp_path)
    assert find_frames(["b.png", ".", "./a.png", "sub/../b.png", "*.png"]) == [
        Path("b.png"),
        Path("a.png"),
        Path("sub/c.png"),
    ]


def test_globs_find_pictures_only(tmp_path):
    touched(tmp_path, "x2.png", "x10.png", "x.txt", "sub/y.jpg", "dir.png/z.png")
    assert [path.name for path in find_frames([f"{tmp_path}/x*"])] == ["x2.png", "x10.png"]
    assert [path.name for path in find_frames([f"{tmp_path}/**/*.jpg"])] == ["y.jpg"]


def test_a_name_with_brackets_is_a_file_first(tmp_path):
    touched(tmp_path, "x[1].png")
    assert find_frames([f"{tmp_path}/x[1].png"]) == [tmp_path / "x[1].png"]


def test_a_file_is_taken_as_given(tmp_path):
    assert locate_frames([f"{tmp_path}/none.dat"]) == [(tmp_path / "none.dat", Path("none.dat"))]


def test_the_folder_of_the_results_is_left_out_below_an_input(tmp_path):
    touched(tmp_path, "a.png", "out/a_ids.png")
    assert find_frames([str(tmp_path)]) == [tmp_path / "a.png", tmp_path / "out/a_ids.png"]
    assert [file.path for file in locate_frames([str(tmp_path)], skip=tmp_path / "out")] == [tmp_path / "a.png"]
    assert len(locate_frames([f"{tmp_path}/out"], skip=tmp_path / "out")) == 1


@pytest.mark.parametrize("given", [".", "*.png"])
def test_nothing_found_is_an_error(tmp_path, monkeypatch, given):
    touched(tmp_path, "notes.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError, match="no image"):
        locate_frames([given])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    touched(tmp_path, "a.png")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FrameError, match=r"cannot be read \(Permission denied\)"):
        locate_frames([str(tmp_path)])
