"""How many threads work: what the system grants this process, and what the user asks, whichever is less.

A container's quota is no affinity: a library that counts cores starts a thread for each core of the host, and all of
them are then stopped together when the quota is spent. So every pool of ours and of the libraries is sized by `count`.
"""

import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

from runtime.bars import say

PROC = Path("/proc/self")
MOST = 4096  # more than any machine has cores; what is asked beyond it is a mistake
# Of version 1, the controller's mount and its two files; of version 2, one file.
QUOTA_V1, PERIOD_V1, QUOTA_V2 = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"

_ASKED: ContextVar[int | None] = ContextVar("_ASKED", default=None)


def count() -> int:
    """Threads that a pool made now should have: the least of affinity, quotas and what was `asked`."""
    return min(usable(), asked() or MOST)


def bound() -> int | None:
    """`count` where a library would not find it by itself, from the affinity; else None: it then chooses best itself.

    Of a CPU with two threads a core, OpenVINO takes one; told a number, it takes that.
    """
    found = count()
    return found if asked() or found < affinity() else None


def asked() -> int | None:
    """What `limited` was told on this thread; None: nothing."""
    return _ASKED.get()


def usable() -> int:
    """Cores' worth of time that this process may use: its affinity, or its quota, a part of a core counting as one."""
    return min(affinity(), max(1, math.ceil(quota() or MOST)))


def affinity() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(proc: Path = PROC) -> float | None:
    """Cores' worth of time that the control groups around this process grant, the least of them; None: no limit.

    Args:
        proc: of the process, with `cgroup` and `mountinfo`.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    shares = [share for folder in _groups(proc) if (share := _granted(folder)) is not None]
    return min(shares, default=None)


def checked(threads: object) -> int:
    """A number of threads as it was asked.

    Raises:
        ValueError: it is no whole number from 1 to `MOST`.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST:
        raise ValueError(f"threads is a whole number from 1 to {MOST}, got {threads!r:.40}")
    return threads


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Hold what is opened within, on this thread, to so many threads; None: to what holds already.

    Raises:
        ValueError: it is no whole number from 1 to `MOST`.
    """
    before = _ASKED.set(asked() if threads is None else checked(threads))
    try:
        yield
    finally:
        _ASKED.reset(before)


@contextmanager
def for_command(threads: int | None) -> Iterator[None]:
    """`limited` for the command within and OpenCV, whose count is the process's; tells what the process has not."""
    with limited(threads):
        if threads is not None and threads > usable():
            say(f"--threads {threads}: this process may use {usable()}, by its affinity and cgroup, and uses those")
        before = None if bound() is None else _hold_opencv(count())
        try:
            yield
        finally:
            if before is not None:
                _hold_opencv(before)


def _hold_opencv(threads: int) -> int:
    # What it had.
    import cv2

    before: int = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    return before


def _groups(proc: Path) -> Iterator[Path]:
    # The folders of this process's control groups that may hold a quota, each with those around it.
    if not sys.platform.startswith("linux"):
        return
    try:
        own, mounts = (proc / "cgroup").read_text(), (proc / "mountinfo").read_text()
    except OSError:
        return
    paths = {kind: path for _, kind, path in (line.split(":", 2) for line in own.splitlines() if line.count(":") >= 2)}
    for line in mounts.splitlines():
        root, mounted, kind, controllers = _mount(line)
        if kind == "cgroup2" and "" in paths:
            yield from _upwards(mounted, root, paths[""])
        if kind == "cgroup" and "cpu" in controllers:
            path = next((path for names, path in paths.items() if "cpu" in names.split(",")), None)
            if path is not None:
                yield from _upwards(mounted, root, path)


def _mount(line: str) -> tuple[str, str, str, list[str]]:
    # Root within the file system, where it is mounted, its kind, its own options. Source: proc(5), mountinfo.
    head, _, tail = line.partition(" - ")
    fields, rest = head.split(" "), tail.split(" ")
    if len(fields) < 5 or len(rest) < 3:
        return "/", "", "", []
    root, mounted = (_unescaped(field) for field in fields[3:5])
    return root, mounted, rest[0], rest[2].split(",")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _upwards(mounted: str, root: str, path: str) -> Iterator[Path]:
    # In a container the group's path may be the host's, and the mount begin at it or below: then the mount is its own.
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        below = PurePosixPath()
    folder = Path(mounted) / below
    if ".." in below.parts or not folder.is_dir():
        folder = Path(mounted)
    yield folder
    for parent in folder.parents:
        if not parent.is_relative_to(mounted):
            return
        yield parent


def _granted(folder: Path) -> float | None:
    # What one control group grants; None: it has no limit, or none that can be read.
    try:
        if (folder / QUOTA_V2).is_file():
            quota, period = (folder / QUOTA_V2).read_text().split()[:2]
        else:
            quota, period = (folder / QUOTA_V1).read_text(), (folder / PERIOD_V1).read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # "max", or -1, or not there
        return None
