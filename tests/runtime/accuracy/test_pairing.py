import pytest

from runtime.accuracy.pairing import pairs_in
from runtime.errors import DatasetError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def names_in(root, frames="f", labels="l"):
    found = pairs_in(root / frames, root / labels)
    return [tuple(path.relative_to(root).as_posix() for path in pair) for pair in found]


@pytest.mark.parametrize(
    ("frame", "label"),
    [
        ("a.jpg", "a.png"), ("a.jpg", "a_mask.png"), ("a.jpg", "a_L.png"), ("a.jpg", "a_label.png"),
        ("a.jpg", "a.jpg.png"), ("a.png", "A.PNG"), ("x/y/a.jpg", "x/y/a.png"), ("a_sat.jpg", "a_mask.png"),
        ("a_leftImg8bit.png", "a_labelIds.png"), ("A.JPG", "a_mask.png"), ("a.b.jpg", "a.b.png"),
    ],
)  # fmt: skip
def test_a_label_is_found_by_the_name_that_a_tool_gave_it(tmp_path, frame, label):
    touch(tmp_path / "f", frame)
    touch(tmp_path / "l", label)
    assert names_in(tmp_path) == [(f"f/{frame}", f"l/{label}")]


def test_an_exact_name_goes_before_one_with_a_suffix(tmp_path):
    touch(tmp_path, "f/a.jpg", "f/a_mask.jpg", "l/a.png", "l/a_mask.png")
    assert names_in(tmp_path) == [("f/a.jpg", "l/a.png"), ("f/a_mask.jpg", "l/a_mask.png")]


def test_two_labels_that_may_be_of_one_frame_are_refused(tmp_path):
    touch(tmp_path, "f/a.jpg", "l/a_mask.png", "l/a_label.png")
    with pytest.raises(DatasetError, match=r"has no label of the same name; 3 files are unpaired"):
        names_in(tmp_path)


def test_frames_and_labels_may_share_a_folder_or_lie_in_one_another(tmp_path):
    touch(tmp_path, "f/a.jpg", "f/a_mask.png", "f/b.jpg", "f/b_mask.png")
    assert names_in(tmp_path, labels="f") == [("f/a.jpg", "f/a_mask.png"), ("f/b.jpg", "f/b_mask.png")]
    touch(tmp_path, "g/a.jpg", "g/masks/a.png")
    assert names_in(tmp_path, "g", "g/masks") == [("g/a.jpg", "g/masks/a.png")]


def test_hidden_files_and_folders_are_left_alone(tmp_path):
    touch(tmp_path, "f/a.jpg", "f/._a.jpg", "f/.ipynb_checkpoints/a-checkpoint.jpg", "f/__MACOSX/a.jpg", "f/Thumbs.db")
    touch(tmp_path, "l/a.png", "l/._a.png", "l/.DS_Store")
    assert names_in(tmp_path) == [("f/a.jpg", "l/a.png")]


def test_a_linked_folder_is_entered_once(tmp_path):
    touch(tmp_path, "real/a.jpg", "l/city/a.png", "f/b.jpg", "l/b.png")
    (tmp_path / "f/city").symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(tmp_path / "real")
    assert names_in(tmp_path) == [("f/b.jpg", "l/b.png"), ("f/city/a.jpg", "l/city/a.png")]


def test_label_studios_pngs_tell_no_frame(tmp_path):
    touch(tmp_path, "train/a.png", "trainannot/task-1-annotation-2-by-1-tag-Road-0.png")
    with pytest.raises(DatasetError, match=r"tag-Road-0\.png is of Label Studio's PNG export, .*: export JSON"):
        pairs_in(tmp_path / "train", tmp_path / "trainannot")
