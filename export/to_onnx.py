"""PyTorch -> ONNX: trace the deployed form, attach its ModelSpec, prove it equal to the network.

`python -m export.to_onnx --model icnet --precision fp16` prints the path of the graph.
"""

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from export.adopting.options import add_normalization, given_by
from export.checkpoints.own_names import add_checkpoint, classes_from_file
from export.checkpoints.sources import check_file, default_weights, export_key
from export.own_code import name_of
from export.own_normalization import Said, agreed, said_by
from runtime.arguments import Parser
from runtime.artifacts import ARTIFACTS, is_sealed, locked, write_sealed
from runtime.cli import DONE, batch_from_text, log, one_of, run, show, size_from_text
from runtime.commands import option
from runtime.errors import GraphError
from runtime.fit import BUILT_FIT, add_fit
from runtime.libraries import refusing
from runtime.spec import Fit, ModelSpec, Preprocess, to_json

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.checkpoints.weights import Weights
    from export.registry import Network
    from runtime.labels import Label

OPSET = 20  # the newest that TensorRT 10 and 11, OpenVINO and onnxruntime all take; Q/DQ in float16 needs 19
FOLDED_BYTES = 1 << 24  # constants up to this size are computed at export
PRECISIONS = ("fp32", "fp16")  # of a graph; the other ones are made from it
INPUT, OUTPUT, SPEC_KEY = "frame", "logits", "model_spec"


class Request(NamedTuple):
    """What is asked to be exported. `plain` keeps the network as PyTorch has it, without the deployed form.

    `classes` names those of the checkpoint, or how many a network with random weights has; empty: as the checkpoint
    says. `averaged` takes the average of the weights (EMA) of a checkpoint that holds both. `fit` says what becomes of
    frames of another shape (`runtime.spec.Preprocess`), `normalization` how they are for a user's own network, where
    neither its weights nor its code do. `batch_free` leaves open how many up to `batch` it takes.
    """

    model: str
    precision: str = "fp32"
    height: int = 1024
    width: int = 2048
    batch: int = 1
    plain: bool = False
    classes: "tuple[Label, ...]" = ()
    averaged: bool = False
    fit: Fit = BUILT_FIT
    normalization: Said | None = None
    batch_free: bool = False


def export(request: Request, weights: Path | None = None, folder: Path = ARTIFACTS / "onnx") -> Path:
    """The checked ONNX graph of a network; made only if there is none yet of the same key.

    Args:
        request: network, precision (fp32 or fp16), size and batch.
        weights: a checkpoint; by default the one shipped, or random weights where none is.
        folder: where the graphs are kept.

    Returns:
        The graph's path.

    Raises:
        ModelError: an unknown network or a size it cannot take.
        WeightsError: the checkpoint is unreadable or does not fit.
        GraphError: the graph is not equal to the network.
    """
    weights = weights or default_weights(request.model)
    form = "-plain" if request.plain else ""
    batch = f"-b{'1-' * request.batch_free}{request.batch}" if request.batch > 1 else ""
    key = export_key(request._asdict(), weights)
    name = f"{name_of(request.model)}{form}-{request.precision}-{request.height}x{request.width}{batch}-{key}.onnx"
    path = folder / name
    if not path.is_file():
        check_request(request, weights)
    with locked(path):
        if is_sealed(path):
            log(f"{path} is up to date")
        else:
            write_sealed(path, build_graph(request, weights).SerializeToString())
    return path


def check_request(request: Request, weights: Path | None = None) -> None:
    """Refuse what no graph can be made of, before anything is left under its name.

    Raises:
        ModelError: an unknown network or a size it cannot take.
        WeightsError: they were trained on frames normalised otherwise than is asked.
        ValueError: an unknown precision.
    """
    from export import registry

    registry.check_size(
        registry.find(request.model, agreed(request.normalization, weights)), request.height, request.width
    )
    if request.precision not in PRECISIONS:
        raise ValueError(f"precision {request.precision!r} is none of {PRECISIONS}")


def build_graph(request: Request, weights_path: Path | None) -> "onnx.ModelProto":
    """Build, load, trace, convert and check; what `export` caches. Takes a checked request and raises the same."""
    from export.check import check_graph
    from export.half import half_from_float
    from export.open_batch import check_batch, free_batch

    entry, network, spec = loaded_network(request, weights_path)
    log(f"exporting {entry.name} {request.precision} at {request.height}x{request.width}")
    graph = trace(network if request.plain or entry.deploy is None else deployed(entry, network), spec)
    if entry.own and entry.output_stride == 1 and not request.plain:
        graph, spec = _without_last_upsample(graph, spec)
    if request.precision == "fp16":
        graph = half_from_float(graph)
    log(f"checking it against PyTorch: {check_graph(graph, network, entry.normalization, spec)}")
    if spec.batch_free:
        graph = free_batch(graph, spec.name)
        check_batch(graph, spec)
    return graph


def _without_last_upsample(graph: "onnx.ModelProto", spec: ModelSpec) -> "tuple[onnx.ModelProto, ModelSpec]":
    from export.last_upsample import left_to_runtime

    coarse = left_to_runtime(graph, (spec.preprocess.height, spec.preprocess.width))
    if coarse is None:
        return graph, spec
    spec = dataclasses.replace(spec, output_stride=coarse.output_stride, upsample=coarse.upsample)
    _note(coarse.graph, spec)
    return coarse.graph, spec


def loaded_network(request: Request, weights_path: Path | None) -> tuple["Network", "nn.Module", ModelSpec]:
    """The network that a checked request asks for, as PyTorch has it, with its weights; None: random ones."""
    import torch

    from export import registry
    from export.checkpoints.weights import RANDOM_SEED, load, random_weights, read_weights
    from runtime.labels import CITYSCAPES

    entry = registry.find(request.model, agreed(request.normalization, weights_path))
    torch.manual_seed(RANDOM_SEED)
    if weights_path is None:
        log(f"no weights for {entry.name}: its masks will mean nothing. Give a checkpoint: {option('weights')}")
        classes = request.classes or CITYSCAPES
        network = entry.build(len(classes)).eval()
        weights = random_weights(network, classes)
    else:
        weights = read_weights(weights_path, entry.build, averaged=request.averaged, classes=request.classes)
        network = registry.build_like(entry, len(weights.classes), weights.tensors).eval()
        load(network, weights)
    return entry, network, _spec(request, entry, registry.source_of(entry, network), weights)


def deployed(entry: "Network", network: "nn.Module") -> "nn.Module":
    """The network's equal, cheaper form, which takes `value - mean` in the frame's own units 0..255."""
    import torch

    norm = entry.normalization
    assert entry.deploy is not None
    return entry.deploy(network, torch.tensor([norm.scale / std for std in norm.std])).eval()


def trace(network: "nn.Module", spec: ModelSpec) -> "onnx.ModelProto":
    """The FP32 graph of a network at the spec's size, BatchNorm folded, the spec in its metadata."""
    import torch
    from onnxscript.optimizer import optimize

    shape = (1 if spec.batch_free else spec.batch, 3, spec.preprocess.height, spec.preprocess.width)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not there
    with warnings.catch_warnings(), refusing(GraphError, f"PyTorch cannot export {spec.name}"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (torch.zeros(shape),), dynamo=True, opset_version=OPSET,
            input_names=[INPUT], output_names=[OUTPUT], verbose=False,
        )  # fmt: skip
    assert program is not None
    # Constants that the network computes from its size alone, such as the pyramid's matrices, are as large as its maps.
    model = optimize(program.model_proto, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES)
    model.producer_name = "street-segmentation"
    _note(model, spec)
    return model


def _note(model: "onnx.ModelProto", spec: ModelSpec) -> None:
    forget_sources(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = SPEC_KEY, to_json(spec)


def forget_sources(model: "onnx.ModelProto") -> None:
    """Drop what an exporter notes of its own: the Python stack of every node, paths of its machine among it."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


def _spec(request: Request, entry: "Network", source: str, weights: "Weights") -> ModelSpec:
    norm = entry.normalization
    size = (request.height, request.width)
    # The deployed form multiplies with scale / std itself.
    order, fit = norm.channel_order, request.fit
    plain = Preprocess(*size, norm.scale, norm.mean, norm.std, order, fit)
    in_place = Preprocess(*size, 1.0, _raw_mean(norm.mean, norm.scale), (1.0, 1.0, 1.0), order, fit)
    return ModelSpec(
        name=entry.name,
        preprocess=plain if request.plain or entry.deploy is None else in_place,
        classes=weights.classes,
        output_stride=entry.output_stride,
        block=1 if request.plain else entry.block,
        batch=request.batch,
        weights_sha256=weights.sha256,
        source=f"{source}; {weights.source}",
        upsample=entry.upsample,
        batch_free=request.batch_free,
    )


def _raw_mean(mean: tuple[float, float, float], scale: float) -> tuple[float, float, float]:
    first, second, third = (value / scale for value in mean)
    return first, second, third


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m export.to_onnx", description=__doc__)
    parser.add_argument(
        "--model", required=True, help="enet, icnet, the network of a published checkpoint, or path/to/net.py:build"
    )
    parser.add_argument("--precision", default="fp32", help=f"{' or '.join(PRECISIONS)} (fp32)")
    parser.add_argument("--size", type=size_from_text, default=(1024, 2048), help="HEIGHTxWIDTH in pixels (1024x2048)")
    parser.add_argument("--batch", type=batch_from_text, default=(1, 1), help="frames in one input: 4, or 1-8 (1)")
    parser.add_argument("--weights", type=Path, help="a checkpoint (by default the one shipped)")
    parser.add_argument("--plain", action="store_true", help="as PyTorch has it, without the deployed form's rewrites")
    add_fit(parser, built=True)
    add_checkpoint(parser)
    add_normalization(parser)
    arguments = parser.parse_args(argv)
    if arguments.weights is not None:
        check_file(arguments.weights)
    one_of(arguments.precision, PRECISIONS, "precision")
    height, width = arguments.size
    classes = classes_from_file(arguments.classes) if arguments.classes else ()
    said = said_by(given_by(arguments))
    least, most = arguments.batch
    fit = arguments.fit or BUILT_FIT
    form = most, arguments.plain, classes, arguments.ema, fit, said, least < most
    request = Request(arguments.model, arguments.precision, height, width, *form)
    show(export(request, arguments.weights))
    return DONE


if __name__ == "__main__":
    run(main)
