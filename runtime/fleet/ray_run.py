"""The items of a run on Ray Data: actors that each hold an open engine, on one machine or on many.

What is done is known by its rows, so that a run which was killed goes on where it ended; Ray's own checkpoints are not
used. Nothing is sent anywhere: Ray's usage statistics are off, its ports are on the loopback unless a cluster is named,
and who has no token is refused.
"""

import argparse
import math
import os
import secrets
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from runtime.bars import progress
from runtime.cli import log
from runtime.commands import missing
from runtime.errors import EngineError, LibraryError
from runtime.fleet.offers import Offer, packed
from runtime.fleet.ray_actor import RUN, Ledger, OnRay, Setting
from runtime.fleet.rows import Asked, Item, bytes_from_items, pyarrow
from runtime.fleet.scratch import scratch
from runtime.fleet.stores import Store, scheme_of
from runtime.texts import shown

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
MOST_IN_BLOCK = 8  # items that are lost with a worker, at most, and found done again but for the one on its way
BLOCKS_A_WORKER = 4  # at the least, so that none waits long for the last one
MOST_OF_A_REASON = 300  # characters
PATIENCE_S = 300.0
STORE_BYTES = 100 << 20  # of Ray's shared memory: what goes through it are lists
# Read by Ray when it is imported, and by all that it starts.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_TQDM": "0",
    "RAY_DATA_LOG_LEVEL": "CRITICAL", "RAY_BACKEND_LOG_LEVEL": "fatal",
}  # fmt: skip
# A head that is told the loopback takes the machine's other address for it, and listens on all of them, unless Ray is
# told that this is no cluster; the name is of the systems for which it is so by default.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
TOKEN_MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"


def run_on_ray(store: Store, todo: Sequence[Item], asked: Asked, offer: Offer, options: argparse.Namespace) -> None:
    """Do the items on Ray; their rows tell what became of each.

    Args:
        store: of the outputs; every machine sees it under its address.
        todo: one or more.
        asked: of every item.
        offer: engines.
        options: `address`, `workers`, `worker_cpus`, `worker_gpus`, `lanes`, `threads`.

    Raises:
        EngineError: a machine has no engine that computes what its graph says, or sees another folder.
        LibraryError: Ray is not installed, its cluster cannot be reached, or has less than is asked.
    """
    files = packed(offer)
    with _cluster(options) as ray:
        workers, machines = _workers(ray, options)
        run = secrets.token_hex(8)
        store.write(RUN, run.encode())
        setting = Setting(
            address=store.address if scheme_of(store.address) else str(Path(store.address).resolve()),
            run=run, root=str(Path.cwd()), asked=asked, lanes=options.lanes, threads=options.threads,
            workers=math.ceil(workers / machines), max_pixels=options.max_pixels,
        )  # fmt: skip
        log(f"{workers} worker{'s' * (workers > 1)} on {machines} machine{'s' * (machines > 1)}")
        # Closed before Ray is: what Ray ends without its server, it tells as an exception that is ignored.
        rows = _rows(ray, todo, setting, files, workers, options)
        with closing(rows), closing(watched(rows, PATIENCE_S)) as told:
            for row in progress(told, "segment", len(todo), "item"):
                _refuse_fatal(row)


def watched(rows: Iterator[T], patience_s: float) -> Generator[T, None, None]:
    """The rows; where none comes for so long, a line that says so, and what may be the reason."""
    came, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            came.clear()
            if not over.wait(patience_s) and not came.is_set():
                log(f"no item was finished for {patience_s:.0f} s; `ray status` tells if a worker waits for a place")

    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    try:
        for row in rows:
            came.set()
            yield row
    finally:
        over.set()
        watcher.join()


def block_of(items: int, workers: int) -> int:
    """How many items go to a worker at once."""
    return max(1, min(MOST_IN_BLOCK, items // (workers * BLOCKS_A_WORKER)))


def _rows(
    ray: Any, todo: Sequence[Item], setting: Setting, files: Any, workers: int, options: Any
) -> Generator[Any, None, None]:
    import io

    # The ledger lives where this process does: it is lost with it alone.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False)
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
    kept, block = ray.put(files), block_of(len(todo), workers)
    # A table is a block. They are made here, by no task of Ray's: none is lost with a machine, to be computed
    # again where no CPU is left for it, and nothing makes one block of several small ones.
    table = pyarrow().parquet.read_table(io.BytesIO(bytes_from_items(todo)))
    items = ray.data.from_arrow([table.slice(start, block) for start in range(0, len(todo), block)])
    done = items.map_batches(
        OnRay, fn_constructor_args=(kept, ledger, setting), batch_size=None, batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        num_cpus=options.worker_cpus, num_gpus=options.worker_gpus or None,
    )  # fmt: skip
    try:
        yield from done.iter_rows()
    except ray.exceptions.RayTaskError:
        raise  # a fault of ours, with where it is
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LibraryError(
            f"Ray ended the run ({shown(why)[:MOST_OF_A_REASON]}); what is done is kept: run it again"
        ) from None
    again = ray.get(ledger.again.remote())
    if again:
        log(f"{again} item{'s were' if again > 1 else ' was'} done again: the worker was lost")


def _refuse_fatal(row: dict[str, Any]) -> None:
    if row["fatal"]:
        raise EngineError(row["fatal"])


def _workers(ray: Any, options: argparse.Namespace) -> tuple[int, int]:
    """How many workers there will be, on how many machines at the least.

    Raises:
        LibraryError: the cluster has too little for them and for what gives them their items.
    """
    each = {"CPU": options.worker_cpus, **({"GPU": options.worker_gpus} if options.worker_gpus else {})}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit = [min(int(node.get(name, 0) // count) for name, count in each.items()) for node in nodes]
    machines = sum(count > 0 for count in fit)
    workers = options.workers or machines
    cpus = sum(node.get("CPU", 0) for node in nodes)
    if not machines or workers > sum(fit) or workers * options.worker_cpus > cpus - 1:
        wanted = ", ".join(f"{count} {name}" for name, count in each.items())
        raise LibraryError(
            f"{workers or 1} workers of {wanted} each, and one CPU beside them, are more than this cluster counts "
            f"({cpus:.0f} CPUs on {len(nodes)} machines): give fewer --workers, or start its machines with --num-cpus"
        )
    return workers, min(machines, workers)


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Any]:
    os.environ.update(QUIET)
    held = ExitStack()
    folder = None
    if options.address is None:
        os.environ |= ALONE
        os.environ |= {TOKEN_MODE: "token", TOKEN: secrets.token_hex(32)}
        folder = held.enter_context(scratch())
    elif os.environ.get(TOKEN_MODE) != "token":
        log(f"warning: {TOKEN_MODE} is not token: whoever reaches this cluster's ports can run programs on it")
    ray = _ray()
    try:
        _start(ray, options, folder)
        yield ray
    finally:
        silence_rays_threads()
        ray.shutdown()
        held.close()


def silence_rays_threads() -> None:
    """Of Ray's own threads none prints from now on that its server ended before it did."""
    told = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if not (raised.thread and raised.thread.name.startswith("ray_")):
            told(raised)

    threading.excepthook = hook


def _start(ray: Any, options: argparse.Namespace, folder: Path | None) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    if folder is not None:
        workers = options.workers or 1
        cpus = workers * options.worker_cpus + 1
        ray.init(
            num_cpus=cpus, num_gpus=workers * options.worker_gpus or None, include_dashboard=False,
            object_store_memory=STORE_BYTES, _node_ip_address=LOOPBACK, _temp_dir=str(folder), **quiet,
        )  # fmt: skip
        return
    try:
        ray.init(address=options.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LibraryError(f"Ray at {shown(options.address)} cannot be reached: {why}") from None


def _ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise missing(error) or error from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray
