"""The nouns: frozen, and the same in the ONNX metadata, in an engine's manifest and in a program."""

import dataclasses
import json
import math
import re
import types
import typing
from typing import Any, Literal, TypeVar

from runtime.json_values import told, values_from_json
from runtime.labels import Label

Precision = Literal["fp32", "fp16", "int8"]
BackendName = Literal["tensorrt", "tensorrt-rtx", "openvino", "onnxruntime"]
Fit = Literal["stretch", "pad", "auto"]
Upsample = Literal["half_pixel", "align_corners", "nearest"]
PRECISIONS: tuple[Precision, ...] = typing.get_args(Precision)
FITS: tuple[Fit, ...] = typing.get_args(Fit)
BACKENDS: tuple[BackendName, ...] = typing.get_args(BackendName)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")  # of a network: files are named after it
MOST_SIDE = 2**15  # of a network's input
MOST_BLOCK = 16
MOST_CLASSES = 255  # ids are bytes, and 255 is no class
ANY = "any"  # the device of an engine that fits every machine
MANIFEST_VERSION = 3  # of the manifest's fields and their meaning
# The same, of an engine whose logits `runtime.doubling` doubles: programs of before refuse it by that.
HALVED_VERSION = 4
READ_VERSIONS = (MANIFEST_VERSION, HALVED_VERSION)

T = TypeVar("T")
# Of a field that came later: not written where it has its default, so that files of before are read, and their
# checksums hold.
LATER = {"later": True}


@dataclasses.dataclass(frozen=True, slots=True)
class Preprocess:
    """How a frame becomes a network's input: resized to (height, width), then `(value * scale - mean) / std`.

    Mean and std are per channel in `channel_order`, in units of the scaled value. `fit` says what becomes of a frame of
    another shape (`runtime.fit.box_of`): stretched, or with its own aspect inside a border of the mean colour.
    """

    height: int
    width: int
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["RGB", "BGR"]
    fit: Fit = dataclasses.field(default="stretch", metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse what no frame can be brought to.

        Raises:
            ValueError: a side is not 1 to `MOST_SIDE`, a number is not finite, scale or std are not positive.
        """
        if not all(0 < side <= MOST_SIDE for side in (self.height, self.width)):
            raise ValueError(f"the size is {self.height}x{self.width}, expected sides of 1 to {MOST_SIDE}")
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))) or min(self.scale, *self.std) <= 0:
            raise ValueError(
                f"scale {self.scale}, mean {self.mean}, std {self.std}: finite ones, scale and std above 0"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network as everything after its export sees it.

    The graph's input is float (batch, 3, height, width), its output float
    (batch, classes * block**2, height / (output_stride * block), width / (output_stride * block)). With `batch_free`
    it takes any number of frames from 1 to `batch`, else exactly as many.

    `block` is 2 where the last layer is a 2x2 deconvolution of stride 2, written as the 1x1 convolution that it is:
    channel `c * 4 + 2 * dy + dx` holds class c at row 2y + dy and column 2x + dx of the logits.

    `upsample` is how the logits become as large as the frame (`runtime.reference.axis_table`): "nearest" where they are
    class ids that the graph made itself, 1 in the channel of its class and 0 in the others.
    """

    name: str
    preprocess: Preprocess
    classes: tuple[Label, ...]
    output_stride: int
    block: int
    batch: int
    weights_sha256: str
    source: str
    upsample: Upsample = dataclasses.field(default="half_pixel", metadata=LATER)
    batch_free: bool = dataclasses.field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse what no network is.

        Raises:
            ValueError: a name that is no file name, no class or more than 255, a stride, block or batch that is none.
        """
        if not NAME.fullmatch(self.name):
            raise ValueError(f"the name is {told(self.name)}, expected letters, digits and . _ + -")
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise ValueError(f"there are {len(self.classes)} classes, expected 1 to {MOST_CLASSES}")
        if not 1 <= self.block <= MOST_BLOCK or self.batch < 1 or self.output_stride < 1:
            raise ValueError(
                f"output_stride {self.output_stride}, block {self.block}, batch {self.batch}: expected 1 or more, "
                f"and a block of at most {MOST_BLOCK}"
            )

    @property
    def batch_shown(self) -> str:
        """How many frames it takes at once, as it is typed: "4" or "1-8"."""
        return f"1-{self.batch}" if self.batch_free else str(self.batch)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The machine and the library that an engine runs on; every field must be equal where it is opened."""

    library: str
    library_version: str
    device: str
    capability: str
    system: str


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """What an engine computes beside what its graph says, on the machine that built it; of all frames the worst.

    `apart` is the root mean square of the logits' difference as a share of their deviation, which may be `bound` at
    most (`runtime.proof`); `masks_equal` the share of pixels of the same class. With no frames `note` says why.
    """

    referee: str
    frames: int
    apart: float
    bound: float
    masks_equal: float
    note: str = ""


UNPROVEN = Proof("", 0, 0.0, 0.0, 0.0, "nothing was compared")


@dataclasses.dataclass(frozen=True, slots=True)
class EngineManifest:
    """What stands beside an engine.

    `precision` is what was asked, `executed` what the backend really runs: a count of weighted layers by type, and
    `types_from` by what that is known.
    """

    spec: ModelSpec
    precision: Precision
    executed: dict[str, int]
    backend: BackendName
    target: Target
    onnx_sha256: str
    engine_sha256: str
    created: str
    proof: Proof = UNPROVEN
    types_from: str = ""
    version: int = MANIFEST_VERSION


def to_json(noun: Any) -> str:
    """One of the nouns above as indented JSON."""
    return json.dumps(_values(noun), indent=1)


def from_json(kind: type[T], text: str) -> T:
    """The noun that `to_json` wrote.

    Raises:
        ValueError: it is not JSON, or a field is missing, unknown or of another type.
    """
    noun: T = _build(kind, values_from_json(text), kind.__name__)
    return noun


def _values(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {field.name: _values(own) for field, own in fields if not (_is_later(field) and own == field.default)}
    if isinstance(value, dict):
        return {key: _values(item) for key, item in value.items()}
    return [_values(item) for item in value] if isinstance(value, list | tuple) else value


def _is_later(field: "dataclasses.Field[Any]") -> bool:
    return bool(field.metadata.get("later"))


def _build(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_noun(typing.cast(type, kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} is {told(value)}, expected one of {', '.join(map(repr, arguments))}")
        return value
    if origin is dict and isinstance(value, dict):
        return {str(key): _build(arguments[1], item, f"{where}.{told(key)}") for key, item in value.items()}
    if origin is tuple or _is_namedtuple(kind):
        return _build_tuple(kind, arguments, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} is {told(value)}, expected {getattr(kind, '__name__', kind)}")
    return value


def _build_noun(kind: type, value: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    later = {field.name for field in dataclasses.fields(kind) if _is_later(field)}
    if not isinstance(value, dict) or set(value) | later != set(hints):
        got = sorted(value) if isinstance(value, dict) else value
        raise ValueError(f"{where} has {told(got)}, expected the fields {sorted(hints)!r}")
    return kind(**{name: _build(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _build_tuple(kind: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is {told(value)}, expected a list")
    if _is_namedtuple(kind):
        items = tuple(typing.get_type_hints(kind).values())
    else:
        items = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
    if len(items) != len(value):
        raise ValueError(f"{where} has {len(value)} items, expected {len(items)}")
    built = [_build(item, element, f"{where}[{i}]") for i, (item, element) in enumerate(zip(items, value, strict=True))]
    return kind(*built) if _is_namedtuple(kind) else tuple(built)


def _is_namedtuple(kind: Any) -> bool:
    return isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and hasattr(kind, "_fields")
