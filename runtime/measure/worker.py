"""A way from frame to mask in a process of its own, which times frames when it is told to.

The parent's half is `Worker`. Between its turns a worker is stopped: the thread pools of inference libraries go on
spinning for milliseconds after their work, on the cores of whoever is measured next. The child's half is this file run
as a program; it imports the `runtime` of the folder it is given, so that a base is measured with the code it had.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import EngineError

CODE = Path(__file__).parents[2]  # of this project
# A group of its own: if the parent is killed while the child is stopped, the system hangs up on the orphaned group.
OWN_GROUP: dict[str, Any] = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
# Neither the folder of this file nor the user's is a place to import from: a runtime.py or numpy.py may lie there.
# Before -P, which came with 3.11, that folder is the first of sys.path and is taken off before anything is imported.
BEFORE_P = "import sys; del sys.path[0], sys.argv[0]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
PYTHON = (sys.executable, "-P") if sys.version_info >= (3, 11) else (sys.executable, "-c", BEFORE_P)
ENGINE = "engine"  # the kind of path that `open_backend` opens; the others are those of `rivals.py`


class Job(NamedTuple):
    """What a worker runs: a kind of path, the files that it is opened with, and whose `runtime` opens it."""

    kind: str
    files: tuple[Path, ...]
    code: Path = CODE


class Worker:
    """A child process that has a path open."""

    def __init__(self, job: Job, frame: Path) -> None:
        """Start it and wait until its path is open.

        Args:
            job: what it runs.
            frame: a .npy file, uint8 (H, W, 3) RGB.

        Raises:
            EngineError: it could not be opened; the message is the child's.
        """
        from runtime.threads import asked  # not above: in a child that is another code's, which may not have it

        self.name = job.files[0].name
        self._process = subprocess.Popen(
            [*PYTHON, __file__, str(asked() or 0), job.kind, str(frame), *(str(path.resolve()) for path in job.files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(job.code),
            text=True,
            **OWN_GROUP,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        self._stop()

    def frame_ms(self) -> float:
        """Milliseconds of one frame by the child's clock."""
        return float(self.ask(do="frame")["ms"])

    def ask(self, **order: Any) -> dict[str, Any]:
        """Continue the child, give it one of the orders of `serve`, stop it again; its answer.

        Raises:
            EngineError: it failed; the message is the child's.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it died: no answer comes, which is told below
            print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._answer()
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

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"{self.name}: its process ended with code {self._process.wait()} while it was measured")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(f"{self.name}: {answer['error']}")
        return answer

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        # Not before it really stands still: of a group that is orphaned earlier the system would take no notice.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def serve(answer: Callable[[dict[str, Any]], None], kind: str, frame_path: str, *files: str) -> None:
    """The child: open the path, say so, then answer each line of JSON on stdin.

    Orders: `{"do": "frame"}` gives ms and the stages of one frame; `{"do": "mask", "file"}` writes its mask as .npy;
    `{"do": "throughput", "frames", "in_flight"}` gives an engine's frames a second with so many at once;
    `{"do": "peak"}` gives the most memory so far, in MiB.
    """
    frame = np.load(frame_path)
    path = _open(kind, files)

    def throughput(frames: int, in_flight: int) -> dict[str, Any]:
        from runtime.lanes import open_lanes

        with open_lanes(files[0], in_flight) as lanes:
            lanes.warm_up(frame, 2)  # a lane captures its CUDA graph before its second frame
            return {"frames_per_s": frames_per_s([lanes] * in_flight, frame, frames)}

    def mask(file: str) -> dict[str, Any]:
        np.save(file, path.segment(frame))
        return {}

    orders: dict[str, Callable[..., dict[str, Any]]] = {
        "frame": lambda: _timed(path, frame),
        "mask": mask,
        "throughput": throughput,
        "peak": lambda: {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024},
    }
    answer({})
    for line in sys.stdin:
        order = json.loads(line)
        answer(orders[order.pop("do")](**order))


def frames_per_s(paths: list[Any], frame: np.ndarray, frames: int) -> float:
    """How many frames a second come out while each of `paths` has one in flight.

    Args:
        paths: each has `segment`, and a thread of its own here.
        frame: uint8 (H, W, 3) RGB.
        frames: how many each does; before them each does one that is not timed.
    """
    ready = threading.Barrier(len(paths) + 1)

    def work(path: Any) -> None:
        path.segment(frame)
        ready.wait()
        for _ in range(frames):
            path.segment(frame)

    threads = [threading.Thread(target=work, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(paths) * frames / (time.perf_counter() - start)


def _held_to(threads: int) -> AbstractContextManager[None]:
    # 0: to what the code that is measured takes by itself.
    if not threads:
        return nullcontext()
    try:
        from runtime.threads import for_command
    except ImportError:
        raise EngineError("its code is older than --threads and cannot be held to a number: leave it out") from None
    return for_command(threads)


def _environment(code: Path) -> dict[str, str]:
    # This code before any other; what the user added stays, and a relative folder of theirs stays where it was meant.
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(code), *(str(Path(path).absolute()) for path in given)])}


def _timed(path: Any, frame: np.ndarray) -> dict[str, Any]:
    start = time.perf_counter_ns()
    path.segment(frame)
    return {"ms": (time.perf_counter_ns() - start) / 1e6, "stages_ms": getattr(path, "stages_ms", {})}


def _open(kind: str, files: tuple[str, ...]) -> Any:
    if kind == ENGINE:
        from runtime.backend import open_backend

        return open_backend(files[0])
    from runtime.measure.rivals import open_rival

    return open_rival(kind, [Path(file) for file in files])


def _answers() -> Callable[[dict[str, Any]], None]:
    # What a library prints on standard output must not come between two answers: it goes to stderr.
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=own, flush=True)


if __name__ == "__main__":
    from runtime.errors import PipelineError

    to_parent = _answers()
    try:
        with _held_to(int(sys.argv[1])):
            serve(to_parent, *sys.argv[2:])
    except PipelineError as problem:
        to_parent({"error": str(problem)})
