"""What a fork does to libraries with threads, and one thread at a time in what a library holds open.

A forked child has the memory of its parent and none of its threads. What waits for such a thread waits for ever: a
frame, a `close`, and the destructors that run when the child ends. So here, in a child:

- what its parent has open is refused in words (`Guard`), and never freed: it is the parent's. Nor is what the parent
  had left behind for Python's collector, which may hold a library's threads, too;
- caches of threads begin empty (`forget`), locks are free (`hold`), the threads of libraries sleep (`_rest`): one that
  was on its way to sleep may hold a lock, which nobody frees in a child;
- it ends without the destructors of the libraries that its parent had loaded.
"""

import atexit
import concurrent.futures.thread  # noqa: F401  see below
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakSet

from runtime.errors import EngineError

HOLD_S = 10.0  # what a fork waits for the frames that are on their way, at most
REST_S = 0.25  # what it then waits for the threads of libraries, at most: one that decodes or trains never sleeps
TASKS = Path("/proc/self/task")
_FORKING = threading.RLock()  # held while this process forks
_ADDING = threading.RLock()  # held while a guard is made: nothing is waited for within it
_GUARDS: "WeakSet[Guard]" = WeakSet()
_OWNERS: "WeakSet[Any]" = WeakSet()
_LOCKS: "list[Lock]" = []
_FORGET: list[Callable[[], object]] = []
_held: "list[Lock]" = []  # what a fork has taken
_guarded = False  # whether this process, or one that it was forked from, had anything open
_collecting = False  # whether a fork has turned Python's collector off


class Lock(Protocol):
    """What `hold` takes: a lock of `threading`, or of another library."""

    def acquire(self) -> object:
        """Wait for it."""

    def release(self) -> None:
        """Free it."""


class Guard:
    """One process, and one thread of it at a time, for what a library holds open; it costs a frame a microsecond.

    Used in a `with` statement around each use. A fork waits until nobody is within, so that the child finds the
    libraries at rest.
    """

    __slots__ = ("__weakref__", "_lock", "_pid", "_what")

    def __init__(self, what: str, owner: object = None) -> None:
        """Nobody is within.

        Args:
            what: is in use, or another process's, as the message tells it.
            owner: holds what is guarded; in a forked child it is never freed.
        """
        global _guarded
        self._what, self._pid, self._lock = what, os.getpid(), threading.Lock()
        with _ADDING:
            _guarded = True
            _GUARDS.add(self)
            if owner is not None:
                _OWNERS.add(owner)

    @property
    def foreign(self) -> bool:
        """Whether another process made it, which this one was forked from."""
        return os.getpid() != self._pid

    def refuse_foreign(self) -> None:
        """Refuse what another process opened.

        Raises:
            EngineError: this one was forked from that.
        """
        if os.getpid() != self._pid:
            raise EngineError(
                f"{self._what} was opened by process {self._pid}, and {os.getpid()} was forked from it, without its "
                "threads: open one of its own here"
            )

    def __enter__(self) -> None:
        """Take it.

        Raises:
            EngineError: another thread is within, or another process made it.
        """
        if os.getpid() != self._pid:
            self.refuse_foreign()
        if not self._lock.acquire(False) and not self._wait_for_fork():
            raise EngineError(
                f"{self._what} is in use by another thread: it is for one at a time. Open it with runtime.open_lanes, "
                "which any number of threads may use"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free it."""
        self._lock.release()

    def _wait_for_fork(self) -> bool:
        # A fork on another thread holds all guards for a moment.
        with _FORKING:
            return self._lock.acquire(False)


def forget(function: Callable[[], object]) -> None:
    """Call it in every forked child, before anything else runs there."""
    _FORGET.append(function)


def hold(lock: Lock) -> None:
    """Have every fork wait for the lock, so that no child finds it taken by a thread that it does not have."""
    _LOCKS.append(lock)


def leak(owner: object) -> None:
    """Never free the object, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def _before() -> None:
    global _collecting
    # Guards first: whoever is within one may want the locks. A guard may be made while this waits for another.
    _FORKING.acquire()
    seen: set[Guard] = set()
    while True:
        _ADDING.acquire()
        new = set(_GUARDS) - seen
        if not new:
            break
        _ADDING.release()
        seen |= new
        _held.extend(guard._lock for guard in new if guard._lock.acquire(timeout=HOLD_S))
    _held.append(_ADDING)
    for lock in _LOCKS:
        lock.acquire()
        _held.append(lock)
    if _guarded:
        _rest()
        # What others have called in a child runs before `_in_child`, and may make enough for a collection.
        _collecting = gc.isenabled()
        gc.disable()


def _rest() -> None:
    # A frame that is done leaves oneTBB's threads awake for a moment: they look for work, under locks of their own, and
    # fall asleep. Asleep in two looks after one another: one of them may wait for a lock of the next in the first.
    end, looks = time.monotonic() + REST_S, 0
    while looks < 2 and time.monotonic() < end:
        looks = 0 if _is_awake() else looks + 1
        if not looks:
            time.sleep(0.0005)


def _is_awake() -> bool:
    """Whether a thread runs that is not Python's; False where the system does not tell."""
    pythons = {str(thread.native_id) for thread in threading.enumerate()}
    pythons.add(str(threading.get_native_id()))  # this one may be of `_thread`, which that list leaves out
    try:
        others = [task for task in TASKS.iterdir() if task.name not in pythons]
    except OSError:
        return False
    return any(_state(task) not in "SZX" for task in others)


def _state(task: Path) -> str:
    # proc(5): the letter behind the name in parentheses; X: it ended meanwhile.
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def _after() -> None:
    global _collecting
    if _collecting:
        _collecting = False
        gc.enable()
    while _held:
        _held.pop().release()
    _FORKING.release()


def _in_child() -> None:
    if _guarded:
        gc.freeze()
    for owner in list(_OWNERS):
        leak(owner)
    _OWNERS.clear()
    _GUARDS.clear()
    _after()
    for function in _FORGET:
        function()
    if _guarded:
        _end_without_destructors()


def _end_without_destructors() -> None:
    # Those of a library that the parent loaded wait for its threads, or abort because there are none: OpenVINO's and
    # onnxruntime's did each. glibc calls this handler before theirs, with the exit code; by then Python has flushed
    # and ended what is its own. What the child itself loads registers later, and is destructed before.
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "on_exit") and libc.on_exit(libc._exit, None) == 0:
        atexit.register(libc.fflush, None)


# What is registered last is called first before a fork. The locks of `concurrent.futures` and `logging`, which a frame
# takes, are so taken after the guards: both are imported above.
if sys.platform != "win32" and hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
