"""Labels that are drawn, not painted: the JSON of labelme and of Supervisely as train ids, shape over shape.

Source: wkentaro/labelme 5.5, utils/shape.py, shape_to_mask (lines 10 px wide, points of 5 px);
docs.supervisely.com, "Supervisely JSON annotation format" (objects: polygon, rectangle, line, bitmap).
"""

import base64
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtime.accuracy.bundled import drawing_of
from runtime.accuracy.shapes import UNREAD, Drawing, Points, Shape, points_of, side_of, text_of
from runtime.accuracy.stored import AS_STORED
from runtime.errors import DatasetError, FrameError
from runtime.json_values import read_json, told
from runtime.labels import IGNORED
from runtime.media.decoding import opencv_decoded
from runtime.media.frames import most_pixels
from runtime.texts import shown

LINE_PX, POINT_PX = 10, 5
BACKGROUNDS = ("_background_", "background")  # what no shape covers, where it is a class
NOT_COUNTED = "__ignore__"  # labelme's
BITMAP, MASK = "bitmap", "mask"
PNG_SIZE = slice(16, 24)  # width and height in a PNG's first chunk


def read_drawn(path: Path, names: Mapping[str, int], frame: str = "") -> np.ndarray:
    """A label as uint8 (height, width) train ids: later shapes lie over earlier ones; the rest is `background_of`.

    Args:
        path: of the JSON.
        names: of the classes -> train ids, or IGNORED.
        frame: its name in a file that holds the labels of many (`bundled`); empty: the file is of one.

    Raises:
        DatasetError: it cannot be read, or holds a shape of a class or kind that is not known.
    """
    try:
        height, width, shapes = _drawing(path, frame)
        if min(height, width) < 1 or height * width > most_pixels():
            raise ValueError(f"its picture has {height}x{width} pixels")
        ids = np.full((height, width), background_of(names), np.uint8)
        for shape in shapes:
            ids[_covered(shape, height, width)] = _id(shape.name, names)
    except OSError as error:
        raise DatasetError(f"{shown(path)} cannot be read ({error.strerror})") from None
    except (*UNREAD, FrameError, zlib.error) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{shown(path)} is no label that is read: {why[:200]}") from None
    return ids


def _drawing(path: Path, frame: str) -> Drawing:
    if frame:
        return drawing_of(path, frame)
    content = read_json(path)
    return _labelme(content) if "shapes" in content else _supervisely(content)


def background_of(names: Mapping[str, int]) -> int:
    """The train id of what no shape covers: that of the class `background`, or else IGNORED."""
    return next((names[name] for name in BACKGROUNDS if name in names), IGNORED)


def _id(name: str, names: Mapping[str, int]) -> int:
    if name == NOT_COUNTED:
        return IGNORED
    if name not in names:
        raise ValueError(f"a shape is labelled {told(name)}; the classes are {', '.join(names)}")
    return names[name]


def _labelme(content: dict[str, Any]) -> Drawing:
    shapes = (
        Shape(
            text_of(each["label"]), each.get("shape_type") or "polygon", points_of(each["points"]),
            bitmap=base64.b64decode(each.get("mask") or ""),
        )
        for each in content["shapes"]
    )  # fmt: skip
    return Drawing(side_of(content["imageHeight"]), side_of(content["imageWidth"]), shapes)


def _supervisely(content: dict[str, Any]) -> Drawing:
    size = content["size"]
    return Drawing(side_of(size["height"]), side_of(size["width"]), map(_object, content["objects"]))


def _object(each: dict[str, Any]) -> Shape:
    name, kind = text_of(each["classTitle"]), each["geometryType"]
    if kind == BITMAP:
        packed = base64.b64decode(each["bitmap"]["data"])
        picture = zlib.decompressobj().decompress(packed, most_pixels())
        return Shape(name, kind, points_of([each["bitmap"]["origin"]]), bitmap=picture)
    points = each["points"]
    return Shape(name, kind, points_of(points["exterior"]), tuple(map(points_of, points.get("interior", ()))))


def _covered(shape: Shape, height: int, width: int) -> np.ndarray:
    # bool (height, width): where the shape lies.
    from PIL import Image, ImageDraw

    if shape.covered is not None:
        return shape.covered
    if shape.kind in (BITMAP, MASK):
        return _stamped(shape, height, width)
    canvas = Image.new("L", (width, height))
    draw, points = ImageDraw.Draw(canvas), shape.points
    if shape.kind in ("polygon", "oriented_rectangle"):
        draw.polygon(_several(points, 3), fill=1, outline=1)
        for hole in shape.holes:
            draw.polygon(_several(hole, 3), fill=0, outline=1)
    elif shape.kind == "rectangle":
        (left, right), (top, bottom) = (sorted(side) for side in zip(*_several(points, 2), strict=True))
        draw.rectangle((left, top, right, bottom), fill=1, outline=1)
    elif shape.kind in ("line", "linestrip"):
        draw.line(_several(points, 2), fill=1, width=LINE_PX)
    elif shape.kind in ("circle", "point"):
        _dot(draw, points, shape.kind)
    else:
        raise ValueError(f"a shape is a {told(shape.kind)}; polygons, rectangles, circles, lines and masks are read")
    return np.asarray(np.asarray(canvas) != 0)


def _dot(draw: Any, points: Points, kind: str) -> None:
    x, y = points[0]
    radius = math.dist(points[0], points[1]) if kind == "circle" else POINT_PX
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)


def _stamped(shape: Shape, height: int, width: int) -> np.ndarray:
    if not shape.bitmap.startswith(b"\x89PNG"):
        raise ValueError(f"a {shape.kind} of {told(shape.name)} is no PNG")
    sides = shape.bitmap[PNG_SIZE]
    columns, rows = (int.from_bytes(side, "big") for side in (sides[:4], sides[4:]))
    left, top = (round(value) for value in shape.points[0])
    if min(left, top) < 0 or left + columns > width or top + rows > height:
        raise ValueError(
            f"a {shape.kind} of {told(shape.name)} is {rows}x{columns} at {top}, {left}: out of the picture"
        )
    pixels = opencv_decoded(shape.bitmap, AS_STORED)
    covered = np.zeros((height, width), bool)
    covered[top : top + rows, left : left + columns] = (pixels if pixels.ndim == 2 else pixels[..., -1]) != 0
    return covered


def _several(points: Points, fewest: int) -> Points:
    if len(points) < fewest:
        raise ValueError(f"a shape has {len(points)} points, expected {fewest} or more")
    return points
