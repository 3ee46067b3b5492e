"""What is kept of each item: one row, as Parquet of one fixed form, by itself first and then in one table."""

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.commands import missing


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every item and changes its outputs.

    Args:
        saves: of `runtime.media.outputs.SAVES`.
        alpha: of the overlay, 0..1.
        colors: `own` or `cityscapes`.
        fit: what becomes of frames of another shape; "": as the engine says.
    """

    saves: tuple[str, ...] = ("ids",)
    alpha: float = 0.5
    colors: str = "own"
    fit: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do, the same wherever and however often it is done: a picture, or a part of a video.

    Args:
        input: a path or an address.
        place: below the folder of masks, as `runtime.media.found.FrameFile` has it.
        version: of the input as it was listed: its bytes, and when or as what it was written.
        sha256: of its bytes; "" where it could not be read.
        is_video: whether it is one.
        part_s: seconds of film that were asked for in an item.
        first, next, end, start, stop: as `runtime.media.parts.Part`; None too where it is all of it.
    """

    input: str
    place: str
    version: str
    sha256: str
    is_video: bool = False
    part_s: float = 0.0
    first: int = 0
    next: int | None = None
    end: int | None = None
    start: int | None = None
    stop: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its input."""
        return self.start is None and self.stop is None

    @property
    def range(self) -> tuple[int, int | None]:
        """The packets that begin and end it; of a whole input all."""
        return self.first, self.next

    def id(self, asked: Asked) -> str:
        """By what its row is found again: its input's place and bytes, its range, and what is asked of it."""
        return _sum([self.place, self.sha256, self.is_video, *self.range, dataclasses.astuple(asked)])

    def key(self, asked: Asked, engine_sha256: str) -> str:
        """What its outputs follow from: the input's bytes, its range, the engine's bytes, and what is asked."""
        return _sum([self.sha256, engine_sha256, self.is_video, *self.range, dataclasses.astuple(asked)])


@dataclass(frozen=True, slots=True)
class Output:
    """A file that was written: what it is of, where below the folder of outputs, and its bytes."""

    kind: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Row:
    """What became of an item; the fields of results.parquet, in their order.

    Args:
        id, key: of the item.
        error: "" where all of it was done; else why not, or what was left out.
        engine, engine_sha256, graph_sha256, precision, backend, device: what computed it.
        worker: host and process.
        workers: that share the machine.
        started: seconds since 1970.
        seconds: that the worker had it.
        video_s: of film.
        damaged: frames left out as damaged; `missing`: that the times leave room for.
        notes: what is known of the input, a line each.
        shares: of each class in all of its masks, 0..1.
        milliseconds: by stage, the mean of its frames.
        seam_head, seam_tail: as `runtime.media.video.VideoReader.seams`.
    """

    id: str
    key: str
    input: str
    place: str
    version: str
    input_sha256: str
    is_video: bool
    first: int
    next: int | None
    start: int | None
    stop: int | None
    error: str
    engine: str = ""
    engine_sha256: str = ""
    graph_sha256: str = ""
    precision: str = ""
    backend: str = ""
    device: str = ""
    worker: str = ""
    workers: int = 1
    started: float = 0.0
    seconds: float = 0.0
    height: int = 0
    width: int = 0
    frames: int = 0
    video_s: float = 0.0
    damaged: int = 0
    missing: int = 0
    notes: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    seam_head: str = ""
    seam_tail: str = ""


# What differs from run to run and says nothing of the results.
OF_A_RUN = ("worker", "workers", "started", "seconds", "milliseconds")


def pyarrow() -> Any:
    """The library, with its part for Parquet loaded.

    Raises:
        LibraryError: it is not installed.
    """
    try:
        import pyarrow as library
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise missing(error) or error from None
    return library


def bytes_from_rows(rows: Iterable[Row]) -> bytes:
    """The rows as a Parquet file; of none it has the same columns."""
    return _bytes([dataclasses.asdict(row) for row in rows], _row_schema())


def rows_from_bytes(data: bytes) -> list[Row]:
    """What `bytes_from_rows` wrote.

    Raises:
        OSError, ValueError: it is something else.
    """
    return [_row(fields) for fields in _dicts(data, _row_schema())]


def bytes_from_items(items: Iterable[Item]) -> bytes:
    """The items as a Parquet file."""
    return _bytes([dataclasses.asdict(item) for item in items], item_schema())


def items_from_bytes(data: bytes) -> list[Item]:
    """What `bytes_from_items` wrote.

    Raises:
        OSError, ValueError: it is something else.
    """
    return [Item(**fields) for fields in _dicts(data, item_schema())]


@functools.cache
def item_schema() -> Any:
    """The columns of a list of items."""
    pa = pyarrow()
    texts = [(name, pa.string()) for name in ("input", "place", "version", "sha256")]
    numbers = [(name, pa.int64()) for name in ("first", "next", "end", "start", "stop")]
    return pa.schema([*texts, ("is_video", pa.bool_()), ("part_s", pa.float64()), *numbers])


@functools.cache
def _row_schema() -> Any:
    # Every type is named: a column that holds nothing yet would have none, and could not be read beside others.
    pa = pyarrow()
    output = [("kind", pa.string()), ("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())]
    kinds: dict[Any, Any] = {
        bool: pa.bool_(), int: pa.int64(), int | None: pa.int64(), float: pa.float64(), str: pa.string(),
        dict[str, float]: pa.map_(pa.string(), pa.float64()), tuple[Output, ...]: pa.list_(pa.struct(output)),
    }  # fmt: skip
    return pa.schema([(each.name, kinds[each.type]) for each in dataclasses.fields(Row)])


def _bytes(rows: Sequence[dict[str, Any]], schema: Any) -> bytes:
    pa = pyarrow()
    file = io.BytesIO()
    # There are as many files of one row as items: dictionaries and statistics would be a third of their bytes.
    several = len(rows) != 1
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pa.parquet.write_table(table, file, use_dictionary=several, write_statistics=several)
    return file.getvalue()


def _dicts(data: bytes, schema: Any) -> list[dict[str, Any]]:
    table = pyarrow().parquet.ParquetFile(io.BytesIO(data)).read()
    if table.schema != schema:
        raise ValueError("its columns are others")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def _row(fields: dict[str, Any]) -> Row:
    outputs = tuple(Output(**output) for output in fields.pop("outputs"))
    maps: dict[str, Any] = {name: dict(fields.pop(name)) for name in ("shares", "milliseconds")}
    return Row(**fields, **maps, outputs=outputs)


def _sum(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
