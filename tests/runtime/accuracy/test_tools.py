"""Each tool's folders as it writes them, recognised and read without a classes.json."""

import json

import numpy as np
import pytest

from calib.sample import sample_frames
from runtime.accuracy.datasets import open_dataset, read_pair
from runtime.accuracy.tools import VOC
from runtime.errors import DatasetError
from runtime.labels import CITYSCAPES, IGNORED
from tests.helpers.labelled import write_image
from tests.helpers.stored_labels import png
from tests.runtime.accuracy.test_drawn import HEIGHT, WIDTH, supervisely

SIZE = (4, 6)
IDS = np.zeros(SIZE, np.uint8)
IDS[2:, :3], IDS[:2, 3:] = 1, 2


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def frame(root, name, size=SIZE):
    write_image(root / name, np.zeros((*size, 3)))
    hidden = (root / name).with_name("._" + name.rpartition("/")[2])
    hidden.write_bytes(b"\0\5\x16\7")  # what macOS leaves beside it


def painted(colors):
    return np.array(colors, np.uint8)[IDS]


def labels(root, split="train"):
    dataset = open_dataset("own", root)
    pairs = dataset.pairs(split)
    return [label.name for label in dataset.classes], [read_pair(pair)[1].tolist() for pair in pairs]


def cvat_mask(
    root, text="# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:10,0,128::\nroad:128,64,128:a,b:c\n"
):
    """CVAT 2.x, "Segmentation mask 1.1" with images: docs.cvat.ai, dataset management, formats."""
    write(root / "labelmap.txt", text)
    for split, name in (("train", "a/1"), ("Validation", "2")):
        write(root / f"ImageSets/Segmentation/{split}.txt", f"{name}\n")
        frame(root, f"JPEGImages/{name}.png")
        for folder in ("SegmentationClass", "SegmentationObject"):
            write_image(root / f"{folder}/{name}.png", painted([[0, 0, 0], [10, 0, 128], [128, 64, 128]]))


def cvat_cityscapes(root):
    """CVAT 2.x, "Cityscapes 1.0" with images: datumaro, plugins/data_formats/cityscapes.py (its label_colors.txt)."""
    write(root / "label_colors.txt", "# r g b label_name\n0 0 0 background\n10 0 128 car\n128 64 128 main road\n")
    for split in ("train", "val"):
        base = root / f"gtFine/{split}/task/f_1_gtFine"
        frame(root, f"imgsFine/leftImg8bit/{split}/task/f_1_leftImg8bit.png")
        write_image(base.with_name(base.name + "_color.png"), painted([[0, 0, 0], [10, 0, 128], [128, 64, 128]]))
        write_image(base.with_name(base.name + "_labelIds.png"), IDS + 7)
        write_image(base.with_name(base.name + "_instanceIds.png"), IDS)


def supervisely_meta(root, names=("car", "road")):
    colors = ["#0A0080", "#804080", "#102030"]
    rows = [
        {"title": name, "shape": "any", "color": color, "geometry_config": {}, "id": i, "hotkey": ""}
        for i, (name, color) in enumerate(zip(names, colors, strict=False))
    ]
    write(root / "meta.json", json.dumps({"classes": rows, "tags": [], "projectType": "images"}))


def roboflow(root):
    """Roboflow's export "Semantic Segmentation Masks": SPLIT/x.jpg, SPLIT/x_mask.png, SPLIT/_classes.csv."""
    for split in ("train", "valid", "test"):
        write(root / f"{split}/_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, road\n")
        frame(root, f"{split}/f_png.rf.0123abcd.png")
        write_image(root / f"{split}/f_png.rf.0123abcd_mask.png", IDS)


def mapillary(root):
    """Mapillary Vistas v2.0, its README: SPLIT/images, SPLIT/VERSION/labels with a palette, config_VERSION.json."""
    rows = [("Car", [0, 0, 142], True), ("Road", [128, 64, 128], True), ("Unlabeled", [0, 0, 0], False)]
    labels = [
        {"name": f"object--{name}", "readable": name, "instances": False, "evaluate": counts, "color": color}
        for name, color, counts in rows
    ]
    for version in ("v1.2", "v2.0"):
        config = {"version": version, "mapping": "public", "folder_structure": "", "labels": labels}
        write(root / f"config_{version}.json", json.dumps(config))
    for split in ("training", "validation"):
        frame(root, f"{split}/images/a.png")
        path = root / split / "v2.0/labels/a.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png(IDS, palette=[color for _, color, _ in rows]))


def bdd100k(root):
    """BDD100K's 10K images, doc.bdd100k.com: images/10k/SPLIT, labels/sem_seg/masks/SPLIT with train ids."""
    for split in ("train", "val"):
        frame(root, f"images/10k/{split}/a.png")
        write_image(root / f"labels/sem_seg/masks/{split}/a.png", np.where(IDS == 2, 255, IDS))


VOID = np.where(IDS == 2, IGNORED, IDS).tolist()
TOOLS = {
    cvat_mask: ("CVAT's labelmap.txt", ["background", "car", "road"], IDS.tolist()),
    cvat_cityscapes: ("CVAT's Cityscapes", ["background", "car", "main road"], IDS.tolist()),
    roboflow: ("Roboflow's _classes.csv", ["background", "car", "road"], IDS.tolist()),
    mapillary: ("Mapillary Vistas (config_v2.0.json)", ["Car", "Road"], VOID),
    bdd100k: ("BDD100K", [label.name for label in CITYSCAPES], VOID),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_folders_are_recognised_and_told(tmp_path, capsys, tool):
    tool(tmp_path)
    told, names, ids = TOOLS[tool]
    for split in ("train", "val"):
        assert labels(tmp_path, split) == (names, [ids])
    assert f"is taken for {told}: {names[0]}, {names[1]}" in capsys.readouterr().err
    assert [path.name[0] != "." for path in sample_frames(tmp_path, 8, 0, few=True).frames] == [True]


def test_a_classes_json_goes_before_what_the_tool_says(tmp_path):
    cvat_mask(tmp_path)
    rows = [{"name": "street", "color": [128, 64, 128]}]
    content = {"classes": rows, "ignored": [[0, 0, 0], [10, 0, 128]]}
    write(tmp_path / "classes.json", json.dumps(content))
    assert labels(tmp_path) == (["street"], [np.where(IDS == 2, 0, IGNORED).tolist()])


def test_vocs_palette_has_its_border_which_does_not_count(tmp_path):
    """VOC2012's devkit: no labelmap.txt, palettes, index 255 (224, 224, 192) between objects."""
    write(tmp_path / "ImageSets/Segmentation/train.txt", "2007_000032\n")
    frame(tmp_path, "JPEGImages/2007_000032.png")
    ids = np.where(IDS == 2, 255, IDS * 7)
    palette = np.zeros((256, 3), int)
    palette[7], palette[255] = (128, 128, 128), (224, 224, 192)
    (tmp_path / "SegmentationClass").mkdir()
    (tmp_path / "SegmentationClass/2007_000032.png").write_bytes(png(ids.astype(np.uint8), palette=palette.tolist()))
    expected = list(VOC), [np.where(IDS == 2, IGNORED, IDS * 7).tolist()]
    assert labels(tmp_path) == expected
    write_image(tmp_path / "SegmentationClass/2007_000032.png", palette[ids])  # by its colours alone
    assert labels(tmp_path) == expected


def test_superviselys_json_and_machine_masks_are_read(tmp_path):
    """Supervisely's "Export as masks": DATASET/img, ann, masks_machine; colours of the classes 1, 2, ..."""
    supervisely_meta(tmp_path)
    points = {"exterior": [[0, 10], [39, 10], [39, 19], [0, 19]], "interior": []}
    road = {"classTitle": "road", "geometryType": "polygon", "points": points}
    frame(tmp_path, "train/img/a.png", (HEIGHT, WIDTH))
    write(tmp_path / "train/ann/a.png.json", json.dumps(supervisely(road)))
    names, (drawn,) = labels(tmp_path)
    expected = np.full((HEIGHT, WIDTH), IGNORED)
    expected[10:] = 1
    assert names == ["car", "road"] and drawn == expected.tolist()
    write(tmp_path / "obj_class_to_machine_color.json", json.dumps({"car": [1, 1, 1], "road": [2, 2, 2]}))
    mask = np.where(expected == 1, 2, 0)[..., None].repeat(3, 2)
    write_image(tmp_path / "train/masks_machine/a.png", mask)
    assert labels(tmp_path) == (names, [drawn])


WRONG = {
    "has no test split, it has Validation.txt, train.txt": lambda root: cvat_mask(root),
    "labelmap.txt cannot be understood: [300, 0, 0] is no colour": lambda root: cvat_mask(root, "car:300,0,0::\n"),
    "taken for CVAT's labelmap.txt: two are of colour": lambda root: cvat_mask(root, "a:1,1,1::\nb:1,1,1::\n"),
    "label_colors.txt cannot be understood": lambda root: (
        cvat_cityscapes(root), write(root / "label_colors.txt", "car 1 2 3\n")
    ),
    "_classes.csv cannot be understood: its values are not 0, 1, 2": lambda root: [
        write(root / f"{split}/_classes.csv", "Pixel Value, Class\n3, car\n") for split in ("train", "valid")
    ],
    "_classes.csv cannot be understood: the splits' differ": lambda root: (
        roboflow(root), write(root / "valid/_classes.csv", "Pixel Value, Class\n0, car\n")
    ),
    "meta.json cannot be understood: no 'classes' is in it": lambda root: (
        frame(root, "ds0/img/a.png"), write(root / "meta.json", "{}")
    ),
    "has no test split, it has ds0; rename one": lambda root: (
        frame(root, "ds0/img/a.png"), supervisely_meta(root)
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_understood_is_one_line(tmp_path, said):
    WRONG[said](tmp_path)
    with pytest.raises(DatasetError) as raised:
        labels(tmp_path, "test")
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_an_export_without_its_images_says_so(tmp_path):
    cvat_mask(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "other")
    with pytest.raises(DatasetError, match="JPEGImages: export with the images"):
        labels(tmp_path)
    frame(tmp_path, "JPEGImages/b.png")
    with pytest.raises(DatasetError, match="JPEGImages has no frame 'a/1'; 1 of train are missing"):
        labels(tmp_path)


def test_a2d2s_frames_and_labels_differ_by_a_word(tmp_path):
    """A2D2, its README: camera/.../x_camera_frontcenter_1.png, label/.../x_label_frontcenter_1.png, class_list.json."""
    frame(tmp_path, "camera/cam_front_center/2018_camera_frontcenter_01.png")
    label = painted([[0, 0, 0], [255, 0, 0], [180, 50, 180]])
    write_image(tmp_path / "label/cam_front_center/2018_label_frontcenter_01.png", label)
    rows = [{"name": n, "color": c} for n, c in (("other", [0, 0, 0]), ("car", [255, 0, 0]), ("road", [180, 50, 180]))]
    content = {"classes": rows, "folders": {"train": ["camera", "label"]}}
    write(tmp_path / "classes.json", json.dumps(content))
    assert labels(tmp_path)[1] == [IDS.tolist()]
