"""Labels as labelme and Supervisely draw them, each file as the tool writes it."""

import base64
import json
import zlib

import cv2
import numpy as np
import pytest

from runtime.accuracy.datasets import open_dataset, read_pair
from runtime.accuracy.drawn import read_drawn
from runtime.errors import DatasetError
from runtime.labels import IGNORED
from tests.helpers.labelled import write_image

NAMES = {"road": 0, "car": 1}
CLASSES = {"classes": [{"name": name, "color": [i, 9, 9]} for name, i in NAMES.items()]}
HEIGHT, WIDTH = 20, 40


def png(mask):
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def labelme(*shapes):
    """As labelme 5.5 saves it (LabelFile.save), the frame inside."""
    written = [
        {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}, **more}
        for label, kind, points, more in shapes
    ]
    return {
        "version": "5.5.0", "flags": {}, "shapes": written, "imagePath": "..\\frames\\a.jpg",
        "imageData": base64.b64encode(b"a frame").decode(), "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip


def supervisely(*objects):
    """As Supervisely's "Export to Supervisely format" writes ann/a.jpg.json."""
    common = {"id": 1, "classId": 2, "labelerLogin": "a", "createdAt": "2024-01-01T00:00:00.000Z", "tags": []}
    return {
        "description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH},
        "objects": [{**common, **each} for each in objects],
    }  # fmt: skip


def ids(tmp_path, content, names=NAMES):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return read_drawn(path, names)


def test_labelmes_shapes_lie_over_each_other_in_their_order_and_the_rest_does_not_count(tmp_path):
    road = ("road", "polygon", [[0, 10], [39, 10], [39, 19], [0, 19]], {})
    car = ("car", "rectangle", [[20, 15], [10, 5]], {})
    found = ids(tmp_path, labelme(road, car))
    assert found.shape == (HEIGHT, WIDTH) and found.dtype == np.uint8
    assert (found[5:16, 10:21] == 1).all() and (found[16:, :] == 0).all() and (found[:5] == IGNORED).all()
    assert (ids(tmp_path, labelme(car, road))[10:16, 10:21] == 0).all()
    named = {**NAMES, "_background_": 2}
    assert (ids(tmp_path, labelme(road), named)[:10] == 2).all()


@pytest.mark.parametrize(
    ("kind", "points", "inside", "outside"),
    [
        ("circle", [[20, 10], [24, 10]], [(10, 20), (10, 16), (6, 20)], [(10, 26), (3, 20)]),
        ("linestrip", [[5, 10], [30, 10], [30, 19]], [(10, 20), (13, 10), (18, 30)], [(2, 20), (18, 10)]),
        ("line", [[5, 10], [30, 10]], [(10, 20)], [(18, 20)]),
        ("point", [[20, 10]], [(10, 20), (10, 24)], [(10, 27)]),
        (None, [[0, 0], [39, 0], [0, 19]], [(1, 1)], [(18, 38)]),
    ],
)
def test_every_shape_of_labelme_covers_what_it_covers_there(tmp_path, kind, points, inside, outside):
    found = ids(tmp_path, labelme(("car", kind, points, {})))
    assert all(found[at] == 1 for at in inside) and all(found[at] == IGNORED for at in outside)


def test_labelmes_masks_are_stamped_at_their_corner(tmp_path):
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)
    shape = ("car", "mask", [[7, 3], [9, 4]], {"mask": base64.b64encode(png(mask)).decode()})
    found = ids(tmp_path, labelme(shape))
    assert ((found[3:5, 7:10] == 1) == mask).all() and (found == 1).sum() == mask.sum()


def test_supervisely_polygons_have_holes_and_bitmaps_an_origin(tmp_path):
    points = {"exterior": [[0, 0], [39, 0], [39, 19], [0, 19]], "interior": [[[10, 5], [30, 5], [30, 15], [10, 15]]]}
    road = {"classTitle": "road", "geometryType": "polygon", "points": points}
    mask = np.array([[1, 1], [0, 1]], bool)
    rgba = np.repeat(mask[..., None] * np.uint8(255), 4, 2)
    data = base64.b64encode(zlib.compress(cv2.imencode(".png", rgba)[1].tobytes())).decode()
    car = {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [20, 10]}}
    found = ids(tmp_path, supervisely(road, car))
    assert ((found[10:12, 20:22] == 1) == mask).all() and found[8, 15] == IGNORED and found[2, 2] == 0
    box = {"classTitle": "car", "geometryType": "rectangle", "points": {"exterior": [[1, 2], [5, 6]], "interior": []}}
    assert (ids(tmp_path, supervisely(box)) == 1).sum() == 25


SQUARE = [[0, 0], [5, 0], [5, 5]]
BAD = {
    "a shape is labelled 'tree'; the classes are road, car": labelme(("tree", "polygon", SQUARE, {})),
    "a shape is a 'cuboid'": labelme(("car", "cuboid", SQUARE, {})),
    "a shape has 2 points, expected 3": labelme(("car", "polygon", SQUARE[:2], {})),
    "it has no 'imageWidth'": {k: v for k, v in labelme().items() if k != "imageWidth"},
    "a side of its picture is '20'": labelme() | {"imageHeight": "20"},
    "pixels": labelme() | {"imageHeight": 1 << 30},
    "is no PNG": labelme(("car", "mask", SQUARE, {"mask": "AAAA"})),
    "out of the picture": labelme(
        ("car", "mask", [[39, 0]], {"mask": base64.b64encode(png(np.ones((2, 2), bool))).decode()})
    ),
    "it has no 'size'": {"images": [], "annotations": []},
    "no label": [1],
    "while decompressing data": supervisely(
        {"classTitle": "car", "geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [0, 0]}}
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, said):
    with pytest.raises(DatasetError, match=r"a\.json ") as raised:
        ids(tmp_path, BAD[said])
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_labelmes_json_lies_beside_the_frames_or_in_the_labels_folder(tmp_path, capsys, folder):
    write_image(tmp_path / "train/sub/a.png", np.zeros((HEIGHT, WIDTH, 3)))
    write_image(tmp_path / "train/.hidden/b.png", np.zeros((2, 2, 3)))
    (tmp_path / folder / "sub").mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "sub/a.json").write_text(json.dumps(labelme(("car", "polygon", SQUARE, {}))))
    (tmp_path / folder / "._a.json").write_bytes(b"\0\5\x16\7")
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    pairs = open_dataset("own", tmp_path).pairs("train")
    label = read_pair(pairs[0])[1]
    assert len(pairs) == 1 and label[1, 2] == 1 and label[19, 39] == IGNORED
    assert "train: labels are drawn (JSON); what no shape covers does not count" in capsys.readouterr().err


def test_a_frame_that_nobody_drew_in_is_named(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"train/{name}.png", np.zeros((HEIGHT, WIDTH, 3)))
    (tmp_path / "train/a.json").write_text(json.dumps(labelme()))
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    with pytest.raises(DatasetError, match=r"b\.png has no label of the same name"):
        open_dataset("own", tmp_path).pairs("train")
