"""Folders that do not outlive what is measured in them: not after Ctrl-C, SIGTERM or SIGHUP, nor long after SIGKILL.

Each is locked by the process that made it. The system opens the lock of a process that was killed, and the next run
removes every folder whose lock is open.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

PREFIX = "streetseg-measure-"
LOCK, REPOSITORY, TREE = "lock", "repository", "tree"
YOUNG_S = 10.0  # a folder may have been made, and not been locked yet
ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this process's own, which is gone afterwards; what dead processes left is removed first."""
    from filelock import FileLock

    with ended_as_interrupted():
        remove_left_ones()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire()
            yield folder
        finally:
            remove(folder)
            lock.release()


def remove_left_ones() -> None:
    """Remove the folders, and the git worktrees in them, of processes of this user that are no more."""
    from filelock import FileLock, Timeout

    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(Timeout, OSError):
            found = folder.lstat()
            # Not through a link, which another user may have laid there.
            if not folder.is_dir() or folder.is_symlink() or found.st_uid != os.getuid():
                continue
            if time.time() - found.st_mtime < YOUNG_S and not (folder / LOCK).exists():
                continue
            with FileLock(folder / LOCK).acquire(blocking=False):
                remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder of `scratch`, and have git forget the worktree in it."""
    shutil.rmtree(folder / TREE, ignore_errors=True)
    with suppress(OSError):
        repository = (folder / REPOSITORY).read_text()
        # Twice --force: one that was killed while git made it is locked.
        forget = ["git", "-C", repository, "worktree", "remove", "--force", "--force", str(folder / TREE)]
        subprocess.run(forget, capture_output=True, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP, which by default end Python without any `finally`, interrupt it as Ctrl-C does."""
    # Within another one that does so, and where the user wants a signal to be ignored (nohup), nothing is changed.
    ours = threading.current_thread() is threading.main_thread()
    numbers = [number for number in ENDS if ours and signal.getsignal(number) not in (_interrupt, signal.SIG_IGN)]
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    for each in ENDS:  # a second one must not cut short what tidies up after the first
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
