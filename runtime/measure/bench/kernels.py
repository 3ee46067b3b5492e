"""The kernels before and after the network by themselves: `python -m runtime.bench --kernels`."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from runtime import reference
from runtime.backend import Backend, open_backend
from runtime.backends.tensorrt_clock import KernelTimes
from runtime.kernels import cpu
from runtime.labels import palette
from runtime.measure.rounds import percentiles, take_turns, timed, turns

NUMPY_SHARE = 10  # of the calls of a kernel, one in so many of the NumPy that defines it
ALPHA = 0.5


@runtime_checkable
class OnGpu(Protocol):
    """A backend whose kernels run on a GPU: `runtime.backends.tensorrt`."""

    def kernels_alone(self, frame: np.ndarray, rounds: int) -> list[KernelTimes]:
        """Each by itself, beside a copy."""


def measure(engine: Path, frame: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """The kernels that this engine's backend runs.

    Args:
        engine: whose sizes, classes and logits are taken.
        frame: uint8 (H, W, 3) RGB.
        rounds: timed calls of each; of NumPy a tenth.

    Returns:
        by kernel, percentiles in ms; on a GPU also `gb_per_s`, and `of_a_copy`: the time of a copy on the device that
        moves as many bytes over the kernel's, both medians.
    """
    with open_backend(engine) as backend:
        if isinstance(backend, OnGpu):
            return {one.kernel: _beside_a_copy(one) for one in backend.kernels_alone(frame, rounds)}
        calls = _calls(backend, frame)
    for call in calls.values():
        call()  # compiles, makes tables
    kernels = [name for name in calls if "NumPy" not in name]
    order = turns(np.random.default_rng(0), rounds, 1, len(kernels))
    samples = take_turns([timed(calls[name]) for name in kernels], order)
    found = {name: percentiles(samples[i]) for i, name in enumerate(kernels)}
    for name in [name for name in calls if name not in kernels]:
        found[name] = percentiles(np.array([timed(calls[name])() for _ in range(rounds // NUMPY_SHARE + 1)]))
    return found


def _beside_a_copy(one: KernelTimes) -> dict[str, float]:
    ms, copy_ms = np.array(one.ms), np.array(one.copy_ms)
    rates = {"gb_per_s": one.nbytes / np.median(ms) / 1e6, "of_a_copy": np.median(copy_ms) / np.median(ms)}
    return percentiles(ms) | {name: float(value) for name, value in rates.items()}


def _calls(backend: Backend, frame: np.ndarray) -> dict[str, Callable[[], object]]:
    spec, logits, mask = backend.spec, backend.logits(frame), backend.segment(frame)
    height, width = mask.shape
    network, colors = (spec.preprocess.height, spec.preprocess.width), palette(spec.classes)
    smaller = reference.resize_frame(frame, height * 3 // 4, width * 3 // 4)
    last = _as_from_engine(np.ascontiguousarray(logits[0].transpose(1, 2, 0)), spec.block)
    resizer, segmenter = cpu.FrameResizer(spec.preprocess), cpu.Segmenter(spec)
    own = getattr(backend, "postprocessing", None)  # of logits as they leave the engine, where it is known how
    return {
        "resize": lambda: resizer.resize(smaller),
        "upsample and argmax": own(frame) if own else lambda: segmenter.segment(last, height, width),
        "overlay": lambda: cpu.overlay(frame, mask, colors, ALPHA),
        "resize, NumPy": lambda: reference.resize_frame(smaller, *network),
        "upsample and argmax, NumPy": lambda: reference.segment(logits, spec, (height, width)),
        "overlay, NumPy": lambda: reference.overlay(frame, mask, colors, ALPHA),
    }


def _as_from_engine(logits: np.ndarray, block: int) -> np.ndarray:
    # Logits in blocks that are all bfloat16 values left the engine as such, and the kernel reads their bits.
    bits = logits.view(np.uint32)
    return logits if block == 1 or (bits & 0xFFFF).any() else (bits >> 16).astype(np.uint16)


def as_text(found: dict[str, dict[str, float]]) -> str:
    """A line a kernel."""
    names = [name for name in next(iter(found.values())) if name not in ("gb_per_s", "of_a_copy")]
    lines = [f"{'kernel':<28}" + "".join(f"{name:>9}" for name in names) + "  ms"]
    for kernel, values in found.items():
        line = f"{kernel:<28}" + "".join(f"{values[name]:>9.3f}" for name in names)
        if "of_a_copy" in values:
            line += f"  {values['gb_per_s']:.0f} GB/s, {values['of_a_copy']:.0%} of a copy's rate"
        lines.append(line)
    return "\n".join(lines)
