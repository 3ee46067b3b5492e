import pytest

from runtime.accuracy.cityscapes import find_labelled
from runtime.errors import DatasetError

NAMES = ("ulm_000000_000019", "ulm_000001_000019")


def tree(root, *, left="leftImg8bit/val/ulm", frame="_leftImg8bit.png", fine="gtFine/val/ulm", kind="gtFine_labelIds"):
    for name in NAMES:
        for path in (root / left / f"{name}{frame}", root / fine / f"{name}_{kind}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")


@pytest.mark.parametrize(
    "differs",
    [
        {},
        {"frame": "_leftImg8bit.jpg"},
        {"frame": "_leftImg8bit_foggy_beta_0.02.png", "left": "leftImg8bit_foggy/val/ulm"},
        {"fine": "gtCoarse/val/ulm", "kind": "gtCoarse_labelIds"},
        {"left": "leftImg8bit/val", "fine": "gtFine/val"},
        {"left": "leftImg8bit_trainvaltest/leftImg8bit/val/ulm", "fine": "gtFine_trainvaltest/gtFine/val/ulm"},
    ],
)
def test_the_trees_that_people_have_are_read(tmp_path, differs):
    tree(tmp_path, **differs)
    found = find_labelled(tmp_path, "val")
    assert [each.frame.name.startswith(name) for each, name in zip(found, NAMES, strict=True)] == [True, True]
    assert [each.label.name.startswith(name) for each, name in zip(found, NAMES, strict=True)] == [True, True]


def test_train_ids_of_some_frames_do_not_hide_the_label_ids_of_all(tmp_path, capsys):
    tree(tmp_path)
    (tmp_path / f"gtFine/val/ulm/{NAMES[0]}_gtFine_labelTrainIds.png").write_bytes(b"")
    found = find_labelled(tmp_path, "val")
    assert [each.train_ids for each in found] == [False, False]
    assert "1 of 2 frames have labelTrainIds: labelIds are taken" in capsys.readouterr().err


def test_several_weathers_of_a_frame_have_its_label(tmp_path):
    for beta in ("0.01", "0.02"):
        tree(tmp_path, left="leftImg8bit_foggy/val/ulm", frame=f"_leftImg8bit_foggy_beta_{beta}.png")
    assert len(find_labelled(tmp_path, "val")) == 4


@pytest.mark.parametrize(
    "hidden", ["leftImg8bit/val/ulm/._x_leftImg8bit.png", "gtFine/val/ulm/._x_gtFine_labelIds.png"]
)
def test_files_of_macos_are_left_alone(tmp_path, hidden):
    tree(tmp_path)
    (tmp_path / hidden).write_bytes(b"\0")
    assert len(find_labelled(tmp_path, "val")) == 2


@pytest.mark.parametrize(("gone", "what"), [("leftImg8bit", "frame"), ("gtFine_labelIds", "label")])
def test_a_frame_or_label_alone_is_refused(tmp_path, gone, what):
    tree(tmp_path)
    next(tmp_path.rglob(f"{NAMES[1]}_{gone}.png")).unlink()
    with pytest.raises(DatasetError, match=f"has no {what} of the same name; 1 files are unpaired"):
        find_labelled(tmp_path, "val")
