"""A folder of this machine for what is fetched and made on the way; those that killed processes left are deleted."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "seg-fleet-"  # short: Ray makes sockets below such a folder, whose paths may have 107 bytes
LOCK = ".lock"
YOUNG_S = 60  # one that was made this moment may not have its lock yet


@contextmanager
def scratch() -> Iterator[Path]:
    """The folder, which goes with the block; a process that is killed within leaves it to the next one."""
    _remove_left(Path(tempfile.gettempdir()))
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with made as folder, (Path(folder) / LOCK).open("wb") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Path(folder)


def _remove_left(above: Path) -> None:
    for folder in above.glob(f"{PREFIX}*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if time.time() - folder.stat().st_mtime < YOUNG_S or not (folder / LOCK).is_file():
                continue
            with (folder / LOCK).open("rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
