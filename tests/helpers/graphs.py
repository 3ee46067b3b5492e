"""Networks of two convolutions that stand in for real ones where only the way through the code is tested."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.labels import CAMVID, Label
from runtime.spec import ModelSpec, Preprocess, to_json

TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}


def tiny_spec(
    *, height: int = 32, width: int = 64, block: int = 1, batch: int = 1, name: str = "icnet", batch_free: bool = False
) -> ModelSpec:
    """The spec of `tiny_graph`: raw pixels in, mean subtracted, logits at 1/4 (at 1/2 in blocks of 2)."""
    preprocess = Preprocess(height, width, 1.0, (10.0, 20.0, 30.0), (64.0, 64.0, 64.0), "RGB")
    stride, sha256 = 4 // block, "0" * 64
    return ModelSpec(name, preprocess, CAMVID, stride, block, batch, sha256, "two convolutions", batch_free=batch_free)


DOUBLED = "two convolutions and a doubling"  # as a spec's source: `tiny_graph` ends so


def tiny_graph(spec: ModelSpec | None = None, precision: str = "fp32", *, seed: int = 0) -> bytes:
    """A strongly typed ONNX file with the spec in its metadata and random weights."""
    spec = spec or tiny_spec()
    kind, dtype = TYPES[precision]
    random = np.random.default_rng(seed)
    outputs = len(spec.classes) * spec.block**2
    weights = {
        "w1": random.standard_normal((8, 3, 3, 3)).astype(dtype),
        "w2": random.standard_normal((outputs, 8, 3, 3)).astype(dtype),
    }
    stride = spec.output_stride * spec.block
    nodes = [
        helper.make_node("Conv", ["frame", "w1"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["logits"], pads=[1, 1, 1, 1], strides=[stride // 2, stride // 2]),
    ]
    if spec.source == DOUBLED:  # by its last layer
        nodes[-1] = helper.make_node("Conv", ["b", "w2"], ["half"], pads=[1, 1, 1, 1], strides=[stride, stride])
        nodes.append(helper.make_node("Resize", ["half", "", "scales"], ["logits"], mode="linear"))
        weights["scales"] = np.array([1, 1, 2, 2], np.float32)
    height, width = spec.preprocess.height, spec.preprocess.width
    batch = "batch" if spec.batch_free else spec.batch
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", kind, [batch, 3, height, width])],
        [helper.make_tensor_value_info("logits", kind, [batch, outputs, height // stride, width // stride])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    helper.set_model_props(model, {"model_spec": to_json(spec)})
    return model.SerializeToString()


OWN_CLASSES = (Label("lane", (255, 0, 0)), Label("kerb", (0, 255, 0)), Label("rest", (0, 0, 255)))
