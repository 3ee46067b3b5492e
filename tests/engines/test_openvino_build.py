import numpy as np
import openvino
import pytest

from engines import openvino_build
from engines.build import build_engine
from engines.openvino_build import logits_type
from runtime.backend import open_backend
from runtime.backends.openvino import DEVICE, core
from tests.helpers.graphs import tiny_graph, tiny_spec

HAS_BF16 = "BF16" in core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(
    ("block", "execution", "kind"),
    [
        (2, "bf16", "bf16"),
        (1, "bf16", "f32"),  # at a quarter of the size a pass over them costs nothing
        (2, "f32", "f32"),
        (2, "f16", "f32"),
    ],
)
def test_logits_leave_in_bfloat16_where_they_are_computed_in_it(block, execution, kind):
    assert logits_type(tiny_spec(block=block), execution) == getattr(openvino.Type, kind)


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no BF16 units")
def test_bfloat16_logits_are_the_values_that_float32_ones_are(tmp_path, monkeypatch):
    spec, frame = tiny_spec(block=2), np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    graph, logits, masks = tmp_path / "tiny.onnx", [], []
    graph.write_bytes(tiny_graph(spec, "fp16"))
    for folder in ("bf16", "f32"):
        with open_backend(build_engine(graph, "fp16", "openvino", tmp_path / folder)) as engine:
            logits.append(engine.logits(frame))
            masks.append(engine.segment(frame))
            kind = engine._request.get_output_tensor().element_type
            assert kind == getattr(openvino.Type, folder)
        monkeypatch.setattr(openvino_build, "logits_type", lambda *_: openvino.Type.f32)
    assert np.array_equal(*logits) and np.array_equal(*masks)
