"""One item at a time through an open engine: its masks and its row, the row last."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import groupby, repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from runtime.backend import ClosedOnExit
from runtime.errors import FrameError
from runtime.fleet.listing import MASKS, version_at
from runtime.fleet.offers import Offer, engine_of_here
from runtime.fleet.rows import Asked, Item, Output, Row, bytes_from_rows
from runtime.fleet.scratch import scratch
from runtime.fleet.stores import Store, fetch, scheme_of
from runtime.labels import cityscapes_colors, palette
from runtime.lanes import Lanes, open_lanes
from runtime.media.found import FrameFile
from runtime.media.frames import read_frame
from runtime.media.outputs import Look, outputs_of
from runtime.media.parts import Part
from runtime.media.pictures import class_shares, segment_with, workers
from runtime.media.pipeline import overlapped
from runtime.media.recording import Recording
from runtime.media.streams import Done, StreamResult, segment_stream
from runtime.media.video import VideoReader
from runtime.spec import Fit
from runtime.texts import shown

T = TypeVar("T")

ROWS = "rows"  # a file each, until `runtime.fleet.results` joins them
TOLD = 3  # frames that are lost, of an item, by their own line
KEPT_FILES = 2  # that were fetched: parts of one video come one after another


class Made(NamedTuple):
    """What an engine made of an item: files by kind, and what the row tells of them."""

    files: list[tuple[str, Path]]
    told: dict[str, Any]
    lost: list[str]


class Worker(ClosedOnExit):
    """This machine's engine, open and proven, for items one after another."""

    def __init__(
        self,
        offer: Offer,
        store: Store,
        asked: Asked,
        *,
        lanes: int | None = None,
        sharing: int = 1,
        root: Path | None = None,
    ) -> None:
        """Choose or build the engine, hold it to its proof and open it.

        Args:
            offer: of engines.
            store: of the outputs.
            asked: of every item.
            lanes: frames in the engine at once; None: what it does best.
            sharing: workers on this machine, for what is told of the cost.
            root: what relative paths of inputs are below; None: the current folder.

        Raises:
            EngineError, LibraryError: as `engine_of_here`.
        """
        self._store, self._asked, self._root = store, asked, root or Path()
        with ExitStack() as stack:
            self._scratch = stack.enter_context(scratch())
            self._engine, self._manifest = engine_of_here(offer, self._scratch / "engines")
            opened = open_lanes(self._engine, lanes, fit=cast(Fit, asked.fit) or None, lone=False)
            self._lanes: Lanes = stack.enter_context(opened)
            self._held = stack.pop_all()
        classes = self._lanes.spec.classes
        shown_classes = cityscapes_colors(classes) if asked.colors == "cityscapes" else classes
        self._look = Look(palette(shown_classes), asked.alpha)
        self._named, self._workers = f"{socket.gethostname()}:{os.getpid()}", sharing

    def close(self) -> None:
        """Close the engine and delete what was fetched; a second call does nothing."""
        self._held.close()

    def do(self, item: Item) -> Row:
        """Do an item: write its masks, then its row. One that cannot be read is a row with its error.

        Raises:
            OutputError: something cannot be written.
            EngineError: the engine fails.
        """
        started, clock = time.time(), time.perf_counter()
        try:
            made = self._made(item)
            error = _lost(made)
        except (FrameError, MemoryError) as problem:
            what = (
                str(problem) if isinstance(problem, FrameError) else f"{shown(item.input)}: there is not enough memory"
            )
            made, error = Made([], {}, []), what
        outputs = tuple(self._published(kind, path) for kind, path in made.files)
        seconds = time.perf_counter() - clock
        return self._written(item, error, outputs=outputs, started=started, seconds=seconds, **made.told)

    def several(
        self, items: Iterable[Item], do: Callable[[Item], T], *, one_at_a_time: bool = False
    ) -> Generator[T, None, None]:
        """What `do` makes of each item, in their order: pictures several at the same time, a video by itself.

        Of a video, frames are decoded, segmented and encoded at the same time; of pictures, pictures are.

        Args:
            items: to be done.
            do: called by several threads.
            one_at_a_time: pictures, too.
        """
        threads = 1 if one_at_a_time else self._lanes.count + 2 * workers()
        with ThreadPoolExecutor(threads) as pool:
            for is_video, group in groupby(items, key=lambda item: item.is_video):
                through = map if is_video else pool.map
                yield from through(do, group)

    def give_up(self, item: Item, error: str) -> Row:
        """Write the row of an item that is not to be done, with why.

        Raises:
            OutputError: it cannot be written.
        """
        return self._written(item, error, started=time.time())

    def _written(self, item: Item, error: str, **told: Any) -> Row:
        manifest = self._manifest
        fields: dict[str, Any] = {
            "engine": self._engine.stem, "engine_sha256": manifest.engine_sha256, "graph_sha256": manifest.onnx_sha256,
            "precision": manifest.precision, "backend": manifest.backend, "device": manifest.target.device,
            "worker": self._named, "workers": self._workers, "key": item.key(self._asked, manifest.engine_sha256),
        }  # fmt: skip
        row = row_of(item, self._asked, error, **fields, **told)
        self._store.write(row_name(row.id), bytes_from_rows([row]))
        return row

    def _made(self, item: Item) -> Made:
        given = item.input if scheme_of(item.input) else str(self._root / item.input)
        if item.version != version_at(given):
            raise FrameError(f"{shown(item.input)}: is not what was listed: it is missing or has changed; run it again")
        path = self._here(item)
        try:
            if not item.sha256:
                _refuse_unlisted(item, path)
            return self._video(item, path) if item.is_video else self._picture(item, path)
        except FrameError as error:
            raise FrameError(_as_given(str(error), path, item)) from None
        finally:
            if scheme_of(item.input) and not item.is_video:
                path.unlink(missing_ok=True)

    def _here(self, item: Item) -> Path:
        # A file that is fetched keeps its suffix, by which a video is known.
        if not scheme_of(item.input):
            return self._root / item.input
        suffix = Path(item.place).suffix
        if not item.is_video:
            fetch(item.input, path := self._scratch / "pictures" / f"{item.id(self._asked)}{suffix}")
            return path
        path = self._scratch / "videos" / f"{item.sha256 or item.id(self._asked)}{suffix}"
        if not path.is_file():
            for old in sorted(path.parent.glob("*"), key=lambda each: each.stat().st_mtime_ns)[: -KEPT_FILES + 1]:
                old.unlink()
            fetch(item.input, path)
        return path

    def _outputs(self, item: Item) -> dict[str, Path]:
        named = outputs_of(FrameFile(Path(item.place), Path(item.place)), self._scratch / MASKS, self._asked.saves)
        if item.is_whole:
            return named
        return {kind: path.with_name(f"{path.stem}.{item.first:08d}{path.suffix}") for kind, path in named.items()}

    def _picture(self, item: Item, path: Path) -> Made:
        began = time.perf_counter()
        frame = read_frame(path)
        decoded = time.perf_counter()
        segmented = segment_with(self._lanes, frame)
        done = time.perf_counter()
        outputs = self._outputs(item)
        mark = item.key(self._asked, self._manifest.engine_sha256)
        self._look.write_pictures(outputs, frame, segmented.seen, mark, repeatable=True)
        stages_s = {"decode": decoded - began, "segment": done - decoded, "encode": time.perf_counter() - done}
        milliseconds = {name: 1e3 * seconds for name, seconds in stages_s.items()} | segmented.parts_ms
        mask: np.ndarray = segmented.seen.mask
        shares = class_shares(mask, self._lanes.spec)
        told = {"height": mask.shape[0], "width": mask.shape[1], "frames": 1, "shares": shares}
        return Made(list(outputs.items()), told | {"milliseconds": milliseconds}, [])

    def _video(self, item: Item, path: Path) -> Made:
        part = None if item.is_whole else Part(item.first, item.next, item.end, item.start, item.stop)
        stream, lost = StreamResult(item.input), list[str]()
        with VideoReader(path, part) as source:
            with Recording(self._outputs(item), self._look, source.rate, source.time_base, repeatable=True) as film:
                for done in self._passages(source, film, stream):
                    lost.append(_as_given(str(done), path, item))
            notes = "\n".join(_as_given(note, path, item) for note in source.notes)
            head, tail = source.seams
            told = {
                "height": stream.height, "width": stream.width, "frames": stream.frames, "damaged": len(lost),
                "missing": max(0, source.missing - len(lost)), "notes": notes, "seam_head": head, "seam_tail": tail,
                "video_s": float(stream.frames / source.rate),
            }  # fmt: skip
        if stream.frames:
            told |= {"shares": stream.shares, "milliseconds": stream.milliseconds}
        return Made(film.written, told, lost)

    def _passages(self, source: VideoReader, film: Recording, stream: StreamResult) -> Iterator[FrameError]:
        flow = segment_stream(self._lanes, source, film, repeat(None), overlapped, stream.clock, live=False)
        for done, stages_ms in flow:
            if isinstance(done, FrameError):
                yield done
            else:
                stream.add(cast(Done, done), stages_ms)
        stream.clock.stop()

    def _published(self, kind: str, path: Path) -> Output:
        name = path.relative_to(self._scratch).as_posix()
        data = path.read_bytes()
        self._store.put(name, path)
        path.unlink()
        return Output(kind, name, len(data), hashlib.sha256(data).hexdigest())


def row_of(item: Item, asked: Asked, error: str, *, key: str = "", **told: Any) -> Row:
    """The row of an item, with these fields beside those that it has itself."""
    itself = (item.input, item.place, item.version, item.sha256, item.is_video)
    return Row(item.id(asked), key, *itself, item.first, item.next, item.start, item.stop, error, **told)


def row_name(identity: str) -> str:
    """Where the row of an item lies below the folder of outputs, until it is joined."""
    return f"{ROWS}/{identity}.parquet"


def _refuse_unlisted(item: Item, path: Path) -> None:
    # Of bytes that nobody knows, masks could not be told from those of others. Why it was so is told while it lasts.
    if item.is_video:
        VideoReader(path).close()
    else:
        read_frame(path)
    raise FrameError(
        f"{shown(item.input)}: could not be read when it was listed, and can be now: list it again with `plan`, or run "
        "all of it again"
    )


def _lost(made: Made) -> str:
    more = f"; and {len(made.lost) - TOLD} more" if len(made.lost) > TOLD else ""
    return "; ".join(made.lost[:TOLD]) + more


def _as_given(text: str, path: Path, item: Item) -> str:
    return text.replace(shown(path), shown(item.input))
