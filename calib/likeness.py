"""How like its float graph an INT8 graph is: both on the referee, on frames of the calibration.

What errors the first layers make all layers behind them hand on, and many make them larger. So where the two are too
far apart, the layers from the frame on stay in FP16, the fewest that bring them together.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from calib.placement import layers
from calib.table import CalibrationTable, calibration_frames
from engines.built import Built
from engines.onnxruntime_build import float_from_half
from engines.proof import REFEREE, Engine, opened
from runtime import reference
from runtime.cli import log, progress
from runtime.commands import command, option
from runtime.errors import GraphError
from runtime.media.frames import read_frame
from runtime.proof import noisy
from runtime.samples import STREET
from runtime.spec import ModelSpec

LEAST = 0.94  # correlation of logits; trained networks have 0.99 and more
MOST_LEFT = 0.5  # of the layers: what is left to INT8 then is worth no other mask
LEAST_EQUAL = 0.9  # of the masks' pixels, under which a warning says so
Quantize = Callable[[CalibrationTable], onnx.ModelProto]


class Likeness(NamedTuple):
    """Of an INT8 graph beside its float graph: over all frames together."""

    correlation: float  # of logits
    masks_equal: float  # share of the pixels
    frames: int
    of: str  # which frames

    def told(self) -> str:
        """In words, for one line."""
        logits = f"logits correlated {self.correlation:.4f} with the float graph's"
        return f"{logits}, {self.masks_equal:.2%} of the masks equal"

    def where(self) -> str:
        """On which frames, in words."""
        return f"on {self.of}" if self.frames == 1 else f"on {self.frames} {self.of}"


class Judge:
    """A float graph's results on some frames, uint8 (H, W, 3) RGB, to which INT8 graphs are held."""

    def __init__(self, model: onnx.ModelProto, spec: ModelSpec, frames: Sequence[np.ndarray], of: str) -> None:
        self.onnx, self.spec, self.frames, self.of = model.SerializeToString(), spec, frames, of
        self.logits = self._run(self.onnx, frames)
        self.masks = [
            reference.segment(each, spec, frame.shape) for each, frame in zip(self.logits, frames, strict=True)
        ]

    def of_graph(self, model: onnx.ModelProto) -> Likeness:
        """How like the float graph this one is."""
        return self._likeness(self._run(model.SerializeToString(), self.frames))

    def of_noise(self) -> Likeness:
        """How like itself the float graph is where half of a frame's values are one grey level brighter."""
        return self._likeness(self._run(self.onnx, [noisy(frame) for frame in self.frames]))

    def _run(self, content: bytes, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        built = Built(float_from_half(content), {"fp32": 1})
        with opened(Engine(built, self.spec, "fp32", REFEREE)) as referee:
            return [referee.logits(frame) for frame in frames]

    def _likeness(self, found: list[np.ndarray]) -> Likeness:
        masks = [reference.segment(each, self.spec, of.shape) for each, of in zip(found, self.frames, strict=True)]
        equal = sum(int((a == b).sum()) for a, b in zip(masks, self.masks, strict=True)) / sum(m.size for m in masks)
        return Likeness(correlation(self.logits, found), equal, len(self.frames), self.of)


def correlation(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Of the values of two lists of arrays of the same shapes; of constants 1 where they are the same, else 0."""
    first, second = (np.concatenate([each.ravel() for each in arrays]).astype(np.float64) for arrays in (wanted, found))
    if not np.isfinite(second).all():
        return 0.0
    if min(first.std(), second.std()) == 0:
        return float(np.array_equal(first, second))
    return float(np.corrcoef(first, second)[0, 1])


def held(
    model: onnx.ModelProto, spec: ModelSpec, table: CalibrationTable, path: Path, quantize: Quantize, *, anyway: bool
) -> tuple[onnx.ModelProto, CalibrationTable, Likeness]:
    """An INT8 graph that is like its float graph, the table with all that it leaves in FP16, and how like it is.

    Args:
        model: the float graph.
        spec: of it.
        table: with the layers that were asked to be left.
        path: of the table.
        quantize: the INT8 graph by a table.
        anyway: take the graph as it is.

    Raises:
        GraphError: it is too far, and leaving `MOST_LEFT` of its layers does not mend it.
    """
    judge = Judge(model, spec, *_frames(path, table))
    made = quantize(table)
    found = judge.of_graph(made)
    if found.correlation < LEAST and not anyway:
        log(f"{spec.name} in INT8 is far from its float graph {found.where()}: {found.told()}; {_noise(judge)}")
        table = _mended(model, spec, table, judge, found, quantize)
        made = quantize(table)
        found = judge.of_graph(made)
    return made, table, found


def tell(found: Likeness, name: str) -> None:
    """Say how like its float graph the INT8 graph of a network is."""
    is_far = found.correlation < LEAST or found.masks_equal < LEAST_EQUAL
    compare = f"compare masks on labelled frames before it is used ({command('evaluate')})"
    advice = f"; {compare}, or take {option('precision', 'fp16')}" * is_far
    log(f"{'warning: ' * is_far}{name} in INT8 {found.where()}: {found.told()}{advice}")


def _mended(
    model: onnx.ModelProto, spec: ModelSpec, table: CalibrationTable, judge: Judge, all_in_int8: Likeness,
    quantize: Quantize,
) -> CalibrationTable:  # fmt: skip
    names = [name for name in dict.fromkeys(layers(model.graph).values()) if name not in table.float_layers]

    def leaving(count: int) -> CalibrationTable:
        return dataclasses.replace(table, float_layers=(*table.float_layers, *names[:count]))

    most = int(MOST_LEFT * len(names))
    low, high = 1, most + 1  # the fewest; more than `most` is none
    for _ in progress(range(high.bit_length()), "leave the first layers in FP16", unit="try"):
        middle = (low + high) // 2
        if low == high:
            break
        if judge.of_graph(quantize(leaving(middle))).correlation >= LEAST:
            high = middle
        else:
            low = middle + 1
    if high > most:
        raise GraphError(
            f"{spec.name} in INT8 is not its float graph {all_in_int8.where()}: {all_in_int8.told()}, at least "
            f"{LEAST} is expected, and the first {most} of its {len(names)} layers in FP16 do not bring it there; "
            f"{_noise(judge)}. Take PRECISION=fp16, calibrate on other frames, name layers with --leave, or take it as "
            f"it is with --anyway"
        )
    log(
        f"warning: the first {high} of {len(names)} layers stay in FP16, up to {names[high - 1]}: with fewer logits "
        f"are correlated under {LEAST}. calib.sensitivity finds others for --leave; --anyway takes all in INT8"
    )
    return leaving(high)


def _noise(judge: Judge) -> str:
    return f"one grey level of noise in the frame alone leaves {judge.of_noise().correlation:.4f} of its own"


def _frames(path: Path, table: CalibrationTable) -> tuple[list[np.ndarray], str]:
    found = calibration_frames(path, table)
    if found:
        return [read_frame(frame) for frame in found], "calibration frames" if len(found) > 1 else "a calibration frame"
    return [read_frame(STREET)], "the bundled street frame"
