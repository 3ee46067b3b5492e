from types import SimpleNamespace

import numpy as np
import openvino
import pytest

from engines import openvino_build
from engines.build import build_engine
from engines.openvino_build import logits_type, refuse_other_precision, without_a_kernel
from export import adopt
from export.adopting.options import Asked, Given
from runtime.backend import open_backend
from runtime.backends.openvino import DEVICE, core, execution_type
from runtime.errors import EngineError
from tests.helpers.foreign import Foreign
from tests.helpers.graphs import tiny_graph, tiny_spec

# In what FP16 runs, unless FP32 is faster: a library that is held to smaller units has no BF16 either.
HAS_BF16 = execution_type("fp16", core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")) == "bf16"


@pytest.mark.parametrize(
    ("execution", "kind"),
    [("bf16", "bf16"), ("f32", "f32"), ("f16", "f32")],
)
def test_logits_leave_in_bfloat16_where_they_are_computed_in_it(execution, kind):
    assert logits_type(execution) == getattr(openvino.Type, kind)


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no BF16 units")
@pytest.mark.parametrize("block", [1, 2])
def test_bfloat16_logits_are_the_values_that_float32_ones_are(tmp_path, monkeypatch, block):
    monkeypatch.setattr(openvino_build, "gain_of_fp32", lambda _: 0.5)
    spec, frame = tiny_spec(block=block), np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
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


class Compiled:
    """A compiled model of layers (kind, type, name), as OpenVINO tells them."""

    def __init__(self, *layers):
        fields = ("layerType", "runtimePrecision", "originalLayersNames")
        self.infos = [
            {field: openvino.OVAny(value) for field, value in zip(fields, layer, strict=True)} for layer in layers
        ]

    def get_runtime_model(self):
        return SimpleNamespace(get_ops=lambda: [SimpleNamespace(get_rt_info=lambda at=at: at) for at in self.infos])


def test_deconvolutions_without_a_kernel_of_16_bits_are_named_and_no_reason_to_refuse(capsys):
    read = Compiled(("Deconvolution", "f32", "up1"), ("Convolution", "f16", "body"), ("Deconvolution", "f32", "up2"))
    assert without_a_kernel(read, "fp16") == 2 and "fp32 (up1, up2)" in capsys.readouterr().err
    assert without_a_kernel(read, "fp32") == without_a_kernel(Compiled(("Convolution", "f32", "body")), "fp16") == 0
    assert not capsys.readouterr().err
    refuse_other_precision("net", {"fp16": 5, "fp32": 2}, "fp16", 2)
    for executed, count in (({"fp16": 5, "fp32": 3}, 2), ({"fp16": 5, "fp32": 2}, 0), ({"fp32": 2}, 2)):
        with pytest.raises(EngineError, match="was to run in fp16, but of its weighted layers run"):
            refuse_other_precision("net", executed, "fp16", count)


def test_a_real_deconvolution_is_among_the_layers_that_are_looked_at(tmp_path, capsys):
    made = Foreign().conv(3, 8, 2)
    made.add("ConvTranspose", made.random.normal(0, 0.3, (8, 5, 2, 2)).astype(np.float32), strides=[2, 2])
    path = adopt.adopt(made.give().save(tmp_path / "net.onnx"), Asked(given=Given("imagenet")), tmp_path)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    written = core().compile_model(core().read_model(path), DEVICE, options).export_model()
    read = core().import_model(written, DEVICE, options)  # as a build looks at it
    assert without_a_kernel(read, "fp16") == 1 and "they run in fp32 (logits)" in capsys.readouterr().err


def test_matrix_products_without_a_kernel_of_16_bits_are_named_and_no_reason_to_refuse(capsys):
    read = Compiled(("MatMul", "f32", "pool"), ("Convolution", "bf16", "body"), ("FullyConnected", "bf16", "spread"))
    assert without_a_kernel(read, "bf16") == 1
    assert "no bf16 kernel for 1 matrix products: they run in fp32 (pool)" in capsys.readouterr().err
