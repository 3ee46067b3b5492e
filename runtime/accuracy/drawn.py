"""Labels that are drawn, not painted: the JSON of labelme and of Supervisely as train ids, shape over shape.

Source: wkentaro/labelme 5.5, utils/shape.py, shape_to_mask (lines 10 px wide, points of 5 px);
docs.supervisely.com, "Supervisely JSON annotation format" (objects: polygon, rectangle, line, bitmap).
"""

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.accuracy.stored import AS_STORED
from runtime.errors import DatasetError, FrameError
from runtime.json_values import read_json, told
from runtime.labels import IGNORED
from runtime.media.decoding import opencv_decoded
from runtime.media.frames import most_pixels
from runtime.texts import shown

Points = list[tuple[float, float]]
LINE_PX, POINT_PX = 10, 5
BACKGROUNDS = ("_background_", "background")  # what no shape covers, where it is a class
NOT_COUNTED = "__ignore__"  # labelme's
BITMAP, MASK = "bitmap", "mask"
PNG_SIZE = slice(16, 24)  # width and height in a PNG's first chunk


class Shape(NamedTuple):
    """One shape of a label."""

    name: str
    kind: str
    points: Points
    holes: tuple[Points, ...] = ()
    bitmap: bytes = b""  # a PNG, its upper left corner at the first point


def read_drawn(path: Path, names: Mapping[str, int]) -> np.ndarray:
    """A label as uint8 (height, width) train ids: later shapes lie over earlier ones; the rest is `background_of`.

    Args:
        path: of the JSON.
        names: of the classes -> train ids, or IGNORED.

    Raises:
        DatasetError: it cannot be read, or holds a shape of a class or kind that is not known.
    """
    try:
        content = read_json(path)
        height, width, shapes = _labelme(content) if "shapes" in content else _supervisely(content)
        if min(height, width) < 1 or height * width > most_pixels():
            raise ValueError(f"its picture has {height}x{width} pixels")
        ids = np.full((height, width), background_of(names), np.uint8)
        for shape in shapes:
            ids[_covered(shape, height, width)] = _id(shape.name, names)
    except OSError as error:
        raise DatasetError(f"{shown(path)} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, FrameError, zlib.error) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{shown(path)} is no label of labelme or Supervisely that is read: {why[:200]}") from None
    return ids


def background_of(names: Mapping[str, int]) -> int:
    """The train id of what no shape covers: that of the class `background`, or else IGNORED."""
    return next((names[name] for name in BACKGROUNDS if name in names), IGNORED)


def _id(name: str, names: Mapping[str, int]) -> int:
    if name == NOT_COUNTED:
        return IGNORED
    if name not in names:
        raise ValueError(f"a shape is labelled {told(name)}; the classes are {', '.join(names)}")
    return names[name]


def _labelme(content: dict[str, Any]) -> tuple[int, int, Iterator[Shape]]:
    shapes = (
        Shape(
            _text(each["label"]), each.get("shape_type") or "polygon", _points(each["points"]),
            bitmap=base64.b64decode(each.get("mask") or ""),
        )
        for each in content["shapes"]
    )  # fmt: skip
    return _side(content["imageHeight"]), _side(content["imageWidth"]), shapes


def _supervisely(content: dict[str, Any]) -> tuple[int, int, Iterator[Shape]]:
    size = content["size"]
    return _side(size["height"]), _side(size["width"]), map(_object, content["objects"])


def _object(each: dict[str, Any]) -> Shape:
    name, kind = _text(each["classTitle"]), each["geometryType"]
    if kind == BITMAP:
        packed = base64.b64decode(each["bitmap"]["data"])
        picture = zlib.decompressobj().decompress(packed, most_pixels())
        return Shape(name, kind, _points([each["bitmap"]["origin"]]), bitmap=picture)
    points = each["points"]
    return Shape(name, kind, _points(points["exterior"]), tuple(map(_points, points.get("interior", ()))))


def _covered(shape: Shape, height: int, width: int) -> np.ndarray:
    # bool (height, width): where the shape lies.
    from PIL import Image, ImageDraw

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
    return np.asarray(canvas) != 0


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


def _points(values: Any) -> Points:
    return [(float(x), float(y)) for x, y in values]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a class is named {told(value)}")
    return value


def _side(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"a side of its picture is {told(value)}")
    return value
