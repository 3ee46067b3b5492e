"""What INT8 costs, layer by layer, and which layers to leave in FP16.

`python -m calib.sensitivity GRAPH.onnx --dataset camvid --data DIR` quantizes each layer of the FP32 graph alone, then
together, on labelled training frames; where all together lose more than --max-drop, or change more pixels than
--max-changed, the fewest of the costliest layers that mend it are written into a new calibration table, whose path is
the last line.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx

from calib.graphs import load_graph
from calib.placement import layers
from calib.qdq import quantize
from calib.table import TABLES, CalibrationTable, save_table, table_for
from runtime.accuracy.datasets import DATASETS, open_dataset, read_pair
from runtime.accuracy.metrics import confusion, mean_iou
from runtime.accuracy.seen import seen_in, tell
from runtime.arguments import Parser
from runtime.artifacts import key_of, sha256_of, write_atomically
from runtime.backends.onnxruntime import CPU, session_options
from runtime.cli import DONE, count_from_text, log, number_from_text, progress, run, seed_from_text, show
from runtime.errors import DatasetError
from runtime.media.frames import add_max_pixels
from runtime.reference import preprocess, segment
from runtime.spec import ModelSpec

FRAMES = 16
MAX_DROP = 0.5  # points of mIoU
BAR_PX, ROW_PX, NAME_PX, FIGURE_PX = 360, 18, 190, 90
INK, BAR = (60, 60, 60), (40, 110, 220)  # BGR


class Labelled(NamedTuple):
    """Frames as the network takes them, float32 (1, 3, h, w), and their labels, uint8 (H, W)."""

    inputs: list[np.ndarray]
    labels: list[np.ndarray]


class Worth(NamedTuple):
    """Of a graph: its mIoU in percent, and its masks."""

    miou: float
    masks: list[np.ndarray]


class Analysis(NamedTuple):
    """What INT8 costs a network: in percent, of the frames that it was measured on."""

    float_miou: float
    int8_miou: float  # with every layer quantized
    changed_percent: float  # of the pixels, then
    costs: list["Cost"]
    left: tuple[str, ...]  # the layers to leave in FP16


class Bounds(NamedTuple):
    """What INT8 may cost: points of mIoU, and the percent of the pixels whose class changes."""

    max_drop: float
    max_changed: float

    def keep(self, found: Worth, whole: Worth) -> bool:
        """Whether a graph of that worth is within them, beside the float one."""
        changed = changed_percent(found.masks, whole.masks)
        return whole.miou - found.miou <= self.max_drop and changed <= self.max_changed


class Cost(NamedTuple):
    """Of quantizing a layer alone: points of mIoU lost, and the percent of pixels whose class changes."""

    layer: str
    miou_drop: float
    changed: float


def worth(model: onnx.ModelProto, spec: ModelSpec, data: Labelled) -> Worth:
    """What the graph's masks are worth, by onnxruntime and the runtime's definition of a mask."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    matrix = np.zeros((len(spec.classes), len(spec.classes)), np.int64)
    masks = []
    pairs = list(zip(data.inputs, data.labels, strict=True))
    for values, label in progress(pairs, "evaluate", unit="frame"):
        mask = segment(session.run(None, {model.graph.input[0].name: values})[0], spec, label.shape)
        matrix += confusion(mask, label, len(spec.classes))
        masks.append(mask)
    return Worth(100 * mean_iou(matrix), masks)


def changed_percent(masks: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Percent of the pixels whose class differs."""
    different = sum(int(np.count_nonzero(a != b)) for a, b in zip(masks, others, strict=True))
    return 100 * different / sum(mask.size for mask in masks)


def layer_costs(names: Sequence[str], of: Callable[[tuple[str, ...]], Worth], float_worth: Worth) -> list[Cost]:
    """The cost of each layer, quantized alone; the costliest first.

    Args:
        names: all layers.
        of: what the graph is worth with these layers left in float.
        float_worth: what it is worth with all of them left.
    """
    costs = []
    for name in progress(names, "quantize alone", unit="layer"):
        alone = of(tuple(other for other in names if other != name))
        costs.append(Cost(name, float_worth.miou - alone.miou, changed_percent(alone.masks, float_worth.masks)))
    return sorted(costs, key=lambda cost: -cost.changed)


def fewest_left(costs: Sequence[Cost], keeps: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """The shortest beginning of `costs` that, left in float, keeps what the others cost within its bounds.

    Found by bisection: leaving more layers never costs more, but for noise.
    """
    names = [cost.layer for cost in costs]
    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        if keeps(tuple(names[:middle])):
            high = middle
        else:
            low = middle + 1
    return tuple(names[:high])


def as_text(costs: Sequence[Cost]) -> str:
    """A line a layer."""
    rows = [f"{cost.layer:<28}{cost.miou_drop:>10.2f}{cost.changed:>12.3f}" for cost in costs]
    return "\n".join([f"{'layer alone in INT8':<28}{'mIoU lost':>10}{'% changed':>12}", *rows])


def draw_costs(costs: Sequence[Cost]) -> np.ndarray:
    """A bar a layer, its length the share of pixels that change; uint8 (H, W, 3) BGR."""
    canvas = np.full((ROW_PX * (len(costs) + 2), NAME_PX + BAR_PX + FIGURE_PX, 3), 255, np.uint8)
    largest = max((cost.changed for cost in costs), default=0) or 1
    _write(canvas, "% of pixels that change with the layer alone in INT8", (8, ROW_PX))
    for row, cost in enumerate(costs, 2):
        bottom, end = ROW_PX * row, NAME_PX + round(BAR_PX * cost.changed / largest)
        _write(canvas, cost.layer, (8, bottom))
        cv2.rectangle(canvas, (NAME_PX, bottom - 10), (end, bottom), BAR, -1)
        _write(canvas, f"{cost.changed:.3f}", (end + 6, bottom))
    return canvas


def load_frames(dataset: str, data: Path, spec: ModelSpec, count: int, seed: int) -> Labelled:
    """Labelled training frames: validation frames choose nothing.

    Raises:
        DatasetError: the data set is not as it must be, or has other classes than the network.
    """
    opened = open_dataset(dataset, data)
    if [label.name for label in opened.classes] != [label.name for label in spec.classes]:
        raise DatasetError(f"{dataset} has other classes than {spec.name}: {len(opened.classes)}, {len(spec.classes)}")
    pairs = opened.pairs("train")
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    frames = [read_pair(pairs[i]) for i in chosen]
    tell(seen_in((label for _, label in frames), len(pairs)), opened.classes, f"{opened.name} train")
    return Labelled([preprocess(frame, spec.preprocess) for frame, _ in frames], [label for _, label in frames])


def analyse(
    model: onnx.ModelProto, spec: ModelSpec, table: CalibrationTable, data: Labelled, bounds: Bounds
) -> Analysis:
    """The cost of every layer and of all together, and the layers that the bounds want left."""
    names = sorted(set(layers(model.graph).values()))

    def left(float_layers: tuple[str, ...]) -> Worth:
        return worth(quantize(model, dataclasses.replace(table, float_layers=float_layers)), spec, data)

    whole = worth(model, spec, data)
    costs = layer_costs(names, left, whole)
    kept = fewest_left(costs, lambda float_layers: bounds.keep(left(float_layers), whole))
    everything = left(())
    changed = changed_percent(everything.masks, whole.masks)
    log(
        f"{spec.name}: {whole.miou:.2f} mIoU in float, {everything.miou:.2f} all in INT8 "
        f"({changed:.2f} % of pixels change), {len(data.labels)} frames; left in FP16: {', '.join(kept) or 'none'}"
    )
    return Analysis(whole.miou, everything.miou, changed, costs, kept)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every command asks that measures quantized graphs on labelled training frames."""
    parser.add_argument("graph", type=Path, help="the FP32 graph that export.to_onnx wrote")
    parser.add_argument("--table", type=Path, help="by default the newest of the same weights, or the one shipped")
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--data", required=True, type=Path, help="folder of the data set")
    parser.add_argument("--frames", type=count_from_text, default=FRAMES, help="of the training split (%(default)s)")
    parser.add_argument("--seed", type=seed_from_text, default=0, help="of their choice (%(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="the figures, and what they rest on; sensitivity puts its plot beside"
    )


def measured_on(
    arguments: argparse.Namespace, spec: ModelSpec, data: Labelled, path: Path, table: CalibrationTable
) -> dict[str, Any]:
    """What the figures of such a command rest on, as JSON values."""
    return {
        "model": spec.name,
        "weights_sha256": spec.weights_sha256,
        "dataset": arguments.dataset,
        "split": "train",
        "frames": len(data.labels),
        "seed": arguments.seed,
        "table_sha256": sha256_of(path),
        "calibration_frames": len(table.frames),
    }


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m calib.sensitivity", description=__doc__)
    add_options(parser)
    parser.add_argument(
        "--max-drop", type=number_from_text, default=MAX_DROP, help="points of mIoU that may be lost (%(default)s)"
    )
    parser.add_argument(
        "--max-changed", type=number_from_text, default=100.0, help="percent of the pixels that may change (any)"
    )
    add_max_pixels(parser)
    arguments = parser.parse_args(argv)
    model, spec = load_graph(arguments.graph, "fp32")
    given, table = table_for(spec, arguments.table)
    data = load_frames(arguments.dataset, arguments.data, spec, arguments.frames, arguments.seed)
    bounds = Bounds(arguments.max_drop, arguments.max_changed)
    found = analyse(model, spec, table, data, bounds)
    chosen = dataclasses.replace(table, float_layers=found.left)
    key = key_of({"table": dataclasses.asdict(chosen), "costs": found.costs})
    path = TABLES / f"{spec.name}-{chosen.method}-{key}.json"
    save_table(path, chosen)
    picture = cv2.imencode(".png", draw_costs(found.costs))[1].tobytes()
    write_atomically(path.with_suffix(".png"), picture)
    if arguments.json:
        costs = [cost._asdict() for cost in found.costs]
        document = {**measured_on(arguments, spec, data, given, table), "method": table.method}
        document |= {"bounds": bounds._asdict(), **found._asdict()}
        write_atomically(arguments.json, (json.dumps({**document, "costs": costs}, indent=1) + "\n").encode())
        write_atomically(arguments.json.with_suffix(".png"), picture)
    show(f"{as_text(found.costs)}\n{path}")
    return DONE


def _write(canvas: np.ndarray, text: str, position: tuple[int, int]) -> None:
    cv2.putText(canvas, text, position, cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)


if __name__ == "__main__":
    run(main)
