"""A step of the doctor's: one thing that must work, tried for real, and what to do where it does not."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from runtime.errors import LibraryError, PipelineError

PATIENCE_S = 180.0  # for a library to load and compute; numba compiles for half a minute on a small CPU
State = Literal["ok", "note", "failed", "skipped"]
CRASHED = "its process ended by signal {}: the library uses what this CPU or driver has not, or its files are damaged"


class Note(Exception):
    """Raised by a step whose thing is absent or slow, which is worth a line and no failure."""


class Step(NamedTuple):
    """A name, and what tries it: it returns what it found, raises a `Note`, or one of our errors with the remedy."""

    name: str
    try_: Callable[[], str]


class Outcome(NamedTuple):
    """What came of a step, in one line."""

    name: str
    state: State
    told: str


def in_turn(steps: Sequence[Step]) -> list[Outcome]:
    """Each step builds on the one before: after the first that does not work none is tried."""
    found: list[Outcome] = []
    for step in steps:
        stopped = any(outcome.state in ("failed", "skipped") for outcome in found)
        found.append(Outcome(step.name, "skipped", "not tried") if stopped else tried(step))
    return found


def tried(step: Step) -> Outcome:
    """One step; whatever goes wrong in it, of whichever library, is an outcome."""
    try:
        return Outcome(step.name, "ok", step.try_())
    except Note as note:
        return Outcome(step.name, "note", str(note))
    except PipelineError as error:
        return Outcome(step.name, "failed", str(error))
    except Exception as error:
        # A broken installation raises anything; this command is there to tell it.
        lines = [line for line in str(error).splitlines() if line.strip()]
        return Outcome(step.name, "failed", f"{type(error).__name__}: {lines[0].strip() if lines else 'no message'}")


def child(code: str, remedy: str, *arguments: str, patience_s: float = PATIENCE_S) -> str:
    """What a line of Python prints in a process of its own, which a library may crash or hang.

    Args:
        code: of Python.
        remedy: what to do where it fails.
        arguments: its sys.argv from 1 on.
        patience_s: how long it may take.

    Raises:
        LibraryError: it failed, crashed or hung; its last line, and the remedy.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, errors="replace",
            timeout=patience_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise LibraryError(f"it did not answer within {patience_s:g} s. {remedy}") from None
    if done.returncode < 0:
        raise LibraryError(f"{CRASHED.format(-done.returncode)}. {remedy}")
    if done.returncode:
        last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        raise LibraryError(f"{last[0][:300].rstrip('.')}. {remedy}")
    printed = done.stdout.strip().splitlines()
    return printed[-1] if printed else "it loads"
