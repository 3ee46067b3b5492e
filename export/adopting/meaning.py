"""What a file does not tell: how its frames are normalised, and what its classes are called. Nothing is guessed."""

import ast
import colorsys
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from export.adopting.options import IMAGENET_MEAN, ORDERS, PRESETS, Given
from export.checkpoints.own_names import classes_from_file
from runtime.errors import GraphError
from runtime.json_values import read_json, told, values_from_json
from runtime.labels import Label
from runtime.spec import FITS, Fit

FIELDS = ("scale", "mean", "std", "channel_order")
SCALED = {"scale", "mean", "std"}
HOW = (
    f"--preprocess FILE (the JSON of a Preprocess) or one of {', '.join(PRESETS)}, "
    "or --mean, --std, --scale and --order"
)
MOST_APART = 0.02  # of a mean from ImageNet's, in its own units: rounding, not another data set


class Known(NamedTuple):
    """How the file's own input is made of a frame, and who says so."""

    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str | None  # None: nobody says
    size: tuple[int, int] | None
    said_by: str
    fit: Fit = "stretch"


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """A file's own notes."""
    return {entry.key: entry.value for entry in model.metadata_props}


def normalisation(given: Given, metadata: dict[str, str], *, is_bytes: bool) -> Known:
    """How frames are normalised in front of the file: by the options, else its metadata, else as bytes.

    Args:
        given: the options.
        metadata: of the file.
        is_bytes: the file takes the frame's bytes, so that nothing stands in front of it.

    Raises:
        GraphError: nobody says it; it names the options.
    """
    fields, said_by = _said(given, metadata)
    own = {name: getattr(given, name) for name in ("scale", "mean", "std") if getattr(given, name) is not None}
    if given.order is not None:
        own["channel_order"] = given.order
    if own:
        said_by = ", ".join(filter(None, (said_by, *(f"--{name.replace('channel_', '')}" for name in own))))
    fields = {**fields, **own}
    if is_bytes and not fields.keys() & {"scale", "mean", "std"}:
        fields = {**PRESETS["none"], "channel_order": None, **fields}
        said_by = said_by or "its input is the frame's bytes"
    if is_bytes and any(
        tuple(_listed(fields[name])) != _listed(PRESETS["none"][name]) for name in SCALED & fields.keys()
    ):
        raise GraphError(
            f"the file takes the frame's bytes, nothing can stand in front of them, but {said_by} says so: "
            "give --order alone"
        )
    missing = [name for name in ("mean", "std", "scale") if name not in fields]
    if missing:
        raise GraphError(f"how frames are normalised is not in the file ({' and '.join(missing)}): give {HOW}")
    return _known(fields, said_by)


def order_of(known: Known, gain: Any, bias: Any, *, is_flipped: bool) -> str:
    """Which order of colours the file's input has, where its normalisation inside tells it.

    Args:
        gain, bias: float64 (3,), of the whole normalisation by the channels behind it.
        is_flipped: whether the file turns the channels' order itself.

    Raises:
        GraphError: neither the options nor ImageNet's mean inside tell it.
    """
    if known.channel_order:
        return known.channel_order
    # The mean that is subtracted behind a flip is in the network's order.
    mean = [-b / g / 255 for b, g in zip(bias, gain, strict=True)]
    for order, wanted in (("RGB", IMAGENET_MEAN), ("BGR", IMAGENET_MEAN[::-1])):
        if max(abs(a - b) for a, b in zip(mean, wanted, strict=True)) < MOST_APART:
            return order if not is_flipped else ORDERS[order == "RGB"]
    raise GraphError(f"whether the file takes RGB or BGR is not in it: --order {' or '.join(ORDERS)}")


def classes_for(given: Path | None, count: int, metadata: dict[str, str]) -> tuple[tuple[Label, ...], str]:
    """The classes of an output of so many channels, and who names them; numbered ones where nobody does.

    Raises:
        WeightsError: `given` is no classes.json.
        GraphError: it names another number of classes.
    """
    if given is not None:
        classes = classes_from_file(given)
        if len(classes) != count:
            raise GraphError(f"{given} names {len(classes)} classes, the output has {count}")
        return classes, str(given)
    names = _names(metadata, count)
    return tuple(Label(name, _color(i, count)) for i, name in enumerate(names or _numbered(count))), (
        "the file's metadata" if names else "nobody: they are numbered; --classes classes.json names them"
    )


def _said(given: Given, metadata: dict[str, str]) -> tuple[dict[str, Any], str]:
    if given.preprocess in PRESETS:
        return PRESETS[str(given.preprocess)], f"preset {given.preprocess}"
    if given.preprocess is not None:
        return _from_file(Path(given.preprocess)), given.preprocess
    try:
        if "preprocess" in metadata:
            return _fields(values_from_json(metadata["preprocess"])), "the file's metadata"
        if metadata.keys() >= {"mean", "std", "scale"}:
            values = {name: values_from_json(metadata[name]) for name in ("mean", "std", "scale")}
            order = {"channel_order": metadata["channel_order"]} if "channel_order" in metadata else {}
            return _fields({**values, **order}), "the file's metadata"
    except ValueError as error:
        raise GraphError(f"the file's metadata of its normalisation are not readable ({error}): give {HOW}") from None
    return {}, ""


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GraphError(f"--preprocess {path} is neither a file nor one of {', '.join(PRESETS)}")
    try:
        return _fields(read_json(path))
    except ValueError as error:
        raise GraphError(f"{path} is no Preprocess: {error}") from None


def _fields(values: Any) -> dict[str, Any]:
    # Raises ValueError. Height, width and fit may be left out.
    known = {*FIELDS, "height", "width", "fit"}
    if not isinstance(values, dict) or not values.keys() <= known or not values.keys() >= {"scale", "mean", "std"}:
        got = sorted(values) if isinstance(values, dict) else values
        raise ValueError(f"it has {told(got)}, expected {', '.join(FIELDS)} and at most height, width and fit")
    return values


def _known(fields: dict[str, Any], said_by: str) -> Known:
    order = fields.get("channel_order")
    sides = [fields[name] for name in ("height", "width") if name in fields]
    if order not in (None, *ORDERS) or len(sides) == 1 or not all(type(side) is int and side > 0 for side in sides):
        raise GraphError(f"{said_by}: order {order!r}, height and width {sides}: expected RGB or BGR, and both or none")
    try:
        scale, mean, std = float(fields["scale"]), _three(fields["mean"]), _three(fields["std"])
    except (TypeError, ValueError):
        raise GraphError(f"{said_by}: scale is one number, mean and std are three each") from None
    fit = fields.get("fit", "stretch")
    if fit not in FITS:
        raise GraphError(f"{said_by}: fit is {told(fit)}, expected one of {', '.join(FITS)}")
    return Known(scale, mean, std, order, (sides[0], sides[1]) if sides else None, said_by, fit)


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


def _names(metadata: dict[str, str], count: int) -> list[str]:
    # As ultralytics writes them, {0: 'road', 1: ...}, or as a list.
    text = metadata.get("names", "")[:100_000]
    try:
        found = ast.literal_eval(text) if text.startswith("{") else values_from_json(text)
        names = [found[i] for i in range(count)] if len(found) == count else []
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        return []
    good = all(isinstance(name, str) and name.strip() and name.isprintable() for name in names)
    return names if good and len(set(names)) == len(names) else []


def _numbered(count: int) -> list[str]:
    return [f"class {i}" for i in range(count)]


def _color(i: int, count: int) -> tuple[int, int, int]:
    # Black for the first, then around the wheel, every other one darker.
    if i == 0:
        return (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(i / count, 0.85, 1.0 if i % 2 else 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)
