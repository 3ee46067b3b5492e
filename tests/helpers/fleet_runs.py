"""`python -m runtime.fleet` as a process of its own that can be killed, with all that it started; only those."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.project import ROOT

LIMIT_S = 300.0  # a run that takes longer hangs: it is of small pictures
ENDED_S = 30.0  # for what a killed run has started to end


class Run:
    """One run of the command, in a folder, its output in files there."""

    def __init__(
        self, folder: Path, *words: str, within: Sequence[str] = (), environment: dict[str, str] | None = None,
        module: str = "runtime.fleet",
    ) -> None:  # fmt: skip
        """Begin it; `within` is what enters a namespace, `module` another command."""
        self.words, self.folder = words, folder
        self._left: list[int] = []
        self._out = (folder / "stdout.txt").open("w")
        self._err = (folder / "stderr.txt").open("w")
        command = [*within, sys.executable, "-m", module, *words]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=self._out, stderr=self._err, start_new_session=True
        )
        self.started = time.monotonic()

    def ended(self, expect: Sequence[int] = (0,), limit_s: float = LIMIT_S) -> str:
        """Wait for it, hold it to these exit codes; what it wrote on stderr."""
        try:
            code = self.process.wait(limit_s)
        finally:
            told = self.told()
        assert code in expect and "Traceback" not in told, f"{self.words}: {code}\n{told}"
        return told

    def told(self) -> str:
        """What it wrote on stderr so far."""
        return (self.folder / "stderr.txt").read_text()

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is so, while it runs."""
        while not done():
            assert self.process.poll() is None, f"{self.words} ended before it could be killed\n{self.told()}"
            assert time.monotonic() - self.started < LIMIT_S, self.told()
            time.sleep(0.02)

    def kill(self) -> list[int]:
        """Kill the command alone; what it had started."""
        self._left = descendants(self.process.pid)
        kill(self.process.pid)
        return self._left

    def end(self) -> None:
        """Kill it and what it started."""
        for pid in [self.process.pid, *descendants(self.process.pid), *named(self._left, "ray")]:
            kill(pid)
        self.process.wait()
        self._out.close()
        self._err.close()


@contextmanager
def running(folder: Path, *words: str, **how: object) -> Iterator[Run]:
    """A run that does not outlive the test."""
    run = Run(folder, *words, **how)  # type: ignore[arg-type]
    try:
        yield run
    finally:
        run.end()


def descendants(pid: int) -> list[int]:
    """The processes that one started, and those that they did, as long as their parents live."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, todo = list[int](), [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def named(pids: Sequence[int], name: str) -> list[int]:
    """Those of the processes whose command line has this in it."""
    return [pid for pid in pids if name in _command_line(pid)]


def kill(pid: int) -> None:
    """End a process at once, as a power failure does."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def all_gone(pids: Sequence[int]) -> bool:
    """Whether processes end by themselves in `ENDED_S`."""
    until = time.monotonic() + ENDED_S
    while time.monotonic() < until:
        if not [pid for pid in pids if _command_line(pid)]:
            return True
        time.sleep(0.2)
    return False


def rows_there(folder: Path) -> int:
    """Items of a run into this folder that have a row."""
    return len(list((folder / "rows").glob("*.parquet")))


def listening(pids: Sequence[int]) -> set[str]:
    """The addresses at which these processes listen, as `/proc/net/tcp` has them: 0100007F is the loopback."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(link.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
