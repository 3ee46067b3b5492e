"""A way from frame to mask in a process of its own, which times frames when it is told to.

This is the parent's half, the child's is `serving.py`. Between its turns a worker is stopped: the thread pools of
inference libraries go on spinning for milliseconds after their work, on the cores of whoever is measured next. The
child imports the `runtime` of the folder it is given, so that a base is measured with the code it had, and says which
file that was. It is not waited for without end.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from runtime.errors import EngineError
from runtime.spec import Fit
from runtime.threads import asked

CODE = Path(__file__).parents[2]  # of this project
CHILD = Path(__file__).with_name("serving.py")
# A group of its own: if the parent is killed while the child is stopped, the system hangs up on the orphaned group.
OWN_GROUP: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
# Neither the folder of this file nor the user's is a place to import from: a runtime.py or numpy.py may lie there.
# Before -P, which came with 3.11, that folder is the first of sys.path and is taken off before anything is imported.
BEFORE_P = "import sys; del sys.path[0], sys.argv[0]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
FLAGS = ("-P",) if sys.version_info >= (3, 11) else ("-c", BEFORE_P)
ENGINE = "engine"  # the kind of path that `open_backend` opens; the others are those of `rivals.py`
# How long an answer is waited for: torch.compile takes minutes for a first frame, and TensorRT-RTX to open an engine.
PATIENCE_S = 300.0
# Once some frames are known: so many times the slowest, and not less than this, for a machine that is busy by then.
MANY_FRAMES, LEAST_PATIENCE_S = 50, 30.0

A = TypeVar("A")


class Job(NamedTuple):
    """What a worker runs: a kind of path, the files that it is opened with, whose `runtime` opens it, in which fit.

    `python` runs it: of another environment, where its library is there, and of this one's version.
    """

    kind: str
    files: tuple[Path, ...]
    code: Path = CODE
    fit: Fit | None = None
    python: Path = Path(sys.executable)


class Opened(msgspec.Struct):
    """A child's first answer: the files of the `runtime` that it runs, the package first."""

    files: Annotated[list[str], msgspec.Meta(min_length=1)]


class Timed(msgspec.Struct):
    """One frame: its milliseconds by the child's clock, in all and by stage."""

    ms: float
    stages_ms: dict[str, float] = {}


class Busy(msgspec.Struct):
    """How many frames were done."""

    frames: int


class Peak(msgspec.Struct):
    """The most memory so far."""

    mib: float


class Rate(msgspec.Struct):
    """Frames a second with several in flight."""

    frames_per_s: float


class Done(msgspec.Struct):
    """Nothing but that it is done."""


class Facts(msgspec.Struct):
    """What the child's own code reads in a manifest that another code may not."""

    model: str
    weights_sha256: str
    precision: str
    backend: str
    network_size: tuple[int, int]


class Failure(msgspec.Struct):
    """What the child could not do."""

    error: str


ANSWERS: dict[str, Any] = {"frame": Timed, "busy": Busy, "mask": Done, "throughput": Rate, "peak": Peak, "facts": Facts}


class Worker:
    """A child process that has a path open; `runtime` is the file of the package that it runs.

    `lead_ms` may be set: for so long it does frames before each that is timed, so that a GPU is at its clocks.
    """

    def __init__(self, job: Job, frame: Path, patience_s: float = PATIENCE_S) -> None:
        """Start it and wait until its path is open.

        Args:
            job: what it runs.
            frame: a .npy file, uint8 (H, W, 3) RGB.
            patience_s: how long any answer is waited for; later `patience_s` may be set anew.

        Raises:
            EngineError: it could not be opened, with the child's message; or it runs another code than the job's.
        """
        self.name = job.files[0].name
        self.patience_s = patience_s
        self.lead_ms = 0.0
        self._unread = b""
        self._process = subprocess.Popen(
            [
                str(job.python),
                *FLAGS,
                str(CHILD),
                str(asked() or 0),
                job.kind,
                job.fit or "",
                str(frame),
                *(str(path.resolve()) for path in job.files),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(job.code),
            **OWN_GROUP,
        )
        try:
            files = [Path(file) for file in self._answer(Opened, "to open").files]
            _refuse_other_code(files, job.code)
            self.runtime = files[0]
        except BaseException:
            self.close()
            raise
        self._stop()

    def frame_ms(self) -> float:
        """Milliseconds of one frame by the child's clock."""
        return self.timed().ms

    def timed(self) -> Timed:
        """One frame, after `lead_ms` of others."""
        answer: Timed = self.ask(do="frame", lead_ms=self.lead_ms)
        return answer

    def ask(self, **order: Any) -> Any:
        """Continue the child, give it one of the orders of `serving.serve`, stop it again; its answer, of `ANSWERS`.

        Raises:
            EngineError: it failed, with the child's message; it died, answered nonsense, or not at all in time.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it died: no answer comes, which is told below
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._answer(ANSWERS[order["do"]], f"for its {order['do']}")
        self._stop()
        return answer

    def close(self) -> None:
        """End the child and what it started; a second call does nothing."""
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return  # its number may be another's by now
        # Its group: a library may have forked, as OpenVINO's telemetry does, and what is left of that holds the
        # pipe open on which `communicate` waits.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):  # an order that it did not live to read
            self._process.communicate()

    def __enter__(self) -> "Worker":
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls `close`."""
        self.close()

    def _answer(self, kind: type[A], what: str) -> A:
        line = self._line(what)
        try:
            answer = msgspec.json.decode(line, type=dict[str, Any])
            if "error" in answer:
                raise EngineError(f"{self.name}: {msgspec.convert(answer, Failure).error}")
            return msgspec.convert(answer, kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            shown = line[:60].decode(errors="replace").strip()
            ended = "" if line.endswith(b"\n") else ", which is cut short"
            raise EngineError(f"{self.name}: its process answered {shown!r}{ended}") from None

    def _line(self, what: str) -> bytes:
        # Read as it comes, not by `readline`: that would wait for ever for the rest of a line.
        assert self._process.stdout is not None
        until = time.monotonic() + self.patience_s
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                raise EngineError(
                    f"{self.name}: its process did not answer within {self.patience_s:g} s {what}: it is frozen, "
                    "or the machine is far too busy"
                )
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                return self._unread or self._died()
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def _died(self) -> bytes:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(LEAST_PATIENCE_S)
            raise EngineError(f"{self.name}: its process ended with code {code} while it was measured")
        raise EngineError(f"{self.name}: its process closed its output while it was measured")

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        # Not before it really stands still: of a group that is orphaned earlier the system would take no notice.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def warm_up(workers: Sequence[Worker], frames: int) -> float:
    """Frames that are not counted; from then on a process is waited for as its own frames suggest.

    Args:
        workers: they take turns.
        frames: of each, 1 or more.

    Returns:
        the seconds that one turn of all of them takes, messages and stops included: of several the last.
    """
    for worker in list(workers) * (frames - 1):
        worker.frame_ms()
    start = time.monotonic()
    for worker in workers:
        began = time.monotonic()
        worker.frame_ms()
        took = time.monotonic() - began
        worker.patience_s = min(worker.patience_s, max(LEAST_PATIENCE_S, MANY_FRAMES * took))
    return time.monotonic() - start


def mask_of(worker: Worker, folder: Path, frame: Path | None = None) -> np.ndarray:
    """The worker's mask of its frame, or of another one (.npy), uint8 (H, W); `folder` holds it for a moment."""
    worker.ask(do="mask", file=str(folder / "mask.npy"), **({"of": str(frame)} if frame else {}))
    mask: np.ndarray = np.load(folder / "mask.npy")
    return mask


def _environment(code: Path) -> dict[str, str]:
    # This code before any other; what the user added stays, and a relative folder of theirs stays where it was meant.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(code.absolute()), *(str(Path(path).absolute()) for path in given)]),
    }


def _refuse_other_code(files: Sequence[Path], code: Path) -> None:
    # As Python found them, or as they lie on the disk: a tree may be named by a link.
    for file in files:
        ways = [(file.absolute(), code.absolute()), (file.resolve(), code.resolve())]
        if not any(found.is_relative_to(asked) for found, asked in ways):
            raise EngineError(f"{code} holds no package runtime of its own: {file} would have run in its place")
