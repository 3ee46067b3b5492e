"""Spoil small valid files of every kind by seeds, and read them: `python -m tests.fuzz --seconds 60`.

A traceback, a second, 200 MiB or a process that dies is a fault; the file is kept in artifacts/fuzz. Exit 1 with any.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime import cli
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS

HANG_S = 30.0
KEPT = ARTIFACTS / "fuzz"


def main(argv: Sequence[str]) -> int:
    """Fuzz, print the counts by reader, and keep what failed."""
    parser = Parser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=cli.count_from_text, default=60, help="how long (%(default)s)")
    parser.add_argument("--first", type=cli.seed_from_text, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--reader", default="", help="only this one, as the table names it")
    asked = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    end, first = time.monotonic() + asked.seconds, asked.first
    while (left := end - time.monotonic()) > 1:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            first = _run(Path(folder), left, first, asked.reader, counts, faults)
    for name in sorted(counts | faults):
        cli.show(f"{name:<16}{counts[name]:>8} read{faults[name]:>6} faults")
    cli.show(f"{sum(counts.values())} files, seeds {asked.first} to {first - 1}, {sum(faults.values())} faults")
    return cli.FAILED if faults else cli.DONE


def _run(folder: Path, seconds: float, first: int, only: str, counts: Counter[str], faults: Counter[str]) -> int:
    # One child, until its time is over or it dies; the next seed.
    command = [sys.executable, "-m", "tests.fuzz.child", str(folder), str(seconds), str(first), only]
    with (folder / "stderr").open("wb") as told:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True)
        before: Counter[str] = Counter()
        try:
            for line in _lines(child, folder):
                answer = json.loads(line)
                if "fault" in answer:
                    faults[answer["reader"]] += 1
                    _keep(folder, answer)
                else:
                    first, new = answer["next"], Counter(answer["counts"])
                    counts.update(new - before)
                    before = new
            child.wait(HANG_S)
        finally:
            child.kill()
    if child.wait() == 0:
        return first
    name, seed, sample = (
        (folder / "now").read_text().strip().split("\t") if (folder / "now").is_file() else ("", "", "")
    )
    if not name:
        raise SystemExit(f"error: the child did not start: {(folder / 'stderr').read_text()[-2000:]}")
    faults[name] += 1
    how = (
        f"the process ended with {child.returncode}, or hung; {(folder / 'stderr').read_text(errors='replace')[-500:]}"
    )
    _keep(folder, {"reader": name, "seed": int(seed), "file": sample, "fault": how})
    return int(seed) + 1


def _lines(child: subprocess.Popen[str], folder: Path) -> Iterator[str]:
    import threading

    now = folder / "now"
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1):
            if now.is_file() and time.time() - now.stat().st_mtime > HANG_S:
                child.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        assert child.stdout
        yield from child.stdout
    finally:
        done.set()


def _keep(folder: Path, answer: dict[str, Any]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    name = f"{answer['reader'].replace(' ', '-')}-{answer['seed']}"
    data = (folder / answer["file"]).read_bytes()
    (KEPT / f"{name}-{answer['file']}").write_bytes(data)
    (KEPT / f"{name}.txt").write_text(answer["fault"], errors="backslashreplace")
    last = answer["fault"].strip().splitlines()[-1]
    cli.log(f"{KEPT / name}.txt: {last[:200]}")


if __name__ == "__main__":
    cli.run(main)
