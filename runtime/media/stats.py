"""Pixels of each class by input, in regions of interest and over all: as CSV, or as Parquet."""

import csv
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.artifacts import LEFTOVER
from runtime.commands import missing
from runtime.errors import FrameError, OutputError
from runtime.json_values import read_json
from runtime.labels import IGNORED
from runtime.spec import ModelSpec
from runtime.texts import shown

WHOLE_FRAME = ""  # the region that is all of it
COLUMNS = ("input", "region", "class", "pixels", "share")
ROWS_AT_ONCE = 50_000
Counts = Mapping[str, np.ndarray]  # region -> int64 (classes,), pixels
FORM = '{"size": [height, width], "regions": {"NAME": [[x, y], [x, y], [x, y], ...]}}'


class Regions(NamedTuple):
    """Polygons in a frame of `size`; in one of another size they lie as they would if it were scaled to that."""

    size: tuple[int, int]
    polygons: dict[str, tuple[tuple[float, float], ...]]

    def masks(self, height: int, width: int) -> dict[str, np.ndarray]:
        """For each region bool (height, width): whether a pixel lies in it, its edge included."""
        import cv2

        scale = np.array([width / self.size[1], height / self.size[0]])
        found = {}
        for name, points in self.polygons.items():
            drawn = np.zeros((height, width), np.uint8)
            cv2.fillPoly(drawn, [np.round(np.array(points) * scale).astype(np.int32)], (1,))
            found[name] = drawn.astype(bool)
        return found


class Counting:
    """Counts of masks; the regions of a size are drawn once."""

    def __init__(self, spec: ModelSpec, regions: Regions | None = None, *, void: bool = False) -> None:
        """Of the classes of `spec` and, with `void`, of none; over all of a frame and in each region."""
        self._counted_ids = [*range(len(spec.classes)), *[IGNORED] * void]
        self._regions = regions
        self._drawn: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def of(self, mask: np.ndarray) -> Counts:
        """Pixels of each class, the void last. Thread-safe.

        Args:
            mask: uint8 (H, W) train ids.
        """
        height, width = mask.shape
        if self._regions and (height, width) not in self._drawn:
            self._drawn[height, width] = self._regions.masks(height, width)
        regions = self._drawn.get((height, width), {})
        inside = {name: self._counted(mask[area]) for name, area in regions.items()}
        return {WHOLE_FRAME: self._counted(mask.ravel()), **inside}

    def _counted(self, ids: np.ndarray) -> np.ndarray:
        return np.bincount(ids, minlength=256)[self._counted_ids].astype(np.int64)


def regions_from_file(path: Path) -> Regions:
    """The regions of a JSON file: `FORM`, x to the right and y down from the upper left corner, in pixels.

    Raises:
        FrameError: it cannot be read, or has another form.
    """
    try:
        content = read_json(path)
        height, width = content["size"]
        polygons = {str(name): tuple((float(x), float(y)) for x, y in at) for name, at in content["regions"].items()}
        if min(height, width) < 1 or not polygons or WHOLE_FRAME in polygons or min(map(len, polygons.values())) < 3:
            raise ValueError("a side under 1, no region, one without a name or of fewer than 3 points")
    except OSError as error:
        raise FrameError(f"{shown(path)}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FrameError(f"{shown(path)}: {error}; expected {FORM}") from None
    return Regions((height, width), polygons)


class Table:
    """A file of one row an input, region and class: written beside its name, and given it when it is whole."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Begin it: Parquet where the name ends in .parquet, else CSV; `names` are those of what is counted.

        Raises:
            OutputError: it cannot be written.
            LibraryError: pyarrow is not installed.
        """
        self.totals: dict[str, np.ndarray] = {}
        self._path, self._names = path, list(names)
        self._growing = path.with_name(f"{LEFTOVER}{secrets.token_hex(8)}.part")
        self._rows: list[tuple[Any, ...]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._file = os.fdopen(handle, "wb" if path.suffix == ".parquet" else "w", newline=self._newline())
            self._write = self._parquet() if path.suffix == ".parquet" else self._csv()
        except OSError as error:
            raise self._refusal(error) from None

    def add(self, name: str, counts: Counts) -> None:
        """Append an input.

        Raises:
            OutputError: it cannot be written.
        """
        for region, pixels in counts.items():
            self.totals[region] = self.totals.get(region, np.zeros_like(pixels)) + pixels
            whole = max(1, int(pixels.sum()))
            self._rows += [
                (name, region, label, int(n), int(n) / whole) for label, n in zip(self._names, pixels, strict=True)
            ]
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Complete it and give it its name.

        Raises:
            OutputError: it cannot be written.
        """
        self._flush()
        try:
            self._finish()
            self._file.close()
            self._growing.replace(self._path)
        except OSError as error:
            raise self._refusal(error) from None

    def overall(self) -> dict[str, dict[str, dict[str, float]]]:
        """Pixels and share of each class by region, over all inputs."""
        return {
            region or "all": {
                name: {"pixels": int(n), "share": int(n) / max(1, int(pixels.sum()))}
                for name, n in zip(self._names, pixels, strict=True)
            }
            for region, pixels in self.totals.items()
        }

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        try:
            self._write(rows)
        except OSError as error:
            raise self._refusal(error) from None

    def _newline(self) -> str | None:
        return None if self._path.suffix == ".parquet" else ""

    def _csv(self) -> Any:
        writer = csv.writer(self._file)
        writer.writerow(COLUMNS)
        self._finish: Any = self._file.flush
        return writer.writerows

    def _parquet(self) -> Any:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            self._growing.unlink(missing_ok=True)
            raise missing(error) or error from None
        kinds = (pyarrow.string(), pyarrow.string(), pyarrow.string(), pyarrow.int64(), pyarrow.float64())
        schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
        writer = parquet.ParquetWriter(self._file, schema)
        self._finish = writer.close

        def write(rows: Sequence[tuple[Any, ...]]) -> None:
            columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in COLUMNS]
            writer.write_table(pyarrow.table(columns, schema=schema))

        return write

    def _refusal(self, error: OSError) -> OutputError:
        self._growing.unlink(missing_ok=True)
        return OutputError(f"{shown(self._path)} cannot be written ({error.strerror}): give another place with --stats")
