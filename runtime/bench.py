"""Frame in memory to mask in memory, against what one would write with onnxruntime, OpenCV and NumPy; interleaved.

`python -m runtime.bench --engine ENGINE --baseline ENGINE [--json]`; `make bench` builds both.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backend import Backend, open_backend
from runtime.cli import DONE, log, run
from runtime.errors import EngineError
from runtime.frames import read_frame, write_png
from runtime.manifest import newest_engine, read_manifest, verified_engine
from runtime.reference import resize_frame
from runtime.spec import ModelSpec

STREET = Path("tests/data/street.jpg")
FRAME_SIZE = (1024, 2048)  # the size that the project's figures are quoted at
IMPORT = "import time; t = time.perf_counter(); import runtime; print(time.perf_counter() - t)"


class UsualPath:
    """What a careful user writes: OpenCV resizes and NumPy normalises, onnxruntime infers, OpenCV resizes, argmax."""

    def __init__(self, engine: Path) -> None:
        import onnxruntime

        manifest = read_manifest(engine)
        if manifest.backend != "onnxruntime" or manifest.spec.block != 1:
            raise EngineError(f"{engine} is no plain graph on onnxruntime; make bench builds one")
        self.spec: ModelSpec = manifest.spec
        self._session = onnxruntime.InferenceSession(
            verified_engine(engine, manifest), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> uint8 (H, W)."""
        import cv2

        p = self.spec.preprocess
        if frame.shape[:2] != (p.height, p.width):
            frame = cv2.resize(frame, (p.width, p.height), interpolation=cv2.INTER_LINEAR)
        values = (frame.astype(np.float32) * p.scale - np.asarray(p.mean, np.float32)) / np.asarray(p.std, np.float32)
        values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        logits = self._session.run(None, {self._input: values})[0][0]
        if logits.shape[1:] != frame.shape[:2]:
            wide = cv2.resize(logits.transpose(1, 2, 0), frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            mask: np.ndarray = wide.argmax(axis=2).astype(np.uint8)
        else:
            mask = logits.argmax(axis=0).astype(np.uint8)
        return mask


def interleave(paths: dict[str, Callable[[], Any]], rounds: int, warmup: int) -> dict[str, list[float]]:
    """Milliseconds of every call, the paths taking turns, so that a slow moment of the machine meets all of them."""
    for call in paths.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, call in paths.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def measure(backend: Backend, usual: UsualPath, frame: np.ndarray, rounds: int, warmup: int) -> dict[str, Any]:
    """Both paths on one frame, uint8 (H, W, 3): milliseconds, their ratio, and how far the masks agree."""
    agreement = float((backend.segment(frame) == usual.segment(frame)).mean())
    stages: list[dict[str, float]] = []

    def ours() -> None:
        backend.segment(frame)
        stages.append(backend.stages_ms)

    times = interleave({"engine": ours, "usual": lambda: usual.segment(frame)}, rounds, warmup)
    kept = stages[warmup:]
    return {
        "frame": list(frame.shape),
        "rounds": rounds,
        "engine_ms": percentiles(times["engine"]),
        "usual_ms": percentiles(times["usual"]),
        "ratio": float(np.median(np.divide(times["usual"], times["engine"]))),
        "stages_ms": {name: float(np.median([stage[name] for stage in kept])) for name in kept[0]},
        "mask_agreement": agreement,
        "samples_ms": times,
    }


def percentiles(samples_ms: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the maximum of some milliseconds."""
    p50, p90, p99 = np.percentile(samples_ms, (50, 90, 99))
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99), "max": max(samples_ms)}


def process_figures(engine: Path, frame: np.ndarray) -> dict[str, float]:
    """Peak memory of `runtime.infer` on that one frame, in MiB, and the seconds that `import runtime` takes."""
    import_s = min(
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "frame.png"
        write_png(image, frame)
        command = [sys.executable, "-m", "runtime.infer", str(image), "-o", folder, "--engine", str(engine)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        subprocess.run(command, check=True, capture_output=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak > before, "the largest child so far was not runtime.infer"
    return {"infer_peak_mib": peak / 1024, "import_s": import_s}


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m runtime.bench", description=__doc__)
    parser.add_argument("--engine", type=Path, help="the engine (by default the newest of this machine)")
    parser.add_argument("--baseline", type=Path, required=True, help="a plain FP32 graph's engine on onnxruntime")
    parser.add_argument("--frame", type=Path, default=STREET, help=f"an image ({STREET}), brought to 1024x2048")
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each path (20)")
    parser.add_argument("--warmup", type=int, default=3, help="calls before them (3)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments = parser.parse_args(argv)
    engine = arguments.engine or newest_engine()
    frame = resize_frame(read_frame(arguments.frame), *FRAME_SIZE)
    found = process_figures(engine, frame)
    manifest = read_manifest(engine)
    log(f"measuring {engine.name}: {arguments.rounds} rounds")
    usual = UsualPath(arguments.baseline)
    with open_backend(engine) as backend:
        found |= measure(backend, usual, frame, arguments.rounds, arguments.warmup)
    name = f"{manifest.spec.name} {manifest.precision} on {manifest.backend}"
    print(json.dumps({"engine": engine.name, **found}, indent=1) if arguments.json else as_text(name, found))
    return DONE


def as_text(name: str, found: dict[str, Any]) -> str:
    """What was measured, for people."""
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in found["stages_ms"].items())
    rows = [
        f"{name}, frame {found['frame'][0]}x{found['frame'][1]} in memory to mask in memory, {found['rounds']} rounds",
        "                     p50      p90      p99      max  ms",
        *(
            f"  {label:<14}" + "".join(f"{found[key][p]:9.1f}" for p in ("p50", "p90", "p99", "max"))
            for label, key in (("this engine", "engine_ms"), ("usual path", "usual_ms"))
        ),
        f"  {found['ratio']:.2f}x faster (median of the rounds' ratios), masks agree on {found['mask_agreement']:.3%}",
        f"  stages: {stages} ms",
        f"  peak of runtime.infer: {found['infer_peak_mib']:.0f} MiB; import runtime: {found['import_s'] * 1e3:.0f} ms",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    run(main)
