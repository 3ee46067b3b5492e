"""ONNX -> an engine for onnxruntime, which is the graph itself: the session optimises it when it opens."""

from collections import Counter

import numpy as np
import onnx as onnx_package
from onnx import TensorProto, numpy_helper

from calib.graphs import graph_from_bytes
from engines.built import Built
from runtime.backends.onnxruntime import CPU, providers, session_options
from runtime.cli import log
from runtime.errors import EngineError
from runtime.libraries import refusing
from runtime.spec import BackendName, ModelSpec, Precision

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
TYPE_NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}


def build(onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName) -> Built:
    """The graph, after onnxruntime has opened it once.

    Raises:
        EngineError: onnxruntime refuses it.
    """
    import onnxruntime

    usable = providers(onnxruntime.get_available_providers())
    if precision == "int8" and usable == [CPU]:
        onnx = float_from_half(onnx)
    with refusing(EngineError, f"onnxruntime refuses the graph of {spec.name}"):
        session = onnxruntime.InferenceSession(onnx, session_options(), providers=usable)
    executed = weight_types(graph_from_bytes(onnx))
    if "fp16" in executed and session.get_providers()[0] == CPU:
        log("onnxruntime has no fp16 convolutions on a CPU: fp16 runs as fp32, with casts around each")
        executed["fp32"] = executed.pop("fp16") + executed.get("fp32", 0)
    if "int8" in executed:
        kind = "fp32" if session.get_providers()[0] == CPU else "fp16"
        log(f"onnxruntime is the referee: what the graph quantizes is rounded as it says and computed in {kind}")
        executed[kind] = executed.pop("int8") + executed.get(kind, 0)
    return Built(onnx, executed)


def float_from_half(onnx: bytes) -> bytes:
    """A graph with every FP16 tensor in FP32, its values, scales and codes the same.

    On a CPU onnxruntime computes FP16 in FP32 and rounds each result to half, which moves codes of what is quantized
    next to the other side of a step. The referee is to show the quantization alone.
    """
    model = graph_from_bytes(onnx)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.value_info[:]
    return model.SerializeToString()


def weight_types(model: onnx_package.ModelProto) -> dict[str, int]:
    """How many weighted layers of a graph have weights of each type."""
    types = {tensor.name: TYPE_NAMES.get(tensor.data_type, str(tensor.data_type)) for tensor in model.graph.initializer}
    types |= {node.output[0]: "int8" for node in model.graph.node if node.op_type == "DequantizeLinear"}
    # Attention multiplies what is computed: of it no weight has a type.
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED and node.input[1] in types]
    counts = Counter(types[node.input[1]] for node in weighted)
    return dict(sorted(counts.items()))
