"""One writer an output: who records a video holds it, and finds what a killed one left; a run holds its pictures."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import OutputError
from runtime.texts import shown

LOCK = ".street-segmentation-{}.lock"
RUN = ".street-segmentation-{}.run"


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


@contextmanager
def pictures_claimed(folder: Path, inputs: Iterable[Path], saves: Sequence[str]) -> Iterator[None]:
    """The right to write the pictures of one run. Other runs may fill the same folder with those of other inputs.

    Each run names its inputs in a file of the folder that it holds locked; where there are no locks nothing is held.

    Args:
        folder: of the outputs.
        inputs: by their places below it, which name the outputs.
        saves: kinds of outputs.

    Raises:
        OutputError: another process writes one of them.
        OSError: the folder cannot be written.
    """
    names = set(map(str, inputs))
    held = _register(folder, names, saves) if names else None
    try:
        yield
    finally:
        if held is not None:
            held[0].unlink(missing_ok=True)
            os.close(held[1])


def _register(folder: Path, names: set[str], saves: Sequence[str]) -> tuple[Path, int] | None:
    # One at a time looks at the others: the folder itself is the lock of that.
    whole = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(whole, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return None
        for other in folder.glob(RUN.format("*")):
            kinds, theirs = _held_by(other)
            same = names & theirs if kinds.intersection(saves) else ()
            if same:
                raise OutputError(
                    f"another command is writing the masks of {shown(min(same))} and {len(same) - 1} more to "
                    f"{shown(folder)}: wait for it, or give another folder with -o"
                )
        own = folder / RUN.format(secrets.token_hex(4))
        handle = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with open(handle, "wb", closefd=False) as file:
            file.write(b"\0".join(map(os.fsencode, (",".join(saves), *names))))
        return own, handle
    finally:
        os.close(whole)


def _held_by(run: Path) -> tuple[set[str], set[str]]:
    """Kinds and inputs of a run that goes on; nothing of one that is over, whose file is deleted."""
    try:
        with run.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                kinds, *inputs = map(os.fsdecode, file.read().split(b"\0"))
                return set(kinds.split(",")), set(inputs)
            run.unlink()  # it was killed
    except FileNotFoundError:
        pass
    return set(), set()
