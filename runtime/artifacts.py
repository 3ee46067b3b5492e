"""What the commands leave on disk: keyed by all it was made from, written whole or not at all, one maker at a time."""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime.bars import say
from runtime.errors import GraphError

ARTIFACTS = Path("artifacts")
CACHE_NAME = "street-segmentation"
READ_BYTES = 1 << 20  # at a time
LEFTOVER = ".street-segmentation-"  # how the name of a file begins that is not written to its end
# What file systems without locks answer, beside ENOSYS, which filelock knows: network and FUSE ones.
NO_LOCKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EIO})
YOUNG_S, OLD_S = 60, 24 * 3600


def user_cache() -> Path:
    """The user's folder for what can be made again; where the user has no home, one that nothing can be written to."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / CACHE_NAME
    try:
        return Path.home() / ".cache" / CACHE_NAME
    except RuntimeError:  # an account without an entry, and no HOME, as containers run programs
        return Path(os.devnull) / CACHE_NAME


def write_atomically(path: Path, data: bytes) -> None:
    """Write the whole file or none of it: to a temporary name in the same folder, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{LEFTOVER}{secrets.token_hex(8)}.part")
    # Made anew, through no link, with the rights that the user's umask gives: some file systems refuse a chmod.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            with suppress(OSError):  # a file system without locks; `remove_leftovers` goes by the age there
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(data)
            file.flush()
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete what `write_atomically` had begun in this folder when its process was killed; of a living one nothing."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(LEFTOVER) and entry.name.endswith(".part"):
                _remove_leftover(Path(entry.path))


def _remove_leftover(path: Path) -> None:
    with suppress(OSError):  # gone, or not ours to delete
        age_s = time.time() - path.stat().st_mtime
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_left = age_s > YOUNG_S  # one that was made this moment may not have its lock yet
            except BlockingIOError:
                is_left = False
            except OSError:
                is_left = age_s > OLD_S
            if is_left:
                path.unlink()


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_sealed(path: Path, data: bytes) -> None:
    """Write the file, then its sha256 beside it; `is_sealed` tells whether both are still whole."""
    write_atomically(path, data)
    write_atomically(_seal(path), hashlib.sha256(data).hexdigest().encode())


def is_sealed(path: Path) -> bool:
    """Whether a file is there and is to the last bit what `write_sealed` wrote."""
    return path.is_file() and _seal(path).is_file() and _seal(path).read_bytes() == sha256_of(path).encode()


def refuse_broken_seal(path: Path) -> None:
    """Hold a graph or a table to the sha256 that `write_sealed` left beside it; one that has none there is taken.

    Raises:
        GraphError: it is another.
    """
    if _seal(path).is_file() and not is_sealed(path):
        raise GraphError(
            f"{path} is damaged or edited: its sha256 is not the one in {_seal(path).name}. Make it again; "
            f"where you edited it, delete {_seal(path).name}"
        )


def checksum_of(fields: dict[str, Any]) -> str:
    """The sha256 of JSON values, whatever the order of their keys: what a document holds of itself."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def key_of(parts: dict[str, Any]) -> str:
    """Ten hexadecimal digits that stand for all of `parts` (JSON values): another value is another key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def sources_sha256(*sources: Path) -> str:
    """One sha256 over these Python files, and those below these folders: changed code makes what it made stale.

    Raises:
        FileNotFoundError: one of them is not there, or holds no Python file: its changes would make nothing stale.
    """
    digest = hashlib.sha256()
    for source in sources:
        paths = sorted(source.rglob("*.py")) if source.is_dir() else [source]
        if not paths:
            raise FileNotFoundError(f"{source} holds no Python file to make a key from")
        for path in paths:
            digest.update(path.relative_to(source.parent).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def locked(path: Path, *, lasting: bool = True) -> Iterator[None]:
    """Hold the right to make `path`: a second maker says so and waits here, then finds it made. Freed even by a kill.

    Args:
        path: what is made; the lock is an empty file beside it, which stays.
        lasting: False: where nothing was made, neither it nor a folder that was made for it stays.

    Raises:
        RuntimeError: this thread holds it already, and would wait for itself for ever.
        OSError: the folder cannot be written.

    Source: filelock, not `fcntl.flock` bare. It adds what three lines of ours lacked: the error above, file systems
    without flock (there it keeps a file with the holder's process, which a kill frees as well), and a way to look
    before waiting. Its price: 50 ms between looks while it waits, 0.4 ms where nobody holds it (bare: 0.05), and an
    import of 50 ms where something is made. An engine takes seconds.
    """
    from filelock import FileLock

    new = [] if lasting else [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.parent / f".{path.name}.lock"
    lock: Any = FileLock(place)
    try:
        _acquire(lock, path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        from filelock import SoftFileLock

        lock = SoftFileLock(path.parent / f".{path.name}.held")
        _acquire(lock, path)
    try:
        yield
    finally:
        if not lasting and not path.exists():
            # While it is held: filelock takes no file that is gone, so that who waits has the next one to itself.
            with suppress(OSError):
                place.unlink()
        lock.release()
        for folder in new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _acquire(lock: Any, path: Path) -> None:
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(f"waiting: another command is making {path.name}")
        lock.acquire()


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
