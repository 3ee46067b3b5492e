"""Whether PReLUs belong into their convolutions is measured on what is one network in two forms."""

import numpy as np
import openvino
import pytest

from engines import openvino_build, openvino_prelus
from engines.openvino_pairs import LEVELS, fuse_sums
from engines.openvino_sums import sums_saturate
from runtime.backends.openvino import DEVICE, compile_options, core
from tests.helpers.graphs import tiny_graph, tiny_spec

pytestmark = pytest.mark.skipif(sums_saturate(), reason="this CPU adds products of 8 bits in 16: nothing is fused")


def rounded(model):
    """How many sums were taken into convolutions."""
    kinds = [node.get_attributes() for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    return sum(kind["levels"] == LEVELS for kind in kinds)


def layers(model):
    graph = core().compile_model(model, DEVICE, compile_options("f32")).get_runtime_model()
    return [node.get_rt_info()["layerType"].astype(str) for node in graph.get_ops()]


def test_every_sum_that_is_measured_is_fused_in_one_form_and_a_pass_in_the_other():
    fused, apart = openvino_prelus._bottlenecks(), openvino_prelus._bottlenecks()
    fuse_sums(fused, prelus=True)
    fuse_sums(apart)
    assert (rounded(fused), rounded(apart)) == (openvino_prelus.BOTTLENECKS, 0)
    passes = [layers(model).count("Subgraph") + layers(model).count("Eltwise") for model in (fused, apart)]
    assert passes[1] - passes[0] >= openvino_prelus.BOTTLENECKS


def test_the_two_forms_give_the_same():
    models = openvino_prelus._bottlenecks(), openvino_prelus._bottlenecks()
    fuse_sums(models[0], prelus=True)
    draw = np.random.default_rng(0)
    maps = [draw.integers(0, 256, port.shape, np.uint8) for port in models[0].inputs]
    found = [core().compile_model(model, DEVICE, compile_options("f32"))(maps)[0].astype(int) for model in models]
    assert np.ptp(found[1]) > 20 and np.abs(found[0] - found[1]).max() <= 1


def test_the_share_is_of_the_fused_forms_time(monkeypatch):
    seconds = iter([3.0, 4.0] * (openvino_prelus.WARMUP + openvino_prelus.ROUNDS))
    monkeypatch.setattr(openvino_prelus, "_seconds", lambda *_: next(seconds))
    openvino_prelus.share_of_fused.cache_clear()
    assert openvino_prelus.share_of_fused("f32") == 0.75
    openvino_prelus.share_of_fused.cache_clear()


@pytest.mark.parametrize(("share", "is_fused"), [(0.8, True), (1.2, False)])
def test_the_build_takes_the_faster_form(monkeypatch, share, is_fused):
    told = []
    monkeypatch.setattr(openvino_build, "share_of_fused", lambda _: share)
    monkeypatch.setattr(openvino_build, "fuse_sums", lambda model, prelus: told.append(prelus))
    spec = tiny_spec()
    model = core().read_model(tiny_graph(spec, "fp32"), b"")
    with_prelu = _with_prelu(model)
    openvino_build.compiled_model(with_prelu, spec, "int8", "f32")
    openvino_build.compiled_model(core().read_model(tiny_graph(spec, "fp32"), b""), spec, "int8", "f32")
    assert told == [is_fused, False]


def _with_prelu(model):
    source = model.get_results()[0].input_value(0)
    slopes = openvino.opset13.constant(np.full(source.get_shape()[1], 0.3, np.float32))
    model.get_results()[0].input(0).replace_source_output(openvino.opset13.prelu(source, slopes).output(0))
    model.validate_nodes_and_infer_types()
    return model
