"""The same network quantized by NNCF's defaults, as an engine for OpenVINO: what ours is measured against.

`python -m calib.nncf_engine GRAPH.onnx --data DIR` prints the engine's path, for `runtime.regress` and
`runtime.evaluate`. Frame, kernels and calibration frames are ours; NNCF decides what is quantized, and how.
"""

import argparse
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from calib.graphs import load_graph
from calib.sample import sample_frames
from engines.openvino_build import compiled
from runtime.artifacts import ARTIFACTS, sha256_of
from runtime.backends.openvino import this_target
from runtime.cli import DONE, count_from_text, log, run
from runtime.errors import LibraryError
from runtime.frames import read_frame
from runtime.manifest import ENGINE_SUFFIX, write_engine
from runtime.reference import preprocess
from runtime.spec import EngineManifest

FRAMES = 300  # NNCF's own default
FOLDER = ARTIFACTS / "bench"  # not with the engines, of which the newest is taken


def nncf_engine(graph: Path, data: Path, frames: int, seed: int) -> Path:
    """Quantize an FP32 graph by `nncf.quantize` and build it; built anew every time.

    Raises:
        LibraryError: NNCF is not installed.
        GraphError, DatasetError, FrameError, EngineError: as for an engine of ours.
    """
    try:
        import nncf
    except ImportError as error:
        raise LibraryError(f"NNCF does not load ({error}): pip install nncf") from None
    import openvino

    spec = load_graph(graph, "fp32")[1]
    sample = sample_frames(data, frames, seed, few=True)
    inputs = nncf.Dataset(sample.frames, lambda path: preprocess(read_frame(path), spec.preprocess))
    log(f"NNCF {nncf.__version__} quantizes {spec.name} over {len(sample.frames)} frames")
    quantized = nncf.quantize(openvino.Core().read_model(graph), inputs, subset_size=len(sample.frames))
    built = compiled(quantized, spec, "int8")
    path = FOLDER / f"{spec.name}-nncf-int8-{spec.preprocess.height}x{spec.preprocess.width}{ENGINE_SUFFIX}"
    manifest = EngineManifest(
        spec=spec,
        precision="int8",
        executed=built.executed,
        backend="openvino",
        target=this_target("openvino"),
        onnx_sha256=sha256_of(graph),
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        created=datetime.now(UTC).isoformat(),
    )
    write_engine(path, built.engine, manifest)
    log("weighted layers: " + ", ".join(f"{count} in {kind}" for kind, count in built.executed.items()))
    return path


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m calib.nncf_engine", description=__doc__)
    parser.add_argument("graph", type=Path, help="the FP32 graph that export.to_onnx wrote")
    parser.add_argument("--data", type=Path, required=True, help="Cityscapes, CamVid or a folder of images")
    parser.add_argument("--frames", type=count_from_text, default=FRAMES, help="how many, at most (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of their choice (%(default)s)")
    arguments = parser.parse_args(argv)
    print(nncf_engine(arguments.graph, arguments.data, arguments.frames, arguments.seed))
    return DONE


if __name__ == "__main__":
    run(main)
