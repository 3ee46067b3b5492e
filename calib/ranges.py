"""What a network's tensors reach on real frames.

`python -m calib.ranges GRAPH.onnx --data DIR` prints the path of the calibration table. The FP32 graph runs on
onnxruntime over sampled frames, preprocessed by the runtime's own definition; one frame is in memory at a time.
"""

from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

import runtime
from calib.graphs import load_graph
from calib.histogram import Histogram
from calib.placement import tensors
from calib.sample import Sample, digest_of, sample_frames
from calib.table import SMALLEST, TABLES, CalibrationTable, keep_frames, save_table, table_or_none
from calib.thresholds import METHODS, Method, thresholds
from runtime.arguments import Parser
from runtime.artifacts import key_of, locked, sha256_of, sources_sha256
from runtime.cli import DONE, count_from_text, log, one_of, progress, run, seed_from_text, show
from runtime.errors import FrameError, GraphError
from runtime.media.frames import add_max_pixels, read_frame
from runtime.reference import preprocess
from runtime.spec import ModelSpec, Preprocess

MOST_UNREAD = 0.05  # of the frames; more is another set than the one that was meant
FRAMES = 512  # NVIDIA asks for 500 and more
DEFAULT_METHOD: Method = "mse"  # figures/calibration-*.json
RUNTIME = Path(runtime.__file__).parent
READERS = ("frames", "decoding", "tiff", "colour", "other_formats")  # of runtime.media: what makes a frame of a file
MADE_BY = ("onnxruntime", "onnx", "numpy", "opencv-python-headless")


class Statistics(NamedTuple):
    """Over all frames: each tensor's magnitudes, and its mean by channel, float64 (C,), that of the input too."""

    histograms: dict[str, Histogram]
    means: dict[str, np.ndarray]


def calibrate(graph: Path, sample: Sample, seed: int, method: Method, folder: Path = TABLES) -> Path:
    """The calibration table of a graph on these frames; made only if there is none yet of the same key.

    Args:
        graph: FP32, as `export.to_onnx` wrote it.
        sample: the frames.
        seed: that gave them.
        method: which ranges `calib.qdq` takes if it is not told otherwise.
        folder: where tables are kept.

    Returns:
        The table's path.

    Raises:
        GraphError: the graph is not ours or not FP32, or a tensor gets a value that half precision does not hold.
        FrameError: more than `MOST_UNREAD` of the frames cannot be read; nothing is written.
    """
    model, spec = load_graph(graph, "fp32")
    path = folder / f"{spec.name}-{method}-{_key(graph, sample, seed, method)}.json"
    with locked(path):
        kept = table_or_none(path) if path.is_file() else None
        if kept and set(kept.frames_sha256) <= set(sample.sha256):  # fewer where some could not be read
            path.touch()  # the newest table is the one that was asked for last
            log(f"{path} is up to date")
        else:
            kept = _table(model, spec, sample, seed, method)
            save_table(path, kept)
        read = set(kept.frames_sha256)
        keep_frames(path, kept, [frame for frame, of in zip(sample.frames, sample.sha256, strict=True) if of in read])
    return path


def collect(model: onnx.ModelProto, names: Sequence[str], inputs: Iterable[np.ndarray]) -> Statistics:
    """Run the graph on each input and keep the statistics of some of its tensors.

    Args:
        model: an FP32 graph of one input.
        names: of float tensors inside it, (1, C, h, w).
        inputs: float32, the graph's input shape.

    Raises:
        GraphError: a tensor gets a value that is not finite.
    """
    session = _session_with_outputs(model, names)
    frame = model.graph.input[0].name
    histograms = {name: Histogram() for name in names}
    sums: dict[str, np.ndarray] = {}
    count = 0
    for values in inputs:
        count += 1
        sums[frame] = sums.get(frame, 0) + values.mean(axis=(0, 2, 3), dtype=np.float64)
        # Nothing else holds them: those of a large network are many gigabytes, and the next frame's come beside them.
        for name, tensor in zip(names, session.run(list(names), {frame: values}), strict=True):
            try:
                histograms[name].add(tensor)
            except ValueError as error:
                raise GraphError(f"frame {count}: tensor {name}: {error}") from None
            sums[name] = sums.get(name, 0) + tensor.mean(axis=(0, 2, 3), dtype=np.float64)
    return Statistics(histograms, {name: total / count for name, total in sums.items()})


def frames_as_inputs(frames: Sequence[Path], spec_preprocess: Preprocess, what: str) -> Iterable[np.ndarray]:
    """The network's input of each frame, float32 (1, 3, h, w), by the definition that inference is held to."""
    for path in progress(frames, what, unit="frame"):
        yield preprocess(read_frame(path), spec_preprocess)


def _table(model: onnx.ModelProto, spec: ModelSpec, sample: Sample, seed: int, method: Method) -> CalibrationTable:
    names = tensors(model.graph)
    log(f"calibrating {spec.name}: {len(names)} tensors over {len(sample.frames)} frames")
    used: list[int] = []
    statistics = collect(model, names, _readable_inputs(sample.frames, spec.preprocess, used))
    return CalibrationTable(
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        size=(spec.preprocess.height, spec.preprocess.width),
        seed=seed,
        frames=tuple(sample.frames[i].name for i in used),
        frames_sha256=tuple(sample.sha256[i] for i in used),
        versions={name: metadata.version(name) for name in MADE_BY},
        method=method,
        float_layers=(),
        ranges={name: _rounded(thresholds(of)) for name, of in statistics.histograms.items()},
        means={name: tuple(float(f"{mean:.4g}") for mean in of) for name, of in statistics.means.items()},
    )


def _readable_inputs(frames: Sequence[Path], spec_preprocess: Preprocess, used: list[int]) -> Iterable[np.ndarray]:
    # Fills `used` with the places of those that can be read: one broken download of 512 does not move a range.
    lost = 0
    for i, path in enumerate(progress(frames, "calibrate", unit="frame")):
        try:
            frame = read_frame(path)
        except FrameError as error:
            lost += 1
            log(f"left out: {error}")
            if lost > MOST_UNREAD * len(frames):
                raise FrameError(
                    f"{lost} of the first {i + 1} calibration frames cannot be read, of {len(frames)} at most "
                    f"{MOST_UNREAD:.0%} may be left out; the last one: {error}"
                ) from None
            continue
        used.append(i)
        yield preprocess(frame, spec_preprocess)
    if lost:
        log(f"calibrated on {len(used)} of {len(frames)} frames: {lost} could not be read")


def _rounded(ranges: dict[str, float]) -> dict[str, float]:
    # Values under the smallest range are halves of whole steps of its scale: nothing of them is lost. Zeros have none.
    least = SMALLEST if any(ranges.values()) else 0.0
    return {method: max(float(f"{value:.6g}"), least) for method, value in ranges.items()}


def _session_with_outputs(model: onnx.ModelProto, names: Sequence[str]):  # type: ignore[no-untyped-def]
    import onnxruntime

    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    present = {value.name for value in extended.graph.output}
    extended.graph.output.extend(onnx.helper.make_empty_tensor_value_info(t) for t in names if t not in present)
    return onnxruntime.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])


def _key(graph: Path, sample: Sample, seed: int, method: Method) -> str:
    parts = {
        "graph": sha256_of(graph),
        "frames": digest_of(sample.sha256),
        "seed": seed,
        "method": method,
        "versions": {name: metadata.version(name) for name in MADE_BY},
        "code": sources_sha256(
            Path(__file__).parent,
            *(RUNTIME / name for name in ("reference.py", *(f"media/{name}.py" for name in READERS))),
        ),
    }
    return key_of(parts)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m calib.ranges", description=__doc__)
    parser.add_argument("graph", type=Path, help="the FP32 graph that export.to_onnx wrote")
    parser.add_argument("--data", type=Path, required=True, help="Cityscapes, CamVid or a folder of images")
    parser.add_argument("--frames", type=count_from_text, default=FRAMES, help="how many, at most (%(default)s)")
    parser.add_argument("--seed", type=seed_from_text, default=0, help="of their choice (%(default)s)")
    parser.add_argument("--method", default=DEFAULT_METHOD, help=f"{', '.join(METHODS)} (%(default)s)")
    parser.add_argument("--few", action="store_true", help="take fewer than 32 frames without complaint")
    add_max_pixels(parser)
    arguments = parser.parse_args(argv)
    method = one_of(arguments.method, METHODS, "method")
    sample = sample_frames(arguments.data, arguments.frames, arguments.seed, few=arguments.few)
    show(calibrate(arguments.graph, sample, arguments.seed, method))
    return DONE


if __name__ == "__main__":
    run(main)
