"""The same network quantized by onnxruntime's own tools, as an engine for onnxruntime: what ours is measured against.

`python -m engines.onnxruntime_int8 PLAIN.onnx --data DIR` prints the engine's path, for `runtime.bench_rivals`. As it
recommends for a CPU: Q/DQ pairs, activations of U8, weights of S8 by channel, ranges by the least and largest value.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calib.graphs import graph_from_bytes, load_graph
from calib.sample import sample_frames
from engines.build import write_built
from engines.built import Built
from engines.nncf_engine import FOLDER, given
from engines.onnxruntime_build import weight_types
from runtime.arguments import Parser
from runtime.artifacts import sha256_of
from runtime.cli import DONE, log, run, show
from runtime.commands import install
from runtime.cpu import cpu_features
from runtime.errors import EngineError, LibraryError
from runtime.libraries import refusing
from runtime.manifest import ENGINE_SUFFIX
from runtime.media.frames import read_frame
from runtime.reference import preprocess
from runtime.spec import Preprocess


class Reader:
    """Calibration frames, one by one, as onnxruntime's CalibrationDataReader gives them."""

    def __init__(self, name: str, frames: Sequence[Path], form: Preprocess) -> None:
        self._values: Iterator[dict[str, np.ndarray]] = (
            {name: preprocess(read_frame(frame), form)} for frame in frames
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next frame's input; None behind the last one."""
        return next(self._values, None)


def onnxruntime_int8(graph: Path, data: Path, frames: int, seed: int) -> Path:
    """Quantize a plain FP32 graph by `onnxruntime.quantization`; built anew every time.

    Raises:
        LibraryError: onnxruntime is not installed.
        EngineError: it refuses the graph.
        GraphError, DatasetError, FrameError: the graph or the frames are not as they must be.
    """
    try:
        import onnxruntime
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise LibraryError(f"onnxruntime's quantization does not load ({error}): {install('build')}") from None
    model, spec = load_graph(graph, "fp32")
    sample = sample_frames(data, frames, seed, few=True)
    log(f"onnxruntime {onnxruntime.__version__} quantizes {spec.name} over {len(sample.frames)} frames")
    with tempfile.TemporaryDirectory() as folder, refusing(EngineError, f"onnxruntime refuses {graph}", line=-1):
        prepared, quantized = (str(Path(folder) / name) for name in ("prepared.onnx", "quantized.onnx"))
        # Its symbolic shapes want sympy; here every shape is a number.
        quant_pre_process(str(graph), prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(model.graph.input[0].name, sample.frames, spec.preprocess),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=not any("vnni" in feature or "amx_int8" in feature for feature in cpu_features()),
        )
        built = Path(quantized).read_bytes()
    path = FOLDER / f"{spec.name}-onnxruntime-int8-{spec.preprocess.height}x{spec.preprocess.width}{ENGINE_SUFFIX}"
    write_built(
        path, Built(built, weight_types(graph_from_bytes(built))), spec, "int8", "onnxruntime", sha256_of(graph)
    )
    return path


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    arguments = given(Parser(prog="python -m engines.onnxruntime_int8", description=__doc__), argv)
    show(onnxruntime_int8(arguments.graph, arguments.data, arguments.frames, arguments.seed))
    return DONE


if __name__ == "__main__":
    run(main)
