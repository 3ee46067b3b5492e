"""What a label's values and colours stand for: its pixels as train ids, or why they can be read in two ways or in none.

A grey picture is read by value. A painted one, and one with a palette, by colour where all of its colours are named,
else by value (three equal channels, a palette of greys) or by index.
"""

from pathlib import Path

import numpy as np

from runtime.accuracy.own import NO_CLASS, NUMBERS, Color, ids_from_colors
from runtime.accuracy.stored import Stored
from runtime.errors import DatasetError
from runtime.labels import IGNORED
from runtime.texts import shown

NOT_GREY = 256
OUT_OF_RANGE = -1  # in a dataset's table: a stored value that no label of it may hold
Colors = dict[Color, int]


def ids_of(path: Path, stored: Stored, table: tuple[int, ...], colors: Colors | None, by: str | None) -> np.ndarray:
    """A label as uint8 (H, W) train ids, `IGNORED` where a pixel does not count.

    Args:
        path: of the label, for messages.
        stored: what it stores.
        table: 256 entries: stored value -> train id, IGNORED or OUT_OF_RANGE.
        colors: RGB -> train id or IGNORED; None where labels hold no colours.
        by: one of `READINGS` where the data set says which; None: as the file tells.

    Raises:
        DatasetError: a value or colour is none of the data set's, or both readings are possible and differ.
    """
    pixels, palette = stored
    if pixels.dtype != np.uint8:
        raise _odd_kind(path, pixels, colors)
    if pixels.ndim == 2 and palette is None and not (by == "colors" or _grey_by_color(pixels, table, colors, by)):
        return _by_value(path, pixels, table)
    if pixels.ndim == 2:
        return _of_plane(path, pixels, _colors_of(palette), table, colors, by, palette is not None)
    if (pixels == pixels[..., :1]).all():
        return _of_plane(path, pixels[..., 0], _colors_of(None), table, colors, by, False)
    if colors is None or by in NUMBERS:
        raise _odd_kind(path, pixels, colors)
    return _painted(path, pixels, colors)


def plain_values(stored: Stored) -> set[int]:
    """The values of a label that is grey, in one channel, in three equal ones or by its palette; else NOT_GREY."""
    pixels, palette = stored
    if pixels.dtype != np.uint8 or (pixels.ndim == 3 and (pixels != pixels[..., :1]).any()):
        return {NOT_GREY}
    shades = _colors_of(palette)
    used = [value for value in _used(pixels if pixels.ndim == 2 else pixels[..., 0]) if value < len(shades)]
    return {int(shades[value][0]) if len(set(_color(shades[value]))) == 1 else NOT_GREY for value in used}


def _grey_by_color(pixels: np.ndarray, table: tuple[int, ...], colors: Colors | None, by: str | None) -> bool:
    # A mask of 0 and 255 whose classes are black and white: 255 is no class by value, and one by colour.
    if not colors or by in NUMBERS or any(len(set(color)) > 1 for color in colors):
        return False
    used = _used(pixels)
    by_color = [colors.get((value, value, value)) for value in used]
    return None not in by_color and by_color != [table[value] for value in used]


def _of_plane(
    path: Path, plane: np.ndarray, shades: np.ndarray, table: tuple[int, ...], colors: Colors | None, by: str | None,
    indexed: bool,
) -> np.ndarray:  # fmt: skip
    # plane: uint8 (H, W) values or indices; shades: uint8 (256, 3), the colour of each.
    used = _used(plane)
    if indexed and len(used) and used[-1] >= len(shades):
        raise DatasetError(f"{shown(path)} is damaged: it holds the index {used[-1]} of {len(shades)} colours")
    painted = {value: (colors or {}).get(_color(shades[value]), NO_CLASS) for value in used}
    if by in (None, "colors") and NO_CLASS not in painted.values():
        return _mapped(plane, painted)
    if by == "colors":
        raise _unknown_color(path, next(_color(shades[value]) for value in used if painted[value] == NO_CLASS))
    ids = _by_numbers(path, used, shades, table, colors, by)
    _refuse_contradiction(path, painted, ids, by)
    return _mapped(plane, ids)


def _by_numbers(
    path: Path, used: list[int], shades: np.ndarray, table: tuple[int, ...], colors: Colors | None, by: str | None
) -> dict[int, int]:
    # A palette of greys may be a grey picture that an optimiser kept small, or classes in greys that people can see.
    greys = {value: table[shades[value][0]] for value in used if len(set(_color(shades[value]))) == 1}
    ids = {value: table[value] for value in used}
    whole = len(greys) == len(used) and OUT_OF_RANGE not in greys.values() and by != "indices"
    wrong = [value for value, train_id in ids.items() if train_id == OUT_OF_RANGE]
    if whole and (colors is None or by == "values" or wrong):
        return greys
    if whole and greys != ids:
        value = next(value for value in used if greys[value] != ids[value])
        raise _two_ways(path, f"index {value} has the grey {shades[value][0]}, which is another class")
    if wrong:
        raise DatasetError(
            f"{shown(path)} holds the number {wrong[-1]} of the colour {list(_color(shades[wrong[-1]]))}; labels are "
            f"{_taken(table)}" + (", or painted in the colours of classes.json" if colors is not None else "")
        )
    return ids


def _refuse_contradiction(path: Path, painted: dict[int, int], ids: dict[int, int], by: str | None) -> None:
    both = [value for value in ids if painted[value] not in (NO_CLASS, ids[value])]
    if both and by is None:
        number, color = (_told(of[both[0]]) for of in (ids, painted))
        raise _two_ways(path, f"{both[0]} is {number} by number and {color} by its colour; not all colours are named")


def _two_ways(path: Path, why: str) -> DatasetError:
    return DatasetError(
        f'{shown(path)} can be read in two ways ({why}); say one in classes.json: "labels": "colors", "values" or '
        '"indices"'
    )


def _told(train_id: int) -> str:
    return "ignored" if train_id == IGNORED else f"class {train_id}"


def _by_value(path: Path, pixels: np.ndarray, table: tuple[int, ...]) -> np.ndarray:
    ids: np.ndarray = np.asarray(table, np.int16)[pixels]
    if ids.min() == OUT_OF_RANGE:
        wrong = int(pixels[ids == OUT_OF_RANGE].max())
        raise DatasetError(
            f"{shown(path)} holds the value {wrong}; labels are {_taken(table)}{_from_one(pixels, table)}"
        )
    return np.asarray(ids, np.uint8)


def _from_one(pixels: np.ndarray, table: tuple[int, ...]) -> str:
    # The commonest slip: classes that are counted from 1.
    last = max(value for value, train_id in enumerate(table) if train_id not in (OUT_OF_RANGE, IGNORED))
    counted = pixels.min() > 0 and (pixels == last + 1).any()
    return "; are the classes counted from 1? They begin at 0" if counted else ""


def _painted(path: Path, pixels: np.ndarray, colors: Colors) -> np.ndarray:
    ids = ids_from_colors(pixels, colors)
    if ids.min() == NO_CLASS:
        raise _unknown_color(path, _color(pixels[ids == NO_CLASS][0]))
    return np.asarray(ids, np.uint8)


def _unknown_color(path: Path, color: Color) -> DatasetError:
    return DatasetError(f"{shown(path)} holds the colour {list(color)}, which classes.json neither names nor ignores")


def _odd_kind(path: Path, pixels: np.ndarray, colors: Colors | None) -> DatasetError:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    values = f", up to {pixels.max()}" if pixels.dtype != np.uint8 else ""
    found = f"{channels} channel{'s' * (channels > 1)} of {8 * pixels.itemsize} bits{values}"
    taken = "one, class ids up to 255" + (", or three, the colours of classes.json" if colors is not None else "")
    return DatasetError(f"{shown(path)} has {found}; a label has {taken}")


def _used(plane: np.ndarray) -> list[int]:
    return [int(value) for value in np.flatnonzero(np.bincount(plane.ravel(), minlength=256))]


def _colors_of(palette: np.ndarray | None) -> np.ndarray:
    return np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1) if palette is None else palette


def _color(row: np.ndarray) -> Color:
    red, green, blue = (int(value) for value in row)
    return red, green, blue


def _mapped(plane: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    table = np.full(256, IGNORED, np.uint8)
    for value, train_id in ids.items():
        table[value] = train_id
    return np.asarray(table[plane])


def _taken(table: tuple[int, ...]) -> str:
    # [0, 1, 2, 255] -> "0..2, 255"
    values = [value for value, train_id in enumerate(table) if train_id != OUT_OF_RANGE]
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in zip(starts, ends, strict=True))
