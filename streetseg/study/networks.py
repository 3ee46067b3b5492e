"""The table of all networks: what each costs, what of it runs in INT8, how near its engines are to PyTorch."""

from pathlib import Path
from typing import Any, NamedTuple

from runtime.artifacts import key_of, sources_sha256
from runtime.backend import open_backend
from runtime.cli import log
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from runtime.reference import preprocess, resize_frame, unblock
from runtime.samples import STREET
from runtime.spec import Precision, Preprocess
from streetseg import listing, stages
from streetseg.study.building import SMALL, cost_of, graph_of, int8_of, is_trained, plain_of, random_weights
from streetseg.study.points import FRAME

PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")


class Known(NamedTuple):
    """What is published of a network: mIoU in percent with what it is of, the licence, and the checkpoint."""

    miou: float | None
    of: str
    licence: str
    checkpoint: str


VAL, TEST = "val", "test"
NONE = "none published"
MMSEG = "open-mmlab/mmsegmentation"
# Cityscapes. Source of each: the page "Engines", section "Weights", and the papers.
KNOWN = {
    "enet": Known(58.3, TEST, "", ""),
    "enet-davidtvs": Known(59.5, VAL, "MIT", "davidtvs/PyTorch-ENet"),
    "icnet": Known(67.7, VAL, "", ""),
    "icnet-sub4": Known(59.6, VAL, "", ""),
    "icnet-sub24": Known(66.5, VAL, "", ""),
    "icnet-caffe": Known(67.7, VAL, "none stated", "hszhao/ICNet"),
    "icnet-mmseg-r18": Known(74.43, VAL, "Apache-2.0", MMSEG),
    "icnet-mmseg-r50": Known(76.29, VAL, "Apache-2.0", MMSEG),
    "ddrnet23-slim": Known(77.8, VAL, "MIT", "ydhongHIT/DDRNet"),
    "pidnet-s": Known(78.8, VAL, "MIT", "XuJiacong/PIDNet"),
    "fast-scnn": Known(68.6, VAL, "", NONE),
    "fast-scnn-mmseg": Known(70.96, VAL, "Apache-2.0", MMSEG),
    "deeplabv3plus-xception41": Known(None, "", "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-xception41-os8": Known(None, "", "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-xception65": Known(78.79, VAL, "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-xception65-os8": Known(80.42, "val, flipped, scales", "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-xception71": Known(None, "", "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-xception71-os8": Known(None, "", "Apache-2.0", "tensorflow/models"),
    "deeplabv3plus-mobilenetv2": Known(72.1, VAL, "MIT", "VainF/DeepLabV3Plus-Pytorch"),
    "deeplabv3plus-mmseg-r50": Known(80.09, VAL, "Apache-2.0", MMSEG),
    "pspnet50": Known(77.3, "val, flipped, in crops", "MIT", "hszhao/semseg"),
    "pspnet50-caffe": Known(None, "", "none stated", "hszhao/PSPNet (ADE20K)"),
    "pspnet50-mmseg": Known(77.85, VAL, "Apache-2.0", MMSEG),
    "pspnet50-sum": Known(71.7, VAL, "", NONE),
    "pspnet50-sum-os16": Known(70.2, VAL, "", NONE),
    "pspnet50-sum-os32": Known(67.1, VAL, "", NONE),
    "pspnet50-sum-half": Known(67.9, VAL, "", NONE),
    "pspnet50-sum-quarter": Known(59.4, VAL, "", NONE),
}  # fmt: skip


def built_network(name: str, before: dict[str, Any]) -> dict[str, Any]:
    """A registered network's row but for its times, and its engines, as JSON values.

    Args:
        name: its name.
        before: the row of an earlier call, whose logits are taken where they are of the same engines; or an empty one.

    Raises:
        PipelineError: as `streetseg.stages.build`.
    """
    from export import registry

    log(f"== {name}")
    network = registry.find(name)
    size, small = (registry.nearest_size(network, *each) for each in (FRAME, SMALL))
    engines = {kind: engine_of(name, kind, size, small) for kind in PRECISIONS}
    small_engines = {kind: engine_of(name, kind, small, small) for kind in PRECISIONS}
    of = key_of({"engines": [path.name for path in small_engines.values()], "code": sources_sha256(Path(__file__))})
    (model,) = listing.models(size, [name])
    known = KNOWN.get(name, Known(None, "", "", ""))
    return {
        "name": name,
        "size": list(size),
        "trained": is_trained(name),
        **cost_of(name, size)._asdict(),
        "weights_sha256": read_manifest(engines["fp16"]).spec.weights_sha256,
        "executed": {kind: read_manifest(engine).executed for kind, engine in engines.items()},
        "engines": {kind: str(engine) for kind, engine in engines.items()},
        "plain": str(plain_of(name, size)),
        "logits": before["logits"]
        if before.get("logits_of") == of
        else logits_beside_torch(name, small, small_engines),
        "logits_of": of,
        "logits_size": list(small),
        "miou": known.miou,
        "miou_of": known.of,
        "licence": model.licence.partition(",")[0] or known.licence,
        "checkpoint": model.weights.name if model.weights else known.checkpoint,
    }


def engine_of(name: str, precision: Precision, size: tuple[int, int], small: tuple[int, int]) -> Path:
    """OpenVINO's engine of a network, proven where its weights mean something.

    Raises:
        PipelineError: as `streetseg.stages.build`.
    """
    graph = int8_of(name, size, small) if precision == "int8" else graph_of(name, "fp16", size)
    return stages.build(graph, backend="openvino", prove=is_trained(name))


def logits_beside_torch(name: str, size: tuple[int, int], engines: dict[Precision, Path]) -> dict[str, float]:
    """How logits correlate with PyTorch's on the street frame: of the FP32 graph on onnxruntime, and of each engine.

    The graph tells whether it is the network; the engines what 16 and 8 bits make of it, which with random weights,
    whose classes nothing sets apart, is much more than with trained ones.
    """
    import torch

    from calib.graphs import load_graph
    from calib.likeness import correlation
    from engines.proof import referee_of
    from export.checkpoints.sources import default_weights
    from export.to_onnx import Request, loaded_network

    frame = resize_frame(read_frame(STREET), *size)
    weights = default_weights(name) or random_weights(name)
    entry, network, _ = loaded_network(Request(name, "fp32", *size), weights)
    scale, mean, std, order = entry.normalization
    with torch.inference_mode():
        values = preprocess(frame, Preprocess(size[0], size[1], scale, mean, std, order))
        wanted = network(torch.from_numpy(values)).numpy()
    graph = graph_of(name, "fp32", size)
    model, spec = load_graph(graph, "fp32")
    with referee_of(model.SerializeToString(), spec, "fp32") as referee:
        found = {"graph": correlation([wanted], [unblock(referee.logits(frame), spec.block)])}
    for kind, path in engines.items():
        with open_backend(path) as engine:
            found[kind] = correlation([wanted], [unblock(engine.logits(frame), engine.spec.block)])
    return found
