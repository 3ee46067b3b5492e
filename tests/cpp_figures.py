"""What examples/cpp/README.md measures: `python -m tests.cpp_figures ENGINE --built artifacts/cpp`.

The program in C++ and Python's `segment` take turns on one picture, each a process's worth of rounds at a time; then
the kernels by themselves, C++ through its C interface and Python's, turn by turn in one process.
"""

import argparse
import ctypes
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import runtime
from runtime.kernels.cpu import FrameResizer, Segmenter
from runtime.manifest import read_manifest
from runtime.threads import count
from tests.helpers.cpp_kernels import Kernels

TURNS, ROUNDS = 5, 30


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--built", type=Path, required=True, help="folder of the example's build")
    parser.add_argument("--frame", type=Path, default=Path("runtime/samples/street.jpg"))
    parser.add_argument("--size", default="1024x2048", help="of the frame, HEIGHTxWIDTH (default: 1024x2048)")
    given = parser.parse_args(argv)
    height, width = map(int, given.size.split("x"))
    frame = np.ascontiguousarray(cv2.resize(runtime.read_frame(given.frame), (width, height)))
    programs(given, frame)
    kernels(given, frame)
    return 0


def programs(given: argparse.Namespace, frame: np.ndarray) -> None:
    """Tell the median of each turn, and of both the median of those."""
    turns: dict[str, list[float]] = {"C++": [], "Python": []}
    with tempfile.TemporaryDirectory() as folder, runtime.open_backend(given.engine) as backend:
        picture = Path(folder, "frame.ppm")
        cv2.imwrite(str(picture), frame[..., ::-1])
        command = [given.built / "segment", given.engine, picture, "-o", folder, "--rounds", str(ROUNDS)]
        for _ in range(TURNS):
            said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            turns["C++"].append(float(re.findall(r"([\d.]+) ms", said)[0]))
            turns["Python"].append(median_ms(lambda: backend.segment(frame)))
        mask = cv2.imread(f"{folder}/frame_ppm_ids.pgm", cv2.IMREAD_UNCHANGED)
        print("same mask:", np.array_equal(mask, backend.segment(frame)))
    for name, found in turns.items():
        print(f"{name} segment: {statistics.median(found):.1f} ms, turns {min(found):.1f} to {max(found):.1f}")


def kernels(given: argparse.Namespace, frame: np.ndarray) -> None:
    """The same of the kernels alone, on the engine's own logits."""
    spec, library = read_manifest(given.engine).spec, ctypes.CDLL(str(given.built.resolve() / "libsegment_c.so"))
    with runtime.open_backend(given.engine) as backend:
        logits = np.ascontiguousarray(backend.logits(frame)[0].transpose(1, 2, 0))
    cpp, resizer, segmenter = Kernels(library, spec, count()), FrameResizer(spec.preprocess), Segmenter(spec)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "resize": (lambda: cpp.resize(frame), lambda: resizer.resize(frame)),
        "mask": (lambda: cpp.segment(logits, *frame.shape[:2]), lambda: segmenter.segment(logits, *frame.shape[:2])),
    }
    for name, (first, second) in pairs.items():
        turns = [(median_ms(first), median_ms(second)) for _ in range(TURNS)]
        ours, theirs = (statistics.median(times) for times in zip(*turns, strict=True))
        print(f"{name}: C++ {ours:.2f} ms, Python {theirs:.2f} ms")


def median_ms(call: Callable[[], object]) -> float:
    """Of `ROUNDS` calls, after two."""
    times = []
    for _ in range(ROUNDS + 2):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
