"""The same network quantized by NNCF's defaults, as an engine for OpenVINO: what ours is measured against.

`python -m engines.nncf_engine GRAPH.onnx --data DIR` prints the engine's path, for `runtime.regress` and
`runtime.evaluate`. Frame, kernels and calibration frames are ours; NNCF decides what is quantized, and how.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from calib.graphs import load_graph
from calib.sample import sample_frames
from engines.build import write_built
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, sha256_of
from runtime.cli import DONE, count_from_text, log, run, seed_from_text, show
from runtime.commands import install
from runtime.errors import EngineError, LibraryError
from runtime.libraries import refusing
from runtime.manifest import ENGINE_SUFFIX
from runtime.media.frames import read_frame
from runtime.reference import preprocess

FRAMES = 300  # NNCF's own default
FOLDER = ARTIFACTS / "bench"  # not with the engines, of which the newest is taken


def nncf_engine(graph: Path, data: Path, frames: int, seed: int) -> Path:
    """Quantize an FP32 graph by `nncf.quantize` and build it; built anew every time.

    Raises:
        LibraryError: NNCF or OpenVINO is not installed.
        EngineError: one of them refuses the graph.
        GraphError, DatasetError, FrameError: the graph or the frames are not as they must be.
    """
    try:
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        from engines.openvino_build import compiled
        from engines.openvino_sums import sums_saturate
    except ImportError as error:
        raise LibraryError(f"NNCF or OpenVINO does not load ({error}): {install('nncf')}") from None
    spec = load_graph(graph, "fp32")[1]
    sample = sample_frames(data, frames, seed, few=True)
    inputs = nncf.Dataset(sample.frames, lambda path: preprocess(read_frame(path), spec.preprocess))
    # Its default halves the weights of first layers alone; who knows such a CPU asks for all of them.
    fix = OverflowFix.ENABLE if sums_saturate() else OverflowFix.FIRST_LAYER
    fixed = AdvancedQuantizationParameters(overflow_fix=fix)
    log(f"NNCF {nncf.__version__} quantizes {spec.name} over {len(sample.frames)} frames")
    with refusing(EngineError, f"NNCF refuses {graph}", line=-1):
        model = openvino.Core().read_model(graph)
        quantized = nncf.quantize(model, inputs, subset_size=len(sample.frames), advanced_parameters=fixed)
    built = compiled(quantized, spec, "int8")
    path = FOLDER / f"{spec.name}-nncf-int8-{spec.preprocess.height}x{spec.preprocess.width}{ENGINE_SUFFIX}"
    write_built(path, built, spec, "int8", "openvino", sha256_of(graph))
    log("weighted layers: " + ", ".join(f"{count} in {kind}" for kind, count in built.executed.items()))
    return path


def given(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """What the command of another library's quantization is told; of NNCF's and of onnxruntime's."""
    parser.add_argument("graph", type=Path, help="the FP32 graph that export.to_onnx wrote")
    parser.add_argument("--data", type=Path, required=True, help="Cityscapes, CamVid or a folder of images")
    parser.add_argument("--frames", type=count_from_text, default=FRAMES, help="how many, at most (%(default)s)")
    parser.add_argument("--seed", type=seed_from_text, default=0, help="of their choice (%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    arguments = given(Parser(prog="python -m engines.nncf_engine", description=__doc__), argv)
    show(nncf_engine(arguments.graph, arguments.data, arguments.frames, arguments.seed))
    return DONE


if __name__ == "__main__":
    run(main)
