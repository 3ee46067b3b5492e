"""The child's half of a worker, run as a program: it opens a path, then times frames when it is told to.

It runs under the `runtime` of whichever tree is measured, an old one too, and so imports next to nothing of it.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np


def serve(answer: Callable[[dict[str, Any]], None], kind: str, fit: str, frame_path: str, *files: str) -> None:
    """The child: open the path, say so, then answer each line of JSON on stdin.

    Orders: `{"do": "frame", "lead_ms"}` gives ms and the stages of one frame, after so long of others that
    are not timed; `{"do": "busy", "seconds"}` does frames for so long; `{"do": "mask", "file"}` writes a mask as .npy,
    of its frame or of the one in the file `"of"`;
    `{"do": "throughput", "frames", "in_flight"}` gives an engine's frames a second with so many at once;
    `{"do": "peak"}` gives the most memory so far, in MiB; `{"do": "facts"}` what the manifest says of an engine.
    """
    frame = np.load(frame_path)
    # Of a tree that is older than a frame's fit nothing is asked that it does not know.
    fitted: dict[str, Any] = {"fit": fit} if fit else {}
    path = _open(kind, files, fitted)

    def throughput(frames: int, in_flight: int) -> dict[str, Any]:
        from runtime.lanes import open_lanes

        # All lanes are kept busy; an old tree knows no other way.
        busy: dict[str, Any] = {"lone": False} if "lone" in signature(open_lanes).parameters else {}
        with open_lanes(files[0], in_flight, **fitted, **busy) as lanes:
            lanes.warm_up(frame, 2)  # a lane captures its CUDA graph before its second frame
            return {"frames_per_s": frames_per_s([lanes] * in_flight, frame, frames)}

    def mask(file: str, of: str = "") -> dict[str, Any]:
        np.save(file, path.segment(np.load(of) if of else frame))
        return {}

    orders: dict[str, Callable[..., dict[str, Any]]] = {
        "frame": lambda lead_ms=0.0: _timed(path, frame, lead_ms),
        "busy": lambda seconds: {"frames": _busy(path, frame, seconds)},
        "mask": mask,
        "throughput": throughput,
        "peak": lambda: {"mib": peak_mib()},
        "facts": lambda: _facts(files[0]),
    }
    answer({"files": _files()})
    for line in sys.stdin:
        order = json.loads(line)
        answer(orders[order.pop("do")](**order))


def peak_mib() -> float:
    """The most memory that this program has had, in MiB.

    Where the system tells only of the process, what started it counts, too: Linux hands `ru_maxrss` on to a child.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def frames_per_s(paths: list[Any], frame: np.ndarray, frames: int) -> float:
    """How many frames a second come out while each of `paths` has one in flight.

    Args:
        paths: each has `segment`, and a thread of its own here.
        frame: uint8 (H, W, 3) RGB.
        frames: how many each does; before them each does one that is not timed.
    """
    began: list[float] = []
    # By the barrier itself, before it lets anyone go: a busy machine may wake this thread after others' first frames.
    ready = threading.Barrier(len(paths) + 1, action=lambda: began.append(time.perf_counter()))

    def work(path: Any) -> None:
        path.segment(frame)
        ready.wait()
        for _ in range(frames):
            path.segment(frame)

    threads = [threading.Thread(target=work, args=(path,), daemon=True) for path in paths]
    for thread in threads:
        thread.start()
    ready.wait()
    for thread in threads:
        thread.join()
    return len(paths) * frames / (time.perf_counter() - began[0])


def _files() -> list[str]:
    # Of every module of `runtime` that is loaded, the package first. One file would not do: of a folder without
    # __init__.py Python makes one package with the next one that it finds, and takes the modules from that.
    loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "runtime")
    files = [getattr(sys.modules[name], "__file__", None) for name in loaded]
    return [file for file in files if file]


def _facts(file: str) -> dict[str, Any]:
    try:
        from runtime.manifest import read_manifest

        manifest = read_manifest(file)
        size = manifest.spec.preprocess
        return {
            "model": manifest.spec.name, "weights_sha256": manifest.spec.weights_sha256,
            "precision": manifest.precision, "backend": manifest.backend, "network_size": [size.height, size.width],
        }  # fmt: skip
    except (ImportError, AttributeError) as error:  # a code that reads manifests in another way
        return {"error": f"its own code does not tell what it is ({error})"}


def _busy(path: Any, frame: np.ndarray, seconds: float) -> int:
    # How many frames it did.
    until, frames = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        path.segment(frame)
        frames += 1
    return frames


def _timed(path: Any, frame: np.ndarray, lead_ms: float) -> dict[str, Any]:
    _busy(path, frame, lead_ms / 1e3)
    start = time.perf_counter_ns()
    path.segment(frame)
    return {"ms": (time.perf_counter_ns() - start) / 1e6, "stages_ms": dict(getattr(path, "stages_ms", {}))}


def _open(kind: str, files: tuple[str, ...], fitted: dict[str, Any]) -> Any:
    if kind == "engine":
        from runtime.backend import open_backend

        return open_backend(files[0], **fitted)
    if kind == "roof":
        from runtime.measure.roof import Roof

        return Roof()
    if kind in ("mnn", "ncnn"):
        from runtime.measure.mobile_rivals import open_mobile

        return open_mobile(kind, Path(files[0]), fitted.get("fit"))
    from runtime.measure.rivals import open_rival

    return open_rival(kind, [Path(file) for file in files], **fitted)


def _held_to(threads: int) -> AbstractContextManager[None]:
    # 0: to what the code that is measured takes by itself.
    if not threads:
        return nullcontext()
    try:
        from runtime.threads import for_command
    except ImportError:
        from runtime.errors import EngineError

        raise EngineError("its code is older than --threads and cannot be held to a number: leave it out") from None
    return for_command(threads)


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
