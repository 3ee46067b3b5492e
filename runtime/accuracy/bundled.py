"""Labels of many frames in one JSON file: Label Studio's export "JSON" and COCO's, as the shapes of each frame.

Source: HumanSignal/label-studio-sdk, converter/brush.py (decode_rle); cocodataset/cocoapi, common/maskApi.c
(rleFrString, rleDecode: runs from column to column, of 0 first).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from runtime.accuracy.shapes import Drawing, Shape, points_of, side_of, text_of
from runtime.json_values import read_json, told

UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
OF_SHAPES = ("rectanglelabels", "polygonlabels", "brushlabels")
FOUR = 4  # bytes of a pixel that Label Studio packs: red, green, blue, alpha


class Bundled(NamedTuple):
    """A file with the labels of many frames."""

    tool: str
    drawings: dict[str, Any]  # name of a frame, without folders -> what the file holds of it


@lru_cache(maxsize=2)  # train and val: it is asked for each of its frames
def read_bundled(path: Path) -> Bundled:
    """What a file holds of which frame.

    Raises:
        ValueError, KeyError, TypeError: it is of neither.
        OSError: it cannot be read.
    """
    content = read_json(path)
    if isinstance(content, list):
        return Bundled("Label Studio's JSON", _by_frame([(_frame_of(task), task) for task in content]))
    names = {each["id"]: text_of(each["name"]) for each in content["categories"]}
    images = {each["id"]: {**each, "annotations": []} for each in content["images"]}
    for each in content["annotations"]:
        if each["category_id"] not in names:
            raise ValueError(f"an annotation is of the category {told(each['category_id'])}, which is not named")
        images[each["image_id"]]["annotations"].append({**each, "name": names[each["category_id"]]})
    return Bundled("COCO's JSON", _by_frame([(Path(each["file_name"]).name, each) for each in images.values()]))


def drawing_of(path: Path, frame: str) -> Drawing:
    """The shapes of a frame, by its name in the file. Raises what `read_bundled` raises."""
    whole = read_bundled(path)
    return (_of_coco if whole.tool.startswith("COCO") else _of_label_studio)(whole.drawings[frame])


def plain_name(name: str) -> str:
    """A frame's name as it was before it was uploaded to Label Studio."""
    return UPLOADED.sub("", name)


def _by_frame(drawings: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(plain_name(name) for name, _ in drawings)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"two are of a frame {told(twice[0])}")
    return dict(drawings)


def _frame_of(task: dict[str, Any]) -> str:
    given = task.get("file_upload") or next(value for value in task["data"].values() if isinstance(value, str))
    return Path(unquote(text_of(given)).partition("?d=")[2] or unquote(given)).name


def _of_label_studio(task: dict[str, Any]) -> Drawing:
    done = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if len(done) != 1:
        raise ValueError(f"task {told(task.get('id'))} has {len(done)} annotations, expected one")
    parts = [each for each in done[0]["result"] if each.get("type") in OF_SHAPES]
    if not parts:
        raise ValueError(f"task {told(task.get('id'))} has no brush, polygon or rectangle: its size is not told")
    height, width = side_of(parts[0]["original_height"]), side_of(parts[0]["original_width"])
    return Drawing(height, width, (_part(each, height, width) for each in parts))


def _part(each: dict[str, Any], height: int, width: int) -> Shape:
    value, kind = each["value"], each["type"]
    (name,) = value[kind]
    if kind == "brushlabels":
        return Shape(text_of(name), "covered", [], covered=_unpacked(value["rle"], height, width))
    if kind == "polygonlabels":
        return Shape(
            text_of(name), "polygon", [(x * width / 100, y * height / 100) for x, y in points_of(value["points"])]
        )
    if value.get("rotation"):
        raise ValueError("a rectangle is turned; draw it as a polygon")
    left, top, right, bottom = (
        value["x"] * width, value["y"] * height, (value["x"] + value["width"]) * width,
        (value["y"] + value["height"]) * height,
    )  # fmt: skip
    return Shape(text_of(name), "rectangle", points_of([[left / 100, top / 100], [right / 100 - 1, bottom / 100 - 1]]))


def _unpacked(rle: Sequence[int], height: int, width: int) -> np.ndarray:
    # A header of sizes; then runs: one value many times, or many values. Bits, the highest of a byte first.
    bits = "".join(f"{value:08b}" for value in bytes(rle))
    at = 0

    def read(count: int) -> int:
        nonlocal at
        if at + count > len(bits):
            raise ValueError("a brush ends too early")
        at += count
        return int(bits[at - count : at], 2)

    count, word, sizes = read(32), read(5) + 1, [0, 0, 0, 0]
    if count != height * width * FOUR:
        raise ValueError(f"a brush has {count} values for {height}x{width} pixels of {FOUR}")
    for i in range(len(sizes)):
        sizes[i] = read(4) + 1
    values, place = np.zeros(count, np.uint8), 0
    while place < count:
        is_run = read(1)
        end = place + 1 + read(sizes[read(2)])
        if is_run:
            values[place:end] = read(word)
        else:
            for i in range(place, min(end, count)):
                values[i] = read(word)
        place = end
    return np.asarray(values.reshape(height, width, FOUR)[..., 3] != 0)


def _of_coco(image: dict[str, Any]) -> Drawing:
    height, width = side_of(image["height"]), side_of(image["width"])
    shapes = (shape for each in image["annotations"] for shape in _segments(each, height, width))
    return Drawing(height, width, shapes)


def _segments(each: dict[str, Any], height: int, width: int) -> Iterator[Shape]:
    found = each["segmentation"]
    if isinstance(found, dict):
        yield Shape(each["name"], "covered", [], covered=_from_runs(found["counts"], height, width))
    elif not found:
        raise ValueError(f"an annotation of {told(each['name'])} is a box alone, no segmentation")
    else:
        for flat in found:
            yield Shape(each["name"], "polygon", points_of(zip(flat[::2], flat[1::2], strict=True)))


def _from_runs(counts: str | list[int], height: int, width: int) -> np.ndarray:
    runs = _runs_of(counts) if isinstance(counts, str) else counts
    if any(type(run) is not int or run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"runs of a mask do not fill {height}x{width} pixels")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(values.reshape(width, height).T)


def _runs_of(text: str) -> list[int]:
    # Five bits a character, the lowest first; bit 6 says that more follow. From the third run on it is told by how much
    # a run differs from that two before.
    runs: list[int] = []
    run, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        run |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            run -= (1 << shift) if bits & 16 else 0
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run, shift = 0, 0
    return runs
