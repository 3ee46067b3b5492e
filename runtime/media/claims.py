"""One writer an output: who records a video holds it, and finds what a killed one left of it."""

import errno
import fcntl
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from runtime.errors import OutputError
from runtime.texts import shown

LOCK = ".street-segmentation-{}.lock"


class Claim:
    """The right to write `path`, and the file in which it grows: new, beside it, under a name nobody can foresee."""

    def __init__(self, path: Path) -> None:
        """Take it; what a killed writer left of the same output is deleted.

        Raises:
            OutputError: another process writes it.
            OSError: the folder cannot be written.
        """
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._lock = path.with_name(LOCK.format(hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]))
        self._handle = self._locked(path)
        self._remove_left(path)
        self.growing = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
        try:
            os.close(os.open(self.growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            os.pwrite(self._handle, os.fsencode(self.growing.name), 0)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give it back; what grows is the caller's to rename or to delete."""
        with suppress(OSError):
            self._lock.unlink(missing_ok=True)
        os.close(self._handle)

    def _locked(self, path: Path) -> int:
        while True:
            handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise OutputError(
                    f"{shown(path)} is being written by another command: give another folder with -o"
                ) from None
            except OSError:  # a file system without locks, where names that nobody can foresee keep writers apart
                return handle
            # Whoever held it may have deleted its file between our two calls: then this one locks nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), self._lock.stat()):
                    return handle
            os.close(handle)

    def _remove_left(self, path: Path) -> None:
        left = os.fsdecode(os.pread(self._handle, 4096, 0))
        if left.startswith(f"{path.stem}.") and left.endswith(f".part{path.suffix}") and "/" not in left:
            path.with_name(left).unlink(missing_ok=True)
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
