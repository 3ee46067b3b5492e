"""What each way to choose ranges is worth, with bias correction and without: the figures the defaults rest on.

`python -m calib.methods GRAPH.onnx --dataset camvid --data DIR` quantizes the FP32 graph in every way and compares the
masks with labels and with the float ones, on training frames: validation frames choose nothing.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import onnx

from calib.graphs import load_graph
from calib.qdq import quantize
from calib.sensitivity import Labelled, add_options, changed_percent, load_frames, measured_on, worth
from calib.table import CalibrationTable, table_for
from calib.thresholds import METHODS
from runtime.arguments import Parser
from runtime.artifacts import write_atomically
from runtime.cli import DONE, progress, run, show
from runtime.spec import ModelSpec


def compare(model: onnx.ModelProto, spec: ModelSpec, table: CalibrationTable, data: Labelled) -> list[dict[str, Any]]:
    """mIoU in percent, and the percent of pixels that change, of the float graph and of every way to quantize it.

    Layers that the table leaves in FP16 are quantized too.
    """
    whole = worth(model, spec, data)
    found: list[dict[str, Any]] = [
        {"method": "float", "bias_correction": False, "miou": whole.miou, "changed_percent": 0.0}
    ]
    ways = [(method, corrected) for method in METHODS for corrected in (False, True)]
    for method, corrected in progress(ways, "quantize", unit="way"):
        quantized = quantize(model, dataclasses.replace(table, method=method, float_layers=()), correct_bias=corrected)
        of_it = worth(quantized, spec, data)
        changed = changed_percent(of_it.masks, whole.masks)
        found.append({"method": method, "bias_correction": corrected, "miou": of_it.miou, "changed_percent": changed})
    return found


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """A line a way."""
    lines = [f"{'method':<12}{'bias':<12}{'mIoU':>8}{'% changed':>12}"]
    for row in rows:
        bias = "corrected" if row["bias_correction"] else "as it is"
        lines.append(f"{row['method']:<12}{bias:<12}{row['miou']:>8.2f}{row['changed_percent']:>12.3f}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m calib.methods", description=__doc__)
    add_options(parser)
    arguments = parser.parse_args(argv)
    model, spec = load_graph(arguments.graph, "fp32")
    path, table = table_for(spec, arguments.table)
    data = load_frames(arguments.dataset, arguments.data, spec, arguments.frames, arguments.seed)
    rows = compare(model, spec, table, data)
    if arguments.json:
        document = {**measured_on(arguments, spec, data, path, table), "ways": rows}
        write_atomically(arguments.json, (json.dumps(document, indent=1) + "\n").encode())
    show(as_text(rows))
    return DONE


if __name__ == "__main__":
    run(main)
