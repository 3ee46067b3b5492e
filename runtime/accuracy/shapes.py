"""What a drawn label is made of, whichever tool wrote it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from runtime.json_values import told

Points = list[tuple[float, float]]
# What values of another form meet in what takes them for a label.
UNREAD = (ValueError, LookupError, TypeError, AttributeError, OverflowError, StopIteration)


class Shape(NamedTuple):
    """One shape of a label."""

    name: str
    kind: str
    points: Points
    holes: tuple[Points, ...] = ()
    bitmap: bytes = b""  # a PNG, its upper left corner at the first point
    covered: np.ndarray | None = None  # bool (height, width), of what is no shape


class Drawing(NamedTuple):
    """All of a frame."""

    height: int
    width: int
    shapes: Iterator[Shape]


def points_of(values: Any) -> Points:
    """Pairs of numbers. Raises ValueError or TypeError: they are none."""
    return [(float(x), float(y)) for x, y in values]


def text_of(value: Any) -> str:
    """A class's name. Raises TypeError: it is no text."""
    if not isinstance(value, str):
        raise TypeError(f"a class is named {told(value)}")
    return value


def side_of(value: Any) -> int:
    """Of a picture, in pixels. Raises TypeError: it is no whole number."""
    if type(value) is not int:
        raise TypeError(f"a side of its picture is {told(value)}")
    return value
