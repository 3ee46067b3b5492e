"""The engines that are measured: each is built once, and found again by its key."""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.artifacts import ARTIFACTS, is_sealed, key_of, sha256_of, write_sealed
from runtime.cli import log
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from runtime.reference import preprocess, resize_frame
from runtime.samples import STREET
from runtime.spec import Preprocess
from streetseg import stages
from streetseg.listing import gmac_of
from streetseg.study.points import BESIDE_PLAIN, Point

if TYPE_CHECKING:
    from torch import nn

    from export.network import Network
    from export.to_onnx import Request

FOLDER = ARTIFACTS / "study"
SMALL = (256, 512)  # where what takes minutes at 1024x2048 is run


class Cost(NamedTuple):
    """What one frame takes: parameters of the modules that run, and multiplications with addition, in 1e9."""

    parameters: int
    gmac: float


def built_point(point: Point) -> dict[str, Any]:
    """A point's engine, the plain graph that OpenVINO gets as it comes, and what a frame costs, as JSON values.

    Raises:
        PipelineError: as `streetseg.stages.build`.
    """
    log(f"== {point.name}")
    trained = is_trained(point.model) and point.width is None
    graph = graph_of(point.model, "fp16", point.size, point.width)
    engine = stages.build(graph, backend="openvino", prove=trained)
    return {
        **{key: getattr(point, key) for key in ("name", "series", "step", "model", "width")},
        "size": list(point.size),
        "frame": list(point.frame),
        "published": point.published and point.published._asdict(),
        "trained": trained,
        **cost_of(point.model, point.size, point.width)._asdict(),
        "executed": (manifest := read_manifest(engine)).executed,
        "weights_sha256": manifest.spec.weights_sha256,
        "graph": str(graph),
        "engine": str(engine),
        "plain": str(plain_of(point.model, point.size, point.width)) if point in BESIDE_PLAIN else None,
    }


def plain_of(model: str, size: tuple[int, int], width: int | None = None) -> Path:
    """The graph of a registered network as PyTorch has it, as `runtime.measure.rivals` takes it.

    Raises:
        PipelineError: as `streetseg.stages.build`.
    """
    graph = graph_of(model, "fp32", size, width, plain=True)
    return stages.build(graph, backend="onnxruntime", prove=False, folder=FOLDER / "plain")


def is_trained(model: str) -> bool:
    """Whether weights of a registered network are shipped."""
    from export.checkpoints.sources import default_weights

    return default_weights(model) is not None


def graph_of(
    model: str, precision: str, size: tuple[int, int], width: int | None = None, *, plain: bool = False
) -> Path:
    """The graph of a registered network; of shipped weights as `streetseg.stages.export` gives it.

    One of random weights is not run beside PyTorch, which takes minutes where it is large: of such a network the same
    code is checked at a smaller size (`streetseg.study.networks`), and what it computes means nothing.

    Args:
        model: its name.
        precision: fp32 or fp16.
        size: height and width of its input.
        width: of random weights; None: the shipped ones, or random ones of the network's own width.
        plain: as PyTorch has it.

    Raises:
        PipelineError: as `streetseg.stages.export`.
    """
    from export.checkpoints.sources import export_key
    from export.to_onnx import Request

    if width is None and is_trained(model):
        return stages.export(model, precision=precision, size=size, plain=plain)
    weights = random_weights(model, width)
    request = Request(model, precision, *size, plain=plain)
    key = export_key(request._asdict(), weights)
    form = "-plain" if plain else ""
    path = FOLDER / "onnx" / f"{model}{form}-{precision}-{size[0]}x{size[1]}-{key}.onnx"
    if not is_sealed(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if precision == "fp16":
            write_sealed(path, _halved(graph_of(model, "fp32", size, width, plain=plain)))
        else:
            write_sealed(path, _unchecked(request, weights))
    return path


def _halved(graph: Path) -> bytes:
    from calib.graphs import load_graph
    from export.half import half_from_float

    return half_from_float(load_graph(graph, "fp32")[0]).SerializeToString()


def _unchecked(request: "Request", weights: Path) -> bytes:
    from export import to_onnx

    to_onnx.check_request(request, weights)
    entry, network, spec = to_onnx.loaded_network(request, weights)
    log(f"exporting {entry.name} at {request.height}x{request.width}")
    form = network if request.plain or entry.deploy is None else to_onnx.deployed(entry, network)
    return to_onnx.trace(form, spec).SerializeToString()


def random_weights(model: str, width: int | None = None) -> Path:
    """The file of a network's random weights; a network that has several widths is of the file's.

    Its normalisations have the means and variances of the bundled frame: those of a new network let a deep one's values
    vanish, of which no range is one.
    """
    import torch

    from export import registry
    from export.checkpoints.weights import RANDOM_SEED
    from export.training.checkpoint import save_weights
    from runtime.labels import CITYSCAPES

    path = FOLDER / "weights" / f"{model}{f'-width{width}' if width else ''}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = registry.find(model)
        torch.manual_seed(RANDOM_SEED)
        network = entry.build(len(CITYSCAPES), **({"width": width} if width else {}))
        _settle(network, entry)
        save_weights(path, network, {"classes": json.dumps(CITYSCAPES), "source": "random weights"})
    return path


def _settle(network: "nn.Module", entry: "Network") -> None:
    import torch

    from export import registry

    size = registry.nearest_size(entry, *SMALL)
    scale, mean, std, order = entry.normalization
    values = preprocess(resize_frame(read_frame(STREET), *size), Preprocess(*size, scale, mean, std, order))
    frame = torch.from_numpy(values)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # what was seen, not a part of it
    with torch.no_grad():
        network.train()(torch.cat((frame, frame.flip(3))))  # two: an average of one has no variance
    network.eval()


def int8_of(model: str, size: tuple[int, int], small: tuple[int, int]) -> Path:
    """The INT8 graph of a network; with random weights by ranges of the bundled frame at a smaller size.

    Of those no likeness to the float graph is asked for: `streetseg.stages.quantize(anyway=True)` would take it, too.
    """
    from calib import qdq, ranges, sample
    from calib.graphs import load_graph
    from calib.table import load_table

    graph = graph_of(model, "fp16", size)
    if is_trained(model):
        return stages.quantize(graph)
    taken = sample.sample_frames(STREET.parent, 1, 0, few=True)
    table = ranges.calibrate(graph_of(model, "fp32", small), taken, 0, "mse", FOLDER / "calib")
    key = key_of({"graph": sha256_of(graph), "table": sha256_of(table), "code": qdq.code()})
    path = FOLDER / "onnx" / f"{model}-int8-{size[0]}x{size[1]}-{key}.onnx"
    if not is_sealed(path):
        made = qdq.quantize(load_graph(graph, "fp16")[0], load_table(table))
        write_sealed(path, made.SerializeToString())
    return path


@cache
def cost_of(model: str, size: tuple[int, int], width: int | None = None) -> Cost:
    """What a frame of that size takes, of Cityscapes' classes; nothing is computed, shapes alone run through."""
    import torch

    from export import registry
    from runtime.labels import CITYSCAPES

    network = registry.find(model)
    with torch.device("meta"):
        module = network.build(len(CITYSCAPES), **({"width": width} if width else {})).eval()
        ran = _running(module)
        gmac = gmac_of(module, registry.nearest_size(network, *size))
    return Cost(sum(tensor.numel() for each in ran for tensor in each.parameters(recurse=False)), gmac)


def _running(module: "nn.Module") -> "set[nn.Module]":
    # Filled while it runs: what is there for the training alone does not.
    ran: set[nn.Module] = set()
    for each in module.modules():
        each.register_forward_hook(lambda one, *_: ran.add(one))
    return ran
