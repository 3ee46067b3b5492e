"""ONNX -> engine: build for this machine, prove the precision, keep it with its manifest.

`python -m engines.build GRAPH.onnx --precision fp16` prints the engine's path.
"""

import dataclasses
import hashlib
import importlib
import re
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

import runtime
from engines.built import INT8_SHARE, Built
from engines.contract import refuse_other_contract
from engines.proof import Build, Engine, proven, referee_of
from engines.tensorrt_timings import timings_path
from runtime.arguments import Parser, add_device
from runtime.artifacts import key_of, locked, refuse_broken_seal, sources_sha256, write_atomically
from runtime.backend import backend_module
from runtime.backends import tensorrt
from runtime.backends.tensorrt_layers import keep_layers
from runtime.cli import DONE, log, one_of, run, show
from runtime.commands import command, install
from runtime.errors import EngineError, GraphError, LibraryError
from runtime.first_use import record
from runtime.kernels import nvidia
from runtime.manifest import ENGINE_SUFFIX, ENGINES, manifest_path, read_manifest, verified_engine, write_engine
from runtime.media.frames import add_max_pixels, read_frame
from runtime.proof import Expected, bytes_from_expected, expected, expected_path, told
from runtime.samples import STREET
from runtime.signature import check_key, sign_engine, signature_path
from runtime.spec import (
    ANY,
    BACKENDS,
    HALVED_VERSION,
    MANIFEST_VERSION,
    PRECISIONS,
    UNPROVEN,
    BackendName,
    EngineManifest,
    ModelSpec,
    Precision,
    Proof,
    Target,
)

RUNTIME = Path(runtime.__file__).parent
FRAMES = 8  # of a data set that an engine is proven on, beside the street frame
NOT_ASKED = "--no-proof"
NEEDS = {"onnxruntime": "export", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}  # extras
BUILDERS: dict[BackendName, str] = {
    "tensorrt": "engines.tensorrt_build",
    "tensorrt-rtx": "engines.tensorrt_build",
    "openvino": "engines.openvino_build",
    "onnxruntime": "engines.onnxruntime_build",
}


def build_engine(
    graph: Path,
    precision: Precision,
    backend: BackendName,
    folder: Path = ENGINES,
    *,
    prove: bool = True,
    data: Path | None = None,
    sign: Path | None = None,
) -> Path:
    """The engine of a graph for this machine; built, and held to its graph, only if there is none yet of the same key.

    Args:
        graph: an ONNX file of ours, typed for the precision.
        precision: what the graph must be and the engine must execute.
        backend: which library runs it.
        folder: where engines are kept.
        prove: compare what it computes with its graph on onnxruntime (`engines.proof`).
        data: a data set or a folder of images, of which `FRAMES` are compared beside the bundled street frame.
        sign: a private key, with which the engine is signed whether it was there or is new.

    Returns:
        The engine's path; its manifest and the referee's logits of the street frame stand beside it.

    Raises:
        GraphError: damaged, not an ONNX file of ours, of another precision, or not what its metadata say.
        EngineError: the library refuses it, executes another precision, or computes something else than the graph says.
        LibraryError: the library is not installed, or its device is not here.
        DatasetError, FrameError: of `data`.
    """
    if not graph.is_file():
        raise GraphError(f"graph {graph} does not exist; export one: {command('onnx', model='icnet')}")
    if sign:
        check_key(sign)
    refuse_broken_seal(graph)
    onnx = graph.read_bytes()
    target = backend_module(backend).this_target(backend)
    path = folder / engine_name(graph, onnx, precision, backend, target)
    with locked(path):
        if _is_whole(path, onnx, precision, backend, target, prove=prove):
            manifest_path(path).touch()  # the newest engine is the one that was asked for last
            manifest = read_manifest(path)
            log(f"{path} is up to date; weighted layers: {_listed(manifest.executed)}; {told(manifest.proof)}")
        else:
            signature_path(path).unlink(missing_ok=True)  # that of another engine
            _build_new(path, onnx, precision, backend, _frames(data) if prove else [])
        if sign:
            sign_engine(path, read_manifest(path), sign)
            log(f"signed: {signature_path(path)}")
    return path


def engine_name(graph: Path, onnx: bytes, precision: Precision, backend: BackendName, target: Target) -> str:
    """The file name of an engine: readable, and with a key over everything it depends on."""
    key = key_of(
        {
            "onnx": hashlib.sha256(onnx).hexdigest(),
            "precision": precision,
            "backend": backend,
            "target": [getattr(target, name) for name in Target.__slots__],
            "code": sources_sha256(
                Path(__file__).parent,
                *(RUNTIME / name for name in ("spec.py", "reference.py", "doubling.py", "backends")),
            ),
        }
    )
    stem = re.sub(r"-[0-9a-f]{10}$", "", graph.stem)
    return f"{stem}-{backend}-{key}{ENGINE_SUFFIX}"


def auto_backend() -> BackendName:
    """TensorRT where an NVIDIA GPU and all that its engines need are, OpenVINO everywhere else; it logs the choice."""
    try:
        nvidia.gpu()
    except LibraryError:
        return "openvino"
    gpu_backends: tuple[BackendName, ...] = ("tensorrt", "tensorrt-rtx")
    for backend in gpu_backends:
        try:
            tensorrt.check_opens(backend)
        except (LibraryError, OSError) as error:
            log(f"{backend} is not taken: {error}")
        else:
            return backend
    log(f"a GPU is here but is not used: building for OpenVINO on the CPU. What TensorRT needs: {install('tensorrt')}")
    return "openvino"


def read_spec(onnx: bytes) -> ModelSpec:
    """The ModelSpec in a graph's metadata.

    Raises:
        GraphError: it is no ONNX, or has no spec.
    """
    from calib.graphs import graph_from_bytes, spec_of

    return spec_of(graph_from_bytes(onnx))


def graph_precision(onnx: bytes) -> Precision:
    """The precision that a strongly typed graph is written in.

    Raises:
        GraphError: it is no ONNX, or of a type that is none of ours.
    """
    from calib.graphs import graph_from_bytes, precision_of

    found = precision_of(graph_from_bytes(onnx))
    if found is None:
        raise GraphError(f"the graph's frames are of a type that is not taken; export one: {command('onnx')}")
    return found


def prove_int8_share(onnx: bytes, executed: dict[str, int], model: str) -> None:
    """Refuse an engine that runs in more bits what its graph quantizes: slower than asked, and of another mask.

    Raises:
        EngineError: under `INT8_SHARE` of the layers that the graph quantizes run in INT8.
    """
    from calib.graphs import graph_from_bytes

    nodes = graph_from_bytes(onnx).graph.node
    dequantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    asked = sum(len(node.input) > 1 and set(node.input[:2]) <= dequantized for node in nodes if node.op_type == "Conv")
    found, layers = executed.get("int8", 0), sum(executed.values())
    log(f"{found} of {layers} weighted layers run in INT8 ({found / layers:.0%}); the graph quantizes {asked}")
    if found < INT8_SHARE * asked:
        raise EngineError(f"the engine of {model} runs {found} layers in INT8, its graph quantizes {asked}")


def write_built(
    path: Path,
    built: Built,
    spec: ModelSpec,
    precision: Precision,
    backend: BackendName,
    onnx_sha256: str,
    proof: Proof = UNPROVEN,
) -> EngineManifest:
    """An engine for this machine and its manifest, as `runtime` opens them; the manifest."""
    manifest = EngineManifest(
        spec=spec,
        precision=precision,
        executed=built.executed,
        types_from=built.types_from,
        backend=backend,
        target=backend_module(backend).this_target(backend),
        onnx_sha256=onnx_sha256,
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        created=datetime.now(timezone.utc).isoformat(),
        proof=proof,
        version=HALVED_VERSION if built.halved else MANIFEST_VERSION,
    )
    keep_layers(path, built.layers, manifest.engine_sha256)
    write_engine(path, built.engine, manifest)
    return manifest


def _build_new(path: Path, onnx: bytes, precision: Precision, backend: BackendName, frames: list[np.ndarray]) -> None:
    spec = read_spec(onnx)
    found = graph_precision(onnx)
    if found != precision:
        raise GraphError(f"the graph of {spec.name} is {found}, asked was {precision}: the types are in the graph")
    refuse_other_contract(onnx, spec)
    log(f"building {path.name}")
    start = time.monotonic()
    try:
        builder = importlib.import_module(BUILDERS[backend])
    except ImportError as error:
        raise LibraryError(f"{backend} does not load ({error}); {install(NEEDS.get(backend, ''))}") from None
    timings = timings_path(path.parent, backend_module(backend).this_target(backend))
    build: Build = partial(builder.build, **({"timings": timings} if backend == "tensorrt" else {}))
    built = build(onnx, spec, precision, backend)
    if precision == "int8" and backend != "onnxruntime":  # the referee computes in float what the graph says
        prove_int8_share(onnx, built.executed, spec.name)
    size_mib, took_s = len(built.engine) / 2**20, time.monotonic() - start
    types = f"{_listed(built.executed)}, by {built.types_from}"
    log(f"built in {took_s:.1f} s, {size_mib:.1f} MiB; weighted layers: {types}")
    whole: Build | None = None
    if precision == "int8" and backend == "openvino" and builder.sums_saturate():
        whole = partial(builder.build, whole=True)
    try:
        proof = _proven(path, onnx, Engine(built, spec, precision, backend), frames, None if whole else build)
    except EngineError as error:
        if whole is None:
            raise
        log(f"{error}; building it again, with no weights made smaller")
        built = whole(onnx, spec, precision, backend)
        log(f"weighted layers: {_listed(built.executed)}, by {built.types_from}")
        proof = _proven(path, onnx, Engine(built, spec, precision, backend), frames, whole)
    manifest = write_built(path, built, spec, precision, backend, hashlib.sha256(onnx).hexdigest(), proof)
    if proof.frames and manifest.target.device == ANY:
        record(path, manifest)


def _frames(data: Path | None) -> list[np.ndarray]:
    from calib.sample import sample_frames

    chosen = sample_frames(data, FRAMES, 0, few=True).frames if data else ()
    return [read_frame(frame) for frame in (STREET, *chosen)]


def _proven(path: Path, onnx: bytes, engine: Engine, frames: list[np.ndarray], build: Build | None) -> Proof:
    start = time.monotonic()
    try:
        proof, kept = _compared(onnx, engine, frames, build)
    except LibraryError as error:  # an engine may be built where it does not run
        proof, kept = dataclasses.replace(UNPROVEN, note=str(error)), _of_the_referee(onnx, engine, frames[0])
    if kept is not None:
        write_atomically(expected_path(path), bytes_from_expected(kept))
    log(f"{told(proof)}{f' ({time.monotonic() - start:.1f} s)' * bool(proof.frames)}")
    return proof


def _of_the_referee(onnx: bytes, engine: Engine, frame: np.ndarray) -> Expected | None:
    # What a machine that has the device holds the engine to; None without the referee, too.
    try:
        with referee_of(onnx, engine.spec, engine.precision) as referee:
            return expected(referee, frame)
    except LibraryError:
        return None


def _compared(
    onnx: bytes, engine: Engine, frames: list[np.ndarray], build: Build | None
) -> tuple[Proof, Expected | None]:
    if not frames:
        return dataclasses.replace(UNPROVEN, note=NOT_ASKED), None
    return proven(onnx, engine, frames, build)


def _listed(executed: dict[str, int]) -> str:
    return ", ".join(f"{count} in {kind}" for kind, count in executed.items())


def _is_whole(
    path: Path, onnx: bytes, precision: Precision, backend: BackendName, target: Target, *, prove: bool
) -> bool:
    if not path.is_file():
        return False
    try:
        manifest = read_manifest(path)
        verified_engine(path, manifest)
    except EngineError as error:
        log(f"building it again: {error}")
        return False
    if prove and manifest.proof.note == NOT_ASKED:
        log("building it again: it was never proven")
        return False
    made_from = (manifest.onnx_sha256, manifest.precision, manifest.backend, manifest.target)
    return made_from == (hashlib.sha256(onnx).hexdigest(), precision, backend, target)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m engines.build", description=__doc__)
    parser.add_argument("graph", type=Path, nargs="?", help="an ONNX file that export.to_onnx wrote")
    parser.add_argument("--precision", default="fp16", help=f"{', '.join(PRECISIONS)} (fp16); the graph's own")
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (auto: TensorRT or OpenVINO)")
    add_device(parser)
    parser.add_argument("--folder", type=Path, default=ENGINES, help=f"where engines are kept ({ENGINES})")
    parser.add_argument(
        "--no-proof", action="store_true", help="do not compare it with its graph; its manifest says so"
    )
    parser.add_argument("--data", type=Path, help=f"a data set or folder: {FRAMES} frames of it are compared, too")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign it with this private key (streetseg keys NAME)")
    parser.add_argument("--check", action="store_true", help="only print which backend it would be, if it is here")
    add_max_pixels(parser)
    arguments = parser.parse_args(argv)
    backend = auto_backend() if arguments.backend == "auto" else one_of(arguments.backend, BACKENDS, "backend")
    precision = one_of(arguments.precision, PRECISIONS, "precision")
    backend_module(backend).this_target(backend)
    if arguments.check:
        print(backend)
        return DONE
    if arguments.graph is None:
        parser.error("which graph?")
    prove = not arguments.no_proof
    made = build_engine(
        arguments.graph, precision, backend, arguments.folder, prove=prove, data=arguments.data, sign=arguments.sign
    )
    show(made)
    return DONE


if __name__ == "__main__":
    run(main)
