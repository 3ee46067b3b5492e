"""A fleet tried for real: `python -m tests.fleet_trial --json figures/fleet.json`, as root.

250 pictures and 5 videos go every way there is: shares without Ray, Ray on one machine, from bucket to bucket of an S3
server, two hosts in network namespaces; and a worker, the driver, a host and the cable between two hosts are lost in
the middle. Each must leave the same rows and the same bytes. Exit code 1 where one does not.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from runtime.artifacts import write_atomically
from runtime.cli import DONE, FAILED, log, run
from runtime.fleet.rows import Row, rows_from_bytes
from runtime.measure.fingerprint import command_line, machine, today
from tests.helpers.engines import built_engine
from tests.helpers.fleet import fill, masks, results, told
from tests.helpers.fleet_runs import Run, descendants, kill, named, rows_there, running
from tests.helpers.two_hosts import HEAD, PORT, TwoHosts, two_hosts

PICTURES, FILMS, SIZE = 250, 5, (600, 800)
HOW = ("--part-seconds", "0.5")
BUCKET = "s3://archive/"
MIDDLE = 0.4  # of the items are done when something is lost


class Way(NamedTuple):
    """What became of one way."""

    name: str
    seconds: float
    rows_equal: bool
    masks_equal: bool
    duplicates: int
    parts_left: int
    done_before: int  # items that had a row when something was lost
    done_again: int  # items that had been begun, and were done again
    exits: list[int]

    @property
    def right(self) -> bool:
        """Whether it is as it must be."""
        return self.rows_equal and self.masks_equal and not self.duplicates and not self.parts_left


class Trial:
    """Inputs, an engine, and what a run alone makes of them."""

    def __init__(self, folder: Path) -> None:
        """Make them."""
        self.folder, self.ways = folder, list[Way]()
        fill(folder / "in", pictures=PICTURES, films=FILMS, bad=True, size=SIZE)
        self.engine = built_engine(folder / "engines")
        started = time.perf_counter()
        exits = [self.run("plan", "in", "-o", "alone", *HOW)]
        exits += [self.run("-o", "alone", "--item", f"{k}/3", "--engine", str(self.engine)) for k in (1, 2, 3)]
        exits += [self.run("merge", "-o", "alone")]
        self.rows, self.masks = told(results(folder / "alone")), masks(folder / "alone")
        self.note("three shares without Ray", time.perf_counter() - started, folder / "alone", exits=exits)

    def words(self, out: str) -> list[str]:
        """What is typed."""
        return ["in", "-o", out, *HOW, "--engine", str(self.engine)]

    def run(self, *words: str, **how: Any) -> int:
        """A run to its end; its exit code."""
        with running(self.folder, *words, **how) as run:
            run.ended([DONE, FAILED])
            return run.process.returncode

    def note(self, name: str, seconds: float, out: Path, *, before: int = 0, again: int = 0, exits: list[int]) -> None:
        """Keep what a way made in a folder."""
        self.add(name, seconds, results(out), masks(out), len(list(out.rglob("*.part"))), before, again, exits)

    def add(
        self, name: str, seconds: float, rows: list[Row], found: dict[str, bytes], parts: int, before: int, again: int,
        exits: list[int],
    ) -> None:  # fmt: skip
        """Hold rows and masks to those of the run alone."""
        same = told(rows) == self.rows
        twice = len(rows) - len({row.id for row in rows})
        way = Way(name, round(seconds, 1), same, found == self.masks, twice, parts, before, again, exits)
        self.ways.append(way)
        log(f"{name}: {way.seconds} s, {'right' if way.right else 'WRONG'}, {before} before, {again} again, {exits}")

    def lost(
        self, name: str, out: str, lose: Callable[[Run], object], *words: str, then: bool = False, **how: Any
    ) -> None:
        """A run in whose middle something is lost; `then` it is typed again."""
        started, middle = time.perf_counter(), int(MIDDLE * len(self.rows))
        with running(self.folder, *self.words(out), *words, **how) as run:
            run.until(lambda: rows_there(self.folder / out) >= middle)
            lose(run)
            before, exits = rows_there(self.folder / out), list[int]()
            if not then:
                run.ended([DONE, FAILED])
                exits, again = [run.process.returncode], self._again(run)
        if then:
            time.sleep(10)  # what the driver had started has ended
            before = rows_there(self.folder / out)
            begun = self._begun_and_open(out)
            exits, again = [-9, self.run(*self.words(out), *words, **how)], begun
        self.note(name, time.perf_counter() - started, self.folder / out, before=before, again=again, exits=exits)

    def _begun_and_open(self, out: str) -> int:
        # Masks that have no row: their items were on their way.
        rows = [rows_from_bytes(path.read_bytes())[0] for path in (self.folder / out / "rows").glob("*.parquet")]
        told_of = {output.path for row in rows for output in row.outputs}
        return len(masks(self.folder / out).keys() - told_of)

    def _again(self, run: Run) -> int:
        found = re.search(r"(\d+) items? w\w+ done again", run.told())
        return int(found[1]) if found else 0


def kill_worker(run: Run) -> None:
    """End one of the workers."""
    kill(named(descendants(run.process.pid), "ray::MapWorker")[0])


def on_one_machine(trial: Trial) -> None:
    """Ray on this machine alone."""
    started = time.perf_counter()
    exits = [trial.run(*trial.words("ray"), "--workers", "2")]
    trial.note("Ray, two workers", time.perf_counter() - started, trial.folder / "ray", exits=exits)
    trial.lost("a worker killed", "worker", kill_worker, "--workers", "2")
    trial.lost("the driver killed, typed again", "driver", Run.kill, then=True)


def on_two_hosts(trial: Trial) -> None:
    """Ray on two hosts, and one of them lost."""
    address = ("--address", f"{HEAD}:{PORT}")
    with hosts_in(trial) as (_, how):
        started = time.perf_counter()
        exits = [trial.run(*trial.words("two"), *address, **how)]
        trial.note("two hosts", time.perf_counter() - started, trial.folder / "two", exits=exits)
        by = {row.worker.partition(":")[0] for row in results(trial.folder / "two")}
        assert by == {"head", "other"}, by
    for name, out in (("a host killed", "host"), ("the cable pulled out", "cable")):
        with hosts_in(trial) as (hosts, how):
            lose = hosts.cut if out == "cable" else lambda hosts=hosts: hosts.kill("other")
            trial.lost(name, out, lambda run, lose=lose: lose(), *address, **how)


@contextmanager
def hosts_in(trial: Trial) -> Iterator[tuple[TwoHosts, dict[str, Any]]]:
    """Two hosts, and how a run is begun on the head."""
    with tempfile.TemporaryDirectory(prefix="ray-") as ray, two_hosts(Path(ray)) as hosts:
        yield hosts, {"within": hosts.within("head"), "environment": hosts.environment}


def from_bucket_to_bucket(trial: Trial) -> None:
    """Inputs and outputs in S3, on a server of this machine."""
    import logging

    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        environment = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}
        os.environ.update(environment)
        fs = s3fs.S3FileSystem()
        fs.mkdir("archive")
        fs.put(str(trial.folder / "in"), "archive/in", recursive=True)
        words = ["s3://archive/in/", "-o", "s3://archive/out", *HOW, "--engine", str(trial.engine)]
        started = time.perf_counter()
        exits = [trial.run(*words)]
        fs.invalidate_cache()
        found = {name.removeprefix("archive/out/"): fs.cat_file(name) for name in fs.find("archive/out/masks")}
        rows = rows_from_bytes(fs.cat_file("archive/out/results.parquet"))
        parts = len([name for name in fs.find("archive/out") if ".part" in name.replace(".parquet", "")])
        seconds = time.perf_counter() - started
        trial.add("from S3 to S3", seconds, as_in_folder(rows, trial.rows), found, parts, 0, 0, exits)


def as_in_folder(rows: list[Row], local: list[Row]) -> list[Row]:
    """The bucket's rows in the order of the folder's, under the names and versions that its inputs have there."""
    version, order = {row.id: row.version for row in local}, [row.id for row in local]
    found = [
        dataclasses.replace(
            row, input=row.input.removeprefix(BUCKET), version=version.get(row.id, ""),
            error=row.error.replace(BUCKET, ""),
        )
        for row in rows
    ]  # fmt: skip
    return sorted(found, key=lambda row: order.index(row.id) if row.id in order else -1)


def with_nothing_to_do(trial: Trial) -> float:
    """Seconds of a run again."""
    started = time.perf_counter()
    trial.run(*trial.words("ray"))
    return round(time.perf_counter() - started, 2)


def main(argv: Sequence[str]) -> int:
    """Try all of it.

    Raises:
        AssertionError: a run did not end as it must.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fleet-trial-") as folder:
        trial = Trial(Path(folder))
        for each in (on_one_machine, from_bucket_to_bucket, on_two_hosts):
            each(trial)
        idle_s = with_nothing_to_do(trial)
        document = {
            "what": "masks of a fleet, every way, and with something lost in the middle",
            "command": command_line("tests.fleet_trial", argv), "date": today(), "machine": machine(),
            "pictures": PICTURES, "bad_files": 1, "films": FILMS, "size": SIZE, "items": len(trial.rows),
            "masks_sha256": hashlib.sha256(b"".join(trial.masks.values())).hexdigest(),
            "nothing_to_do_s": idle_s, "ways": [{**way._asdict(), "right": way.right} for way in trial.ways],
        }  # fmt: skip
    write_atomically(options.json, f"{json.dumps(document, indent=1)}\n".encode())
    return DONE if all(way.right for way in trial.ways) else FAILED


if __name__ == "__main__":
    run(main)
