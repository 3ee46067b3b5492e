from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.accuracy.cityscapes import CITYSCAPES_IDS
from runtime.accuracy.datasets import open_dataset, read_frame, read_pair
from runtime.errors import DatasetError, ModelError
from runtime.labels import CAMVID, CITYSCAPES, IGNORED


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_pair(root, name, label, *, split="train", frame_shape=None):
    write(root / split / f"{name}.png", np.zeros((*(frame_shape or label.shape), 3), np.uint8))
    write(root / f"{split}annot" / f"{name}.png", label)


def ids(*values):
    return np.array([values], np.uint8)


def read_first(dataset, split="train"):
    return read_pair(dataset.pairs(split)[0])


def test_camvid_reads_void_as_ignored(tmp_path):
    write_pair(tmp_path, "a", ids(0, 10, 11, 255))
    frame, label = read_first(open_dataset("camvid", tmp_path))
    assert frame.shape == (1, 4, 3) and frame.dtype == np.uint8
    assert label.tolist() == [[0, 10, IGNORED, IGNORED]] and label.dtype == np.uint8


def test_pairs_are_in_the_order_of_their_names(tmp_path):
    for name in ("b", "c", "a"):
        write_pair(tmp_path, name, ids(0))
    pairs = open_dataset("camvid", tmp_path).pairs("train")
    assert [pair.frame.stem for pair in pairs] == [pair.label.stem for pair in pairs] == ["a", "b", "c"]


def test_a_frame_is_rgb(tmp_path):
    write(tmp_path / "red.png", np.full((1, 1, 3), (0, 0, 255), np.uint8))
    assert read_frame(tmp_path / "red.png").tolist() == [[[255, 0, 0]]]


def test_an_unknown_dataset_names_the_closest(tmp_path):
    with pytest.raises(ModelError, match="Did you mean camvid"):
        open_dataset("canvid", tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no folder .*absent.*--data"):
        open_dataset("camvid", tmp_path / "absent")
    write_pair(tmp_path, "a", ids(0))
    with pytest.raises(DatasetError, match=r"no folder .*val"):
        open_dataset("camvid", tmp_path).pairs("val")


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    with pytest.raises(DatasetError, match="no frames of split 'train'"):
        open_dataset("camvid", tmp_path).pairs("train")


@pytest.mark.parametrize(("gone", "missing"), [("trainannot/b.png", "label"), ("train/b.png", "frame")])
def test_a_file_without_its_partner_is_refused(tmp_path, gone, missing):
    write_pair(tmp_path, "a", ids(0))
    write_pair(tmp_path, "b", ids(0))
    (tmp_path / gone).unlink()
    with pytest.raises(DatasetError, match=rf"b\.png has no {missing}"):
        open_dataset("camvid", tmp_path).pairs("train")


def test_a_label_out_of_range_is_refused_with_what_is_taken(tmp_path):
    write_pair(tmp_path, "a", ids(0, 12))
    with pytest.raises(DatasetError, match=r"a\.png holds the value 12; labels are 0\.\.11, 255"):
        read_first(open_dataset("camvid", tmp_path))


def test_a_label_of_another_size_is_refused_with_both(tmp_path):
    write_pair(tmp_path, "a", np.zeros((2, 3), np.uint8), frame_shape=(4, 5))
    with pytest.raises(DatasetError, match=r"is 4x5, but its label .* is 2x3"):
        read_first(open_dataset("camvid", tmp_path))


@pytest.mark.parametrize(
    ("label", "found"),
    [
        (np.array([[[0, 0, 1]]], np.uint8), "3 channels of 8 bits; a label has one"),
        (np.zeros((1, 1, 4), np.uint8), "transparent in 100.0% of its pixels"),
        (np.full((1, 1), 7001, np.uint16), "1 channel of 16 bits, up to 7001; a label has one"),
    ],
)
def test_a_label_of_another_kind_is_refused_with_what_it_is(tmp_path, label, found):
    write_pair(tmp_path, "a", label, frame_shape=(1, 1))
    with pytest.raises(DatasetError, match=f"a.png (has|is) {found}"):
        read_first(open_dataset("camvid", tmp_path))


def test_a_frame_that_is_no_image_is_refused(tmp_path):
    write_pair(tmp_path, "a", ids(0))
    (tmp_path / "train" / "a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="not an image"):
        read_first(open_dataset("camvid", tmp_path))


@pytest.mark.parametrize("file", ["train/a.png", "trainannot/a.png"])
def test_a_file_that_is_cut_is_refused(tmp_path, file):
    write_pair(tmp_path, "a", np.random.default_rng(0).integers(0, 11, (64, 64), np.uint8))
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DatasetError, match="truncated"):
        read_first(open_dataset("camvid", tmp_path))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".bmp", ".tif", ".webp"])
def test_frames_of_any_kind_are_taken(tmp_path, suffix):
    write_pair(tmp_path, "a", np.zeros((16, 16), np.uint8))
    write(tmp_path / f"train/b{suffix}", np.full((16, 16, 3), 200, np.uint8))
    write(tmp_path / "trainannot/b.bmp", np.zeros((16, 16), np.uint8))
    pairs = open_dataset("camvid", tmp_path).pairs("train")
    assert [pair.frame.name for pair in pairs] == ["a.png", f"b{suffix}"]
    assert abs(read_pair(pairs[1])[0].astype(int) - 200).max() < 5


def test_two_images_of_one_name_are_refused(tmp_path):
    write_pair(tmp_path, "a", ids(0))
    write(tmp_path / "train/a.jpg", np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png and a\.jpg are two images of one name"):
        open_dataset("camvid", tmp_path).pairs("train")


def test_hidden_files_are_no_frames(tmp_path):
    write_pair(tmp_path, "a", ids(0))
    write(tmp_path / "train/._a.png", np.zeros((1, 1, 3), np.uint8))
    assert len(open_dataset("camvid", tmp_path).pairs("train")) == 1


def write_city(root, label, kind):
    write(root / "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png", np.zeros((*label.shape, 3), np.uint8))
    write(root / f"gtFine/val/aachen/aachen_000000_000019_gtFine_{kind}.png", label)


def test_cityscapes_maps_label_ids_on_the_fly(tmp_path):
    write_city(tmp_path, ids(7, 33, 0, 9, 28, 255), "labelIds")
    dataset = open_dataset("cityscapes", tmp_path)
    assert dataset.classes == CITYSCAPES
    assert read_first(dataset, "val")[1].tolist() == [[0, 18, IGNORED, IGNORED, 15, IGNORED]]


def test_cityscapes_prefers_train_ids(tmp_path):
    write_city(tmp_path, ids(7, 33), "labelIds")
    write_city(tmp_path, ids(7, 18), "labelTrainIds")
    assert read_first(open_dataset("cityscapes", tmp_path), "val")[1].tolist() == [[7, 18]]


def write_frames(root, *names):
    for name in names:
        write(root / "leftImg8bit" / "val" / "a" / f"{name}_leftImg8bit.png", np.zeros((20, 20, 3), np.uint8))


def write_labels(root, kind, value, *names):
    for name in names:
        write(root / "gtFine" / "val" / "a" / f"{name}_gtFine_{kind}.png", np.full((20, 20), value, np.uint8))


def test_whole_label_ids_of_cityscapes_are_not_hidden_by_some_train_ids(tmp_path):
    write_frames(tmp_path, "x", "y")
    write_labels(tmp_path, "labelIds", 7, "x", "y")
    write_labels(tmp_path, "labelTrainIds", 5, "x")
    pairs = open_dataset("cityscapes", tmp_path).pairs("val")
    assert [read_pair(pair)[1].max() for pair in pairs] == [0, 0]


def test_what_macos_puts_beside_the_frames_of_cityscapes_is_no_frame(tmp_path):
    write_frames(tmp_path, "x", "._x")
    write_labels(tmp_path, "labelIds", 7, "x", "._x")
    assert len(open_dataset("cityscapes", tmp_path).pairs("val")) == 1


def test_cityscapes_refuses_an_id_that_does_not_exist(tmp_path):
    write_city(tmp_path, ids(34), "labelIds")
    with pytest.raises(DatasetError, match=r"value 34; labels are 0\.\.33, 255"):
        read_first(open_dataset("cityscapes", tmp_path), "val")


def test_the_cityscapes_ids_are_as_many_as_its_classes():
    assert len(CITYSCAPES_IDS) == len(CITYSCAPES) and len(CAMVID) == 11


@pytest.mark.data
def test_camvid_itself_reads_whole():
    root = Path(__file__).parents[3] / "data" / "camvid"
    if not root.is_dir():
        pytest.skip("no data/camvid")
    dataset = open_dataset("camvid", root)
    for split, count in (("train", 367), ("val", 101)):
        pairs = dataset.pairs(split)
        assert len(pairs) == count
        assert all(read_pair(pair)[0].shape == (360, 480, 3) for pair in pairs)
