"""The calibration table: what a network's tensors reach on real frames, as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from calib.thresholds import LEVELS, METHODS, Method
from runtime.artifacts import ARTIFACTS, checksum_of, key_of, refuse_broken_seal, sha256_of, write_atomically
from runtime.cli import log
from runtime.commands import command, network_options
from runtime.errors import GraphError
from runtime.json_values import read_json, told
from runtime.spec import NAME, ModelSpec, from_json, to_json

TABLES = ARTIFACTS / "calib"
SHIPPED = Path(__file__).parent / "tables"
VERSION = 1
KEPT = 2  # frames that an INT8 graph is held to its float graph on
CHECKSUM = "table_checksum"
LARGEST = 65504.0  # of half precision, in which the graph computes
SMALLEST = LEVELS * 2.0**-24  # whose step is half precision's smallest


@dataclasses.dataclass(frozen=True, slots=True)
class CalibrationTable:
    """The ranges of a network's tensors on sampled frames, by every method, and which method and layers were chosen.

    `ranges` holds tensor -> method -> largest magnitude, `means` tensor -> mean of each channel; `float_layers` are the
    layers that stay FP16, those that `calib.sensitivity` chose and then those that `calib.speed` did.
    """

    model: str
    weights_sha256: str
    size: tuple[int, int]
    seed: int
    frames: tuple[str, ...]
    frames_sha256: tuple[str, ...]
    versions: dict[str, str]
    method: Method
    float_layers: tuple[str, ...]
    ranges: dict[str, dict[str, float]]
    means: dict[str, tuple[float, ...]]
    version: int = VERSION


def keep_frames(table_path: Path, table: CalibrationTable, frames: Sequence[Path]) -> None:
    """Note where some frames of a calibration lie: on them an INT8 graph is held to its float graph."""
    places = "".join(f"{frame.resolve()}\n" for frame in frames[:KEPT])
    write_atomically(_places(table_path, table), places.encode(errors="surrogateescape"))


def calibration_frames(table_path: Path, table: CalibrationTable) -> list[Path]:
    """Frames of a table's calibration that are still there as they were; none where nothing is noted of them."""
    place = _places(table_path, table)
    noted = place.read_bytes().decode(errors="surrogateescape").splitlines() if place.is_file() else []
    known = set(table.frames_sha256)
    return [path for path in map(Path, noted) if path.is_file() and sha256_of(path) in known]


def save_table(path: Path, table: CalibrationTable) -> None:
    """Write it, one tensor a line; the whole file or none of it.

    Raises:
        GraphError: `load_table` would not take it.
    """
    try:
        _check(table)
    except ValueError as error:
        raise GraphError(
            f"{path} would be no calibration table ({error}), and is not written; look at the weights of {table.model}"
        ) from None
    fields = json.loads(to_json(table))
    fields[CHECKSUM] = checksum_of(fields)
    lines = [f"{json.dumps(key)}: {_lined(value)}" for key, value in fields.items()]
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def load_table(path: Path) -> CalibrationTable:
    """The table at `path`.

    Raises:
        GraphError: missing, or no calibration table of this version.
    """
    try:
        refuse_broken_seal(path)
        table = _read(path)
        _check(table)
    except FileNotFoundError:
        raise GraphError(
            f"calibration table {path} does not exist; make one: {command('calib', model='...', data='...')}"
        ) from None
    except (ValueError, OSError) as error:
        raise GraphError(
            f"{path} is no calibration table ({error}); make one: {command('calib', model='...', data='...')}"
        ) from None
    if table.version != VERSION:
        raise GraphError(
            f"{path} is a calibration table of version {table.version}, expected {VERSION}; "
            f"make one: {command('calib', model=table.model, data='path')}"
        )
    return table


def _read(path: Path) -> CalibrationTable:
    # Raises ValueError: it is damaged. A table from before checksums has none.
    fields = read_json(path)
    checksum = fields.pop(CHECKSUM, None) if isinstance(fields, dict) else None
    if checksum is not None and checksum != checksum_of(fields):
        raise ValueError(f"damaged or edited: its checksum is another; where you edited it, delete {CHECKSUM!r}")
    return from_json(CalibrationTable, json.dumps(fields))


def _check(table: CalibrationTable) -> None:
    # Raises ValueError for what no calibration leaves: a scale that half precision cannot hold ruins a layer.
    if not NAME.fullmatch(table.model):
        raise ValueError(f"the model is {told(table.model)}")
    for name, values in table.means.items():
        if not values or not all(abs(value) <= LARGEST for value in values):
            raise ValueError(f"the means of {told(name)} are not finite numbers of half precision, or none")
    for name, by_method in table.ranges.items():
        if set(by_method) != set(METHODS):
            raise ValueError(f"tensor {told(name)} has ranges by {told(sorted(by_method))}, expected {sorted(METHODS)}")
        # What never was anything but zero has no range.
        is_dead = not any(by_method.values()) and name in table.means and not any(table.means[name])
        if not is_dead and not all(SMALLEST <= value <= LARGEST for value in by_method.values()):
            raise ValueError(
                f"a range of {told(name)} is none: {told(by_method)}; half precision has {SMALLEST:.2g} to {LARGEST:g}"
            )


def table_or_none(path: Path) -> CalibrationTable | None:
    """The table at `path`; None, and a warning, where that is none: it was found beside others, not named."""
    try:
        return load_table(path)
    except GraphError as error:
        log(f"warning: passed over: {error}")
        return None


def table_for(spec: ModelSpec, path: Path | None = None) -> tuple[Path, CalibrationTable]:
    """The table at `path`, by default what `find_table` finds, held to the weights of the spec; and where it is.

    Raises:
        GraphError: there is none, it cannot be read, or it is of other weights.
    """
    found = path or find_table(spec.name, spec.weights_sha256, spec.source)
    table = load_table(found)
    if table.weights_sha256 != spec.weights_sha256:
        raise GraphError(
            f"calibration table {found} is of other weights of {table.model} than the graph; "
            f"make one: {_made_by(spec.name, spec.source)}"
        )
    size = (spec.preprocess.height, spec.preprocess.width)
    if table.size != size:
        named = network_options(spec.name, spec.source)
        shown = ["x".join(map(str, each)) for each in (table.size, size)]
        log(
            f"ranges were taken at {shown[0]}, the graph is for {shown[1]}; "
            f"to take them there: {command('calib', **named, size=shown[1], data='path')}"
        )
    return found, table


def find_table(model: str, weights_sha256: str, source: str = "") -> Path:
    """The newest table of these weights that `make calib` left, else the one shipped.

    Raises:
        GraphError: there is none.
    """
    own = sorted(TABLES.glob(f"{model}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*own, *sorted(SHIPPED.glob(f"{model}-*.json"))):
        table = table_or_none(path)
        # A network and its parts share weights, but no tensors.
        if table and (table.model, table.weights_sha256) == (model, weights_sha256):
            return path
    raise GraphError(f"no calibration table for these weights of {model}; make one: {_made_by(model, source)}")


def _made_by(model: str, source: str) -> str:
    named = network_options(model, source)
    return command("calib", **named, weights=None if "onnx" in named else "path", data="path")


def _places(table_path: Path, table: CalibrationTable) -> Path:
    # By the frames: tables that leave other layers are of the same calibration.
    return table_path.with_name(f"frames-{key_of({'frames': table.frames_sha256})}.txt")


def _lined(value: object) -> str:
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n}"
    return json.dumps(value)
