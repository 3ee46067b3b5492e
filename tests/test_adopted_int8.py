"""What foreign graphs hold and ours do not, from the file to an INT8 engine that is held to its graph."""

import importlib.util

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calib import qdq, ranges, sample
from calib.graphs import load_graph
from calib.placement import layers, place
from calib.table import load_table
from engines import tensorrt_build
from engines.build import build_engine
from engines.proof import REFEREE, referee_of
from export import adopt
from export.adopting.options import Asked, Given
from runtime import open_backend
from runtime.manifest import read_manifest
from runtime.media.frames import read_frame
from runtime.reference import resize_frame
from runtime.samples import STREET
from tests.helpers.foreign import HEIGHT, WIDTH, Foreign

IMAGENET = Asked(given=Given("imagenet"))
LIKE_ITS_GRAPH = 0.95  # correlation of logits; the joined maps of this graph came to 0.4 to 0.9 with signed codes


def every_kind() -> Foreign:
    """Grouped and depthwise convolutions, HardSwish, SiLU, attention, a join, a GroupNorm, a deconvolution, a skip."""
    made = Foreign().conv(3, 16, 2)
    made.add("HardSwish")
    early = made.conv(16, 16, 2, group=16).at
    made.add("Sigmoid")
    made.nodes.append(onnx.helper.make_node("Mul", [early, made.at], ["silu"]))
    made.at = "silu"
    made.conv(16, 16, 1, group=4).add("Relu")
    made.nodes.append(onnx.helper.make_node("Add", [made.conv(16, 16, 1, kernel=1).at, "silu"], ["skip"]))
    made.at = "skip"
    made.add("Reshape", np.array([1, 16, -1], np.int64))
    tokens, turned = made.at, made.add("Transpose", perm=[0, 2, 1])
    made.nodes.append(onnx.helper.make_node("MatMul", [tokens, turned], ["scores"]))
    made.at = "scores"
    made.add("Softmax", axis=-1)
    made.nodes.append(onnx.helper.make_node("MatMul", [made.at, tokens], ["attended"]))
    made.at = "attended"
    made.add("Reshape", np.array([1, 16, HEIGHT // 4, WIDTH // 4], np.int64))
    made.add("Reshape", np.array([0, 4, -1], np.int64))
    made.add("InstanceNormalization", np.ones(4, np.float32), np.zeros(4, np.float32))
    made.add("Reshape", np.array([1, 16, HEIGHT // 4, WIDTH // 4], np.int64))
    made.nodes.append(onnx.helper.make_node("Concat", [made.at, early], ["joined"], axis=1))
    made.at = "joined"
    made.conv(32, 8).add("Relu")
    made.add("ConvTranspose", made.random.normal(0, 0.3, (8, 8, 2, 2)).astype(np.float32), strides=[2, 2])
    return made.conv(8, 5, kernel=1)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Graphs of `every_kind` by precision, and the table."""
    folder = tmp_path_factory.mktemp("adopted")
    path = every_kind().give().save(folder / "net.onnx")
    made = {kind: adopt.adopt(path, IMAGENET._replace(precision=kind), folder) for kind in ("fp32", "fp16")}
    street = resize_frame(read_frame(STREET), 2 * HEIGHT, 2 * WIDTH)
    (folder / "frames").mkdir()
    for shift in range(4):
        cv2.imwrite(str(folder / "frames" / f"{shift}.png"), np.roll(street, 9 * shift, 1)[..., ::-1])
    taken = sample.sample_frames(folder / "frames", 4, 0, few=True)
    table = ranges.calibrate(made["fp32"], taken, 0, "mse", folder / "tables")
    return {**made, "int8": qdq.quantized_graph(made["fp16"], table), "table": table}


def test_every_convolution_is_quantized_whatever_its_groups(stages):
    model, _ = load_graph(stages["fp16"], "fp16")
    placement = place(model.graph)
    assert len(placement.weights) + len(placement.rounded) == len(layers(model.graph)) == 6
    int8 = onnx.load(stages["int8"])
    codes = [t for t in int8.graph.initializer if t.name.endswith(".codes")]
    assert len(codes) == len(placement.weights) and {t.dims[1] for t in codes} >= {1, 4}


def test_a_bias_is_corrected_by_the_channels_that_its_group_reads(stages):
    full = load_graph(stages["fp32"], "fp32")[0]
    table = load_table(stages["table"])
    model = qdq.quantize(full, table)
    arrays = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    before = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in full.graph.initializer}
    grouped = [n for n in full.graph.node if n.op_type == "Conv" and before[n.input[1]].shape[1] in (1, 4)]
    assert len(grouped) == 2
    for node in grouped:
        weight, bias = before[node.input[1]], before[node.input[2]]
        codes, scales = arrays[f"{node.input[1]}.codes"], arrays[f"{node.input[1]}.scale"]
        means, width = table.means[node.input[0]], weight.shape[1]
        outputs_a_group = len(weight) * width // len(means)
        for out in range(len(weight)):
            first = out // outputs_a_group * width
            added = sum((codes[out, i] * scales[out] - weight[out, i]).sum() * means[first + i] for i in range(width))
            assert arrays[f"{node.output[0]}.bias"][out] == pytest.approx(bias[out] - added, abs=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_is_held_to_its_graph_in_every_precision(stages, tmp_path, backend, precision):
    engine = build_engine(stages[precision], precision, backend, tmp_path)
    proof = read_manifest(engine).proof
    assert proof.frames == 1 and proof.apart <= proof.bound
    onnx_bytes = stages[precision].read_bytes()
    frame = read_frame(STREET)
    spec = read_manifest(engine).spec
    with open_backend(engine) as ours, referee_of(onnx_bytes, spec, precision) as referee:
        found, wanted = ours.logits(frame), referee.logits(frame)
    assert REFEREE == "onnxruntime" and np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > LIKE_ITS_GRAPH


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_rtx_builds_an_adopted_graph_without_a_gpu(stages, precision):
    model, spec = load_graph(stages[precision], precision)
    built = tensorrt_build.build(model.SerializeToString(), spec, precision, "tensorrt-rtx")
    assert built.executed.get(precision, 0) > 0
