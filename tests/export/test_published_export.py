"""From a published checkpoint to its graph; `export` compares that with PyTorch before it is written."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from export import registry, to_onnx
from export.check import compare, street_frame
from export.checkpoints.weights import load, read_weights
from export.half import half_from_float
from export.to_onnx import Request
from runtime import reference
from runtime.labels import CITYSCAPES
from runtime.spec import ModelSpec, Preprocess, from_json
from tests.export.test_to_onnx import FORBIDDEN
from tests.helpers import published_caffe
from tests.helpers.networks import UNPOOLED, seeded, size_of
from tests.helpers.published_enet import PublishedENet
from tests.helpers.published_mmseg import PublishedICNet

# One more is a question to answer: what was not folded, or which rewrite was lost?
NODES = {
    "enet-davidtvs": {
        "Conv": 90, "DepthToSpace": 2, "PRelu": 93, "Relu": 18, "Add": 28, "Pad": 2, "MaxPool": 5, "Reshape": 12,
        "GreaterOrEqual": 2, "Equal": 2, "Where": 4,
    },
    "icnet-caffe": {
        "Conv": 64, "Relu": 57, "Add": 20, "Slice": 4, "Resize": 3, "Reshape": 2, "MatMul": 2, "MaxPool": 2,
    },
    "icnet-mmseg-r18": {
        "Conv": 42, "Relu": 34, "Add": 11, "MatMul": 10, "Reshape": 8, "Slice": 4, "Transpose": 4, "Resize": 2,
        "MaxPool": 1, "AveragePool": 1, "Concat": 1,
    },
}  # fmt: skip
# Of pixels in float16: where weights are noise, ENet unpools some maxima to other places than in float32.
HALF_MASK = 0.98


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    enet = seeded(PublishedENet(20)).state_dict()
    for name in enet:
        if name.endswith("main_conv1.1.weight"):
            enet[name] *= UNPOOLED  # as in `decided`
    torch.save({"state_dict": enet}, folder / "ENet")
    torch.save({"state_dict": seeded(PublishedICNet(19, 18)).state_dict()}, folder / "icnet.pth")
    np.save(folder / "icnet.npy", published_caffe.published(merged=True), allow_pickle=True)
    files = {"enet-davidtvs": "ENet", "icnet-caffe": "icnet.npy", "icnet-mmseg-r18": "icnet.pth"}
    return {name: folder / file for name, file in files.items()}


@pytest.fixture(scope="module")
def graph(checkpoints):
    made = {}

    def export(name):
        if name not in made:
            request = Request(name, "fp32", *size_of(registry.find(name)))
            made[name] = onnx.load(to_onnx.export(request, checkpoints[name], checkpoints[name].parent))
        return made[name]

    return export


every_layout = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "enet-davidtvs")) for name in NODES]
)


@every_layout
def test_a_published_checkpoint_becomes_a_graph_that_engines_take(graph, name):
    found = Counter(node.op_type for node in graph(name).graph.node)
    assert found == NODES[name] and FORBIDDEN & found.keys() == set()


@every_layout
def test_the_graph_says_what_its_frames_and_classes_are(graph, name):
    entry, spec = registry.find(name), from_json(ModelSpec, graph(name).metadata_props[0].value)
    norm, (height, width) = entry.normalization, size_of(entry)
    mean = tuple(value / norm.scale for value in norm.mean)
    assert spec.preprocess == Preprocess(height, width, 1.0, mean, (1.0, 1.0, 1.0), norm.channel_order, "auto")
    assert (spec.name, spec.classes, spec.block) == (name, CITYSCAPES, 2 if name == "enet-davidtvs" else 1)
    shape = [dim.dim_value for dim in graph(name).graph.output[0].type.tensor_type.shape.dim]
    step = entry.output_stride * spec.block
    assert shape == [1, 19 * spec.block**2, -(-height // step), -(-width // step)]


@every_layout
def test_its_float16_form_gives_its_masks(graph, checkpoints, name):
    weights = read_weights(checkpoints[name])
    network = registry.find(name).build(len(weights.classes)).eval()
    load(network, weights)
    spec = from_json(ModelSpec, graph(name).metadata_props[0].value)
    frame = reference.resize_frame(street_frame(), spec.preprocess.height, spec.preprocess.width)
    found = compare(half_from_float(graph(name)), network, registry.find(name).normalization, spec, frame)
    assert found.mask_agreement > HALF_MASK
