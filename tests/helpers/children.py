"""A forked child of the test's process: what it returns or raises, and never longer than a limit."""

import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from typing import Any

LIMIT_S = 20.0  # a child that takes longer hangs: each of these does a second's work at most


def in_child(function: Callable[[], Any]) -> Any:
    """What the function returns in a forked child; what it raises there is raised here.

    Raises:
        TimeoutError: the child hangs.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(function, writing)
    os.close(writing)
    try:
        if not select.select([reading], [], [], LIMIT_S)[0]:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"the child gave no answer in {LIMIT_S:.0f} s")
        with os.fdopen(os.dup(reading), "rb") as file:
            raised, value = pickle.loads(file.read())
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
    if raised:
        raise value
    return value


def ended(pid: int) -> int:
    """The exit code of a child, -N of a signal; the child is killed where it does not end."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"the child did not end in {LIMIT_S:.0f} s")


def _answer(function: Callable[[], Any], writing: int) -> None:
    try:
        answer = (False, function())
    except BaseException as error:
        answer = (True, error)
    with os.fdopen(writing, "wb") as file:
        file.write(pickle.dumps(answer))
    os._exit(0)
