"""Proof of a new engine by its results: the same frames through it and through its graph on the referee."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.built import Built
from engines.contract import refuse_other_logits
from runtime.backend import Backend, backend_module
from runtime.errors import EngineError, LibraryError, PipelineError
from runtime.manifest import installed_version
from runtime.proof import Expected, apart, bound, compared, expected, noisy, worst
from runtime.spec import BackendName, EngineManifest, ModelSpec, Precision, Proof

if TYPE_CHECKING:  # an engine that is up to date is found without it
    import onnx as onnx_package

REFEREE: BackendName = "onnxruntime"
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
Build = Callable[[bytes, ModelSpec, Precision, BackendName], Built]


class Engine(NamedTuple):
    """What a builder made, and of what."""

    built: Built
    spec: ModelSpec
    precision: Precision
    backend: BackendName


def opened(engine: Engine) -> Backend:
    """The engine, from memory.

    Raises:
        EngineError: its library refuses it.
        LibraryError: its library or device is not here.
    """
    module = backend_module(engine.backend)
    target = module.this_target(engine.backend)
    manifest = EngineManifest(engine.spec, engine.precision, engine.built.executed, engine.backend, target, "", "", "")
    return module.open_engine(engine.built.engine, manifest)


def referee_of(onnx: bytes, spec: ModelSpec, precision: Precision) -> Backend:
    """A graph on onnxruntime, which computes in float what the graph says.

    Raises:
        LibraryError: onnxruntime is not installed.
    """
    try:
        from engines import onnxruntime_build
    except ImportError as error:
        raise LibraryError(f"onnxruntime does not load ({error}): pip install onnxruntime") from None
    return opened(Engine(onnxruntime_build.build(onnx, spec, precision, REFEREE), spec, precision, REFEREE))


REMEDY = "Build it for another backend, leave that layer in FP16 (calib.qdq --leave), or take it with --no-proof"


def proven(onnx: bytes, engine: Engine, frames: Sequence[np.ndarray], build: Build | None) -> tuple[Proof, Expected]:
    """Hold an engine to its graph on these frames, uint8 (H, W, 3) RGB.

    Args:
        onnx: the graph that it was built from.
        engine: opened here.
        frames: the first is the one whose logits are kept.
        build: the builder, which is asked for the graph's beginnings where the whole is wrong; None: it is not.

    Returns:
        What is written into the manifest, and what the referee computed of the first frame.

    Raises:
        GraphError: the graph gives logits of another shape than its metadata say.
        EngineError: it computes something else; it names the first layer that does.
        LibraryError: the engine's library, its device or the referee are not here.
    """
    with referee_of(onnx, engine.spec, engine.precision) as referee, opened(engine) as backend:
        wanted = [expected(referee, frame) for frame in frames]
        refuse_other_logits(wanted[0].shape, engine.spec)
        proofs = [
            compared(backend, frame, want, engine.built.executed) for frame, want in zip(frames, wanted, strict=True)
        ]
    proof = worst(proofs, f"{REFEREE} {installed_version('onnxruntime', 'onnxruntime-gpu')}")
    if not proof.apart <= proof.bound:
        raise EngineError(
            f"the {engine.precision} engine of {engine.spec.name} on {engine.backend} does not compute what its graph "
            f"says: logits are off by {proof.apart:.3f} of their deviation, at most {proof.bound:.3f} is rounding, and "
            f"{proof.masks_equal:.1%} of the mask is the graph's"
            + (f". {_where(onnx, engine, frames[0], build)}. {REMEDY}" if build else "")
        )
    return proof, wanted[0]


def first_wrong_layer(onnx: bytes, engine: Engine, frame: np.ndarray, build: Build) -> str | None:
    """The first weighted layer after which the engine's values are not the graph's; None if none is found.

    The graph's beginnings are built and compared, by bisection: a few builds.
    """
    import onnx as onnx_package

    from calib.graphs import graph_from_bytes

    model = onnx_package.shape_inference.infer_shapes(graph_from_bytes(onnx))
    layers = _layers(model)
    low, high = 0, len(layers)  # every beginning before `low` is right, that of `high` is wrong
    while low < high:
        middle = (low + high) // 2
        beginning = _beginning(model, layers[middle][1])
        if _is_right(beginning, engine, frame, build):
            low = middle + 1
        else:
            high = middle
    return layers[low][0] if low < len(layers) else None


def _where(onnx: bytes, engine: Engine, frame: np.ndarray, build: Build) -> str:
    try:
        layer = first_wrong_layer(onnx, engine, frame, build)
    except PipelineError:  # a beginning of the graph may be what its library refuses
        layer = None
    return f"The first layer that differs is {layer}" if layer else "Which layer differs was not found"


def _layers(model: "onnx_package.ModelProto") -> list[tuple[str, str]]:
    # (name, output) of each weighted layer that gives a map.
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim) for value in (*model.graph.value_info, *model.graph.output)
    }
    return [
        (node.input[1].removeprefix("net.").removesuffix(".dequantized").removesuffix(".weight"), node.output[0])
        for node in model.graph.node
        if node.op_type in WEIGHTED and ranks.get(node.output[0]) == 4
    ]


def _beginning(model: "onnx_package.ModelProto", output: str) -> bytes:
    import onnx as onnx_package

    extractor = onnx_package.utils.Extractor(model)
    part = extractor.extract_model([model.graph.input[0].name], [output])
    part.metadata_props.extend(model.metadata_props)
    return bytes(part.SerializeToString())


def _is_right(onnx: bytes, engine: Engine, frame: np.ndarray, build: Build) -> bool:
    # Of a map that is no logits there is no mask.
    with referee_of(onnx, engine.spec, engine.precision) as referee:
        wanted, moved = referee.logits(frame), referee.logits(noisy(frame))
    part = engine._replace(built=build(onnx, engine.spec, engine.precision, engine.backend))
    with opened(part) as backend:
        return apart(wanted, backend.logits(frame)) <= bound(apart(wanted, moved), part.built.executed)
