"""What runs inside of Ray: a worker that holds an open engine, and the ledger of what was begun."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from runtime.errors import EngineError, PipelineError
from runtime.fleet.offers import Packed
from runtime.fleet.rows import Asked, Item, pyarrow
from runtime.fleet.scratch import scratch
from runtime.fleet.stores import Store, store_of
from runtime.fleet.worker import Worker, row_name
from runtime.media.frames import allow_pixels
from runtime.texts import shown
from runtime.threads import for_command, usable

RUN = "plan/run"  # what tells a machine that sees the outputs from one that has another folder of that name
MOST_BEGUN = 3  # times that an item takes its worker with it


class Setting(NamedTuple):
    """What every worker of a run is told.

    Args:
        address: of the outputs, the same on every machine.
        run: what stands in their `RUN`.
        root: what relative paths of inputs are below.
        asked: of every item.
        lanes, threads, max_pixels: as options.
        workers: that share a machine.
    """

    address: str
    run: str
    root: str
    asked: Asked
    lanes: int | None
    threads: int | None
    workers: int
    max_pixels: int | None


class Ledger:
    """How often each item was begun: one that kills its worker every time is given up."""

    def __init__(self) -> None:
        """Nothing was begun."""
        self._begun: Counter[str] = Counter()

    def begin(self, identity: str) -> int:
        """Note that an item is begun; how often that was so."""
        self._begun[identity] += 1
        return self._begun[identity]

    def begun(self, identities: list[str]) -> int:
        """How many of these items were begun."""
        return sum(self._begun[identity] > 0 for identity in identities)

    def found(self, identity: str) -> None:
        """Note that an item which was begun again was done before its worker was lost."""
        self._begun[identity] -= 1

    def again(self) -> int:
        """How many items were begun more than once."""
        return sum(count > 1 for count in self._begun.values())


class OnRay:
    """A worker as Ray Data calls one: a batch of items in, what became of each out."""

    def __init__(self, files: Any, ledger: Any, setting: Setting) -> None:
        """Nothing is opened before the first item: what fails then is told as a result.

        Args:
            files: a reference of Ray's to a `Packed` offer.
            ledger: a handle of Ray's to the `Ledger`.
            setting: of the run.
        """
        self._kept, self._ledger, self._setting = files, ledger, setting
        self._threads = setting.threads or (max(1, usable() // setting.workers) if setting.workers > 1 else None)
        self._worker: Worker | None = None
        self._held = ExitStack()
        allow_pixels(setting.max_pixels)

    def __call__(self, batch: Any) -> Iterator[Any]:
        """Do the items of a pyarrow table; yields a table of one row for each."""
        items = [Item(**fields) for fields in batch.to_pylist()]
        with for_command(self._threads):
            try:
                for item, error in zip(items, self._errors(items), strict=True):
                    yield _told(item, error=error)
            except PipelineError as problem:
                yield _told(items[0], fatal=str(problem))

    def _errors(self, items: list[Item]) -> Iterator[str]:
        import ray

        store = store_of(self._setting.address)
        worker = self._opened(store)
        # Of items that a worker was lost with one may be the reason: none is to be blamed for what is done beside it.
        before: int = ray.get(self._ledger.begun.remote([item.id(self._setting.asked) for item in items]))
        return worker.several(items, partial(self._done, worker, store), one_at_a_time=before > 0)

    def _done(self, worker: Worker, store: Store, item: Item) -> str:
        import ray

        identity = item.id(self._setting.asked)
        begun: int = ray.get(self._ledger.begin.remote(identity))
        if begun > 1 and store.has(row_name(identity)):
            self._ledger.found.remote(identity)
            return ""
        if begun > MOST_BEGUN:
            return worker.give_up(item, f"{shown(item.input)}: its worker was killed {MOST_BEGUN} times").error
        return worker.do(item).error

    def _opened(self, store: Store) -> Worker:
        import ray

        if self._worker is None:
            _refuse_elsewhere(store, self._setting)
            files: Packed = ray.get(self._kept)
            told = self._setting
            offer = files.unpacked(self._held.enter_context(scratch()))
            how = (offer, store, told.asked)
            self._worker = Worker(*how, lanes=told.lanes, sharing=told.workers, root=Path(told.root))
        return self._worker


def _refuse_elsewhere(store: Store, setting: Setting) -> None:
    try:
        found = store.read(RUN).decode()
    except OSError:
        found = ""
    if found != setting.run:
        import socket

        raise EngineError(
            f"{socket.gethostname()} does not see the outputs of this run at {store.address}: give -o a folder that "
            "all machines share, or s3://BUCKET/PREFIX"
        )


def _told(item: Item, *, error: str = "", fatal: str = "") -> Any:
    pa = pyarrow()
    schema = pa.schema([(name, pa.string()) for name in ("input", "error", "fatal")])
    return pa.Table.from_pylist([{"input": item.input, "error": error, "fatal": fatal}], schema=schema)
