"""Label Studio's and COCO's JSON, one file with the labels of many frames, as the tools write it."""

import itertools
import json

import numpy as np
import pytest

from runtime.accuracy.bundled import read_bundled
from runtime.accuracy.datasets import open_dataset, read_pair
from runtime.errors import DatasetError
from runtime.labels import IGNORED
from tests.helpers.labelled import write_image

CLASSES = {"classes": [{"name": "road", "color": [9, 9, 9]}, {"name": "car", "color": [1, 9, 9]}]}
HEIGHT, WIDTH = 20, 40
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[5:15, 7:30] = True
MASK[8, 9] = False


def brush(mask):
    """As label-studio-sdk's converter/brush.py, encode_rle, packs an RGBA picture: sizes 3, 4, 8 and 16 bits."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1), len(values)]
    for start, end in itertools.pairwise(edges):
        length = end - start
        if length == 4:  # values one by one
            bits += f"0{0:02b}{3:03b}" + "".join(f"{value:08b}" for value in values[start:end])
        else:
            bits += f"1{3:02b}{length - 1:016b}{values[start]:08b}"
    return [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]


def result(kind, **value):
    return {
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "type": kind, "value": value,
        "id": "x", "from_name": "tag", "to_name": "image", "origin": "manual",
    }  # fmt: skip


def task(*results, name="0123abcd-a.png", **more):
    """Label Studio 1.13, export "JSON"."""
    annotation = {"id": 2, "completed_by": 1, "result": list(results), "was_cancelled": False}
    data = {"image": f"/data/upload/1/{name}"}
    return {"id": 1, "annotations": [annotation], "file_upload": name, "data": data, "meta": {}, **more}


def coco(*segmentations, category=1):
    """COCO, format data; also CVAT's "COCO 1.0" and Roboflow's."""
    annotations = [
        {"id": i, "image_id": 7, "category_id": category, "segmentation": each, "area": 1, "bbox": [0, 0, 1, 1],
         "iscrowd": 0}
        for i, each in enumerate(segmentations)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "car", "supercategory": ""}, {"id": 5, "name": "road", "supercategory": ""}]
    images = [{"id": 7, "file_name": "sub/a.png", "width": WIDTH, "height": HEIGHT}]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def runs(mask):
    flat = mask.T.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]
    return ([0] if flat[0] else []) + np.diff(edges).tolist()


def packed(counts):
    """As maskApi.c, rleToString."""
    text = ""
    for i, count in enumerate(counts):
        left, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, left = left & 31, left >> 5
            more = left != -1 if bits & 16 else left != 0
            text += chr((bits | 32 if more else bits) + 48)
    return text


def label(root, content, name="trainannot.json", folders=None):
    write_image(root / "train/a.png", np.zeros((HEIGHT, WIDTH, 3)))
    (root / "train/._a.png").write_bytes(b"\0\5\x16\7")
    (root / name).write_text(json.dumps(content))
    (root / "classes.json").write_text(json.dumps(CLASSES | ({"folders": folders} if folders else {})))
    read_bundled.cache_clear()
    return read_pair(open_dataset("own", root).pairs("train")[0])[1]


def test_label_studios_brushes_polygons_and_rectangles_lie_over_each_other(tmp_path, capsys):
    road = result("rectanglelabels", x=0, y=50, width=100, height=50, rotation=0, rectanglelabels=["road"])
    car = result("brushlabels", format="rle", rle=brush(MASK), brushlabels=["car"])
    corner = result("polygonlabels", points=[[90, 0], [100, 0], [100, 25]], closed=True, polygonlabels=["car"])
    found = label(tmp_path, [task(road, car, corner, result("choices", choices=["day"]))])
    assert (found[MASK] == 1).all() and (found[15:] == 0).all() and found[8, 9] == IGNORED
    assert found[1, 39] == 1 and found[0, 0] == IGNORED and found[9, 0] == IGNORED and found[10, 0] == 0
    assert "labels are drawn (JSON); what no shape covers does not count" in capsys.readouterr().err


@pytest.mark.parametrize("counts", [runs, lambda mask: packed(runs(mask))], ids=["runs", "packed"])
@pytest.mark.parametrize("mask", [MASK, ~MASK], ids=["of 0 first", "of 1 first"])
def test_cocos_masks_of_runs_are_read(tmp_path, counts, mask):
    found = label(tmp_path, coco({"size": [HEIGHT, WIDTH], "counts": counts(mask)}))
    assert ((found == 1) == mask).all()


@pytest.mark.parametrize(
    ("name", "folders"),
    [("train/_annotations.coco.json", None), ("labels.json", {"train": ["train", "labels.json"]})],
)
def test_the_file_lies_beside_the_frames_or_is_named_in_folders(tmp_path, name, folders):
    (tmp_path / "train").mkdir()
    found = label(tmp_path, coco([[0, 0, 9, 0, 9, 9, 0, 9]], category=5), name, folders)
    assert (found[:10, :10] == 0).all() and found[10, 10] == IGNORED


SQUARE = [0, 0, 9, 0, 9, 9]
BAD = {
    "a shape is labelled 'tree'; the classes are road, car": [
        task(result("polygonlabels", points=[[0, 0], [9, 0], [9, 9]], polygonlabels=["tree"]))
    ],
    "differ by 2 frames, 'a.png' among them": [task(name="b.png")],
    "differ by 1 frames, 'a.png' among them": coco() | {"images": []},
    "task 1 has 2 annotations, expected one": [task(annotations=[{"result": []}] * 2)],
    "no brush, polygon or rectangle": [task()],
    "a rectangle is turned": [
        task(result("rectanglelabels", x=0, y=0, width=1, height=1, rotation=30, rectanglelabels=["car"]))
    ],
    "a brush has 16 values for 20x40 pixels": [
        task(result("brushlabels", rle=brush(MASK[:2, :2]), brushlabels=["car"]))
    ],
    "a brush ends too early": [task(result("brushlabels", rle=brush(MASK)[:9], brushlabels=["car"]))],
    "two are of a frame 'a.png'": [task(), task(name="89abcdef-a.png")],
    "is a box alone": coco([]),
    "of the category 3, which is not named": coco([SQUARE], category=3),
    "do not fill 20x40 pixels": coco({"counts": [3, 4]}),
    "no JSON of Label Studio or COCO that is read: it has no 'categories'": {"images": []},
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, said):
    with pytest.raises(DatasetError, match=r"trainannot\.json ") as raised:
        label(tmp_path, BAD[said])
    assert said in str(raised.value) and "\n" not in str(raised.value)
