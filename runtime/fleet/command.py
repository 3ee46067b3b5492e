"""`python -m runtime.fleet INPUT... -o DIR`: masks of many pictures and videos, over many machines.

Each picture, and each part of a video, is an item: its masks and a row of results.parquet, written whole or not at all.
Items that are done are not done again, whatever ended the run before. Ray drives them; `plan`, `--item K/N` on each of
N machines and `merge` do the same without it.
"""

import argparse
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import NamedTuple

from runtime import cli
from runtime.errors import OutputError
from runtime.fleet.listing import listed, refuse_wrong
from runtime.fleet.offers import Offer, known
from runtime.fleet.options import PLAN, options_of
from runtime.fleet.plan import kept, planned, share
from runtime.fleet.results import RESULTS, join, to_do
from runtime.fleet.rows import Asked, Item, pyarrow
from runtime.fleet.stores import Folder, Store, store_of
from runtime.fleet.summary import PAGE, write_summary
from runtime.fleet.worker import Worker
from runtime.lookup import chosen_engine
from runtime.texts import shown
from runtime.threads import for_command

LOCK = ".fleet.lock"


class Job(NamedTuple):
    """What a run is about: where it writes, what it does, what is asked of every item, and by which engines."""

    store: Store
    items: list[Item]
    asked: Asked
    offer: Offer


def main(argv: Sequence[str]) -> int:
    """Do what `argv` says.

    Raises:
        PipelineError: nothing could be done, or an output cannot be written.
        KeyboardInterrupt: Ctrl-C, when the item on its way is done.
    """
    options = options_of(argv)
    pyarrow()
    store = store_of(options.output)
    alone = options.item is None and options.word != PLAN
    with _claimed(store, alone=alone):
        items, asked = _planned(options, store)
        job = Job(store, items, asked, _offer(options))
        if options.word == PLAN:
            cli.show(f"{len(items)} items")
            return cli.DONE
        if options.item is not None:
            return _do_share(job, options)
        if options.word is None:
            _do_all(job, options)
        return _joined(job)


def _do_share(job: Job, options: argparse.Namespace) -> int:
    todo = _to_do(job._replace(items=share(job.items, *options.item)), options)
    with cli.interruptible() as stop, for_command(options.threads):
        failed = _do_here(job, todo, stop, options) if todo else 0
    if stop.is_set():
        raise KeyboardInterrupt
    cli.show(f"{len(todo)} items done, {failed} with an error")
    return cli.FAILED if failed else cli.DONE


def _do_here(job: Job, todo: list[Item], stop: threading.Event, options: argparse.Namespace) -> int:
    failed = 0
    with Worker(job.offer, job.store, job.asked, lanes=options.lanes, sharing=options.workers or 1) as worker:
        rows = worker.several(takewhile(lambda _: not stop.is_set(), todo), worker.do)
        for row in cli.progress(rows, "segment", len(todo), "item"):
            if row.error:
                failed += 1
                cli.fail(row.error)
            if stop.is_set():
                rows.close()
    return failed


def _do_all(job: Job, options: argparse.Namespace) -> None:
    # Ray is not started for nothing: a run that is done ends in a second.
    todo = _to_do(job, options)
    if todo:
        from runtime.fleet.ray_run import run_on_ray

        run_on_ray(job.store, todo, job.asked, job.offer, options)


def _joined(job: Job) -> int:
    joined = join(job.store, job.items, job.asked)
    told = write_summary(job.store, joined)
    engines = {row.engine_sha256: row.engine for row in joined.rows if row.engine_sha256}
    if len(engines) > 1:
        cli.log(f"rows are of {len(engines)} engines: {', '.join(sorted(engines.values()))}")
    for row in joined.failed:
        cli.fail(row.error)
    if joined.open:
        cli.fail(f"{len(joined.open)} of {told['items']} items have no row yet: run it again")
    cli.show(f"{job.store.address}/{RESULTS}", f"{job.store.address}/{PAGE}", _line(told))
    return cli.FAILED if joined.failed or joined.open else cli.DONE


def _line(told: dict[str, float]) -> str:
    hour = told["machine_seconds_per_video_hour"]
    cost = f", {hour:.0f} an hour of video" if hour is not None else ""
    failed = f", {told['failed']} with an error" if told["failed"] else ""
    spent = f"{told['machine_seconds']:.0f} machine seconds{cost}"
    return f"{told['done']} items done{failed}, {told['frames']} frames; {spent}"


def _to_do(job: Job, options: argparse.Namespace) -> list[Item]:
    todo = to_do(job.items, job.store, job.asked, known(job.offer), retry_errors=options.retry_errors)
    cli.log(f"{len(job.items)} items, {len(job.items) - len(todo)} done before")
    return todo


def _planned(options: argparse.Namespace, store: Store) -> tuple[list[Item], Asked]:
    if not (options.inputs or options.list):
        items, asked = kept(store)
        _refuse_other(options, items, asked)
        return items, asked
    inputs = listed(options.inputs, options.list, options.output)
    refuse_wrong(inputs, options.output, options.save)
    asked = Asked(options.save, options.alpha, options.colors, options.fit or "")
    return planned(inputs, store, options.part_seconds, asked), asked


def _refuse_other(options: argparse.Namespace, items: list[Item], asked: Asked) -> None:
    # What was planned is done as it was planned: an option that says otherwise would be passed over.
    plan = {"save": asked.saves, "alpha": asked.alpha, "colors": asked.colors, "fit": asked.fit or None}
    plan |= {"part_seconds": items[0].part_s} if items else {}
    for name in options.given:
        if name in plan and getattr(options, name) != plan[name]:
            option, planned_as = f"--{name.replace('_', '-')}", plan[name]
            told = ",".join(planned_as) if isinstance(planned_as, tuple) else planned_as
            raise OutputError(
                f"{option} is {told or 'as the engine says'} in the plan at {shown(options.output)}: leave {option} "
                f"out, or plan INPUT... {option} ... first"
            )


def _offer(options: argparse.Namespace) -> Offer:
    engines = tuple(options.engine)
    if not engines and options.graph is None and options.word is None:
        engines = (chosen_engine(),)
    return Offer(engines, options.graph, options.precision, options.backend, options.require_signed)


@contextmanager
def _claimed(store: Store, *, alone: bool) -> Iterator[None]:
    # Shares of `--item` may run beside each other; a run of all, and `merge`, may not run beside any.
    if not isinstance(store, Folder):
        yield
        return
    import fcntl

    try:
        store.path.mkdir(parents=True, exist_ok=True)
        file = (store.path / LOCK).open("wb")
    except OSError as error:
        raise OutputError(f"{shown(store.path)} cannot be written ({error.strerror}): give another -o") from None
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another run writes to {shown(store.path)}: wait for it, or give another -o") from None
        except OSError:  # a file system without locks
            pass
        try:
            if alone:
                store.clear_parts()
            yield
        finally:
            if alone:
                store.clear_parts()
