"""Every network besides ENet and ICNet, with random weights, FP16 and INT8: OpenVINO and TensorRT-RTX build it."""

import importlib.util

import onnx
import pytest

from calib import qdq, ranges, sample
from calib.graphs import load_graph
from calib.table import load_table
from engines import build, plan
from engines.planned import figures
from export import registry, to_onnx
from export.to_onnx import Request
from runtime.manifest import manifest_path, read_manifest
from runtime.samples import STREET
from tests.helpers.networks import size_of

pytestmark = pytest.mark.slow
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
FAMILY = [name for name in registry.names() if name not in {"enet", "icnet"}]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("family"), {}

    def export(name, precision):
        if (name, precision) not in made:
            made[name, precision] = quantized(name) if precision == "int8" else exported(name, precision)
        return made[name, precision]

    def exported(name, precision):
        return to_onnx.export(Request(name, precision, *size_of(registry.find(name))), None, folder)

    def quantized(name):
        # By the ranges of one frame; of random weights no likeness to the float graph is asked for.
        taken = sample.sample_frames(STREET.parent, 1, 0, few=True)
        table = ranges.calibrate(export(name, "fp32"), taken, 0, "minmax", folder / "tables")
        path = folder / f"{name}-int8.onnx"
        model = qdq.quantize(load_graph(export(name, "fp16"), "fp16")[0], load_table(table))
        path.write_bytes(model.SerializeToString())
        return path

    return export


@needs_rtx
@pytest.mark.parametrize("name", FAMILY)
def test_tensorrt_rtx_plans_it_in_fp16_and_in_int8(graph, name):
    fp16, int8 = (figures(plan.plan_of(graph(name, kind), "tensorrt-rtx")) for kind in ("fp16", "int8"))
    assert fp16["kernels"] > 10 and int8["kernels"] > 10
    assert "MB written in int8" not in fp16 and int8["MB written in int8"] > 0


@pytest.mark.parametrize("name", FAMILY)
def test_openvino_executes_in_int8_what_the_graph_quantizes(graph, name, tmp_path):
    engine = build.build_engine(graph(name, "int8"), "int8", "openvino", tmp_path, prove=False)
    executed = read_manifest(manifest_path(engine)).executed
    weights = [each for each in onnx.load(graph(name, "int8")).graph.initializer if each.name.endswith(".codes")]
    assert executed["int8"] >= len(weights) > 20, executed


# The places of ENet's maxima are another matter of 16 bits as long as its weights are random.
@pytest.mark.parametrize("name", [name for name in FAMILY if name != "enet-davidtvs"])
def test_openvino_builds_and_proves_it(graph, name, tmp_path):
    engine = build.build_engine(graph(name, "fp16"), "fp16", "openvino", tmp_path)
    manifest = read_manifest(manifest_path(engine))
    assert manifest.proof.frames == 1 and manifest.proof.apart <= manifest.proof.bound
    # With random weights two classes of PIDNet-S are near a tie at one pixel in a hundred.
    assert manifest.proof.masks_equal > (0.98 if name == "pidnet-s" else 0.99)
