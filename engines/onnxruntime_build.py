"""ONNX -> an engine for onnxruntime, which is the graph itself: the session optimises it when it opens."""

from collections import Counter

import onnx as onnx_package
from onnx import TensorProto

from engines.built import Built
from runtime.backends.onnxruntime import CPU, providers, session_options
from runtime.cli import log
from runtime.errors import EngineError
from runtime.spec import BackendName, ModelSpec, Precision

WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
TYPE_NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}


def build(onnx: bytes, spec: ModelSpec, precision: Precision, backend: BackendName) -> Built:
    """The graph, after onnxruntime has opened it once.

    Raises:
        EngineError: onnxruntime refuses it.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

    try:
        usable = providers(onnxruntime.get_available_providers())
        session = onnxruntime.InferenceSession(onnx, session_options(), providers=usable)
    except (Fail, InvalidGraph, NotImplemented) as error:
        raise EngineError(f"onnxruntime refuses the graph of {spec.name}: {str(error).splitlines()[0]}") from None
    executed = weight_types(onnx_package.load_from_string(onnx))
    if "fp16" in executed and session.get_providers()[0] == CPU:
        log("onnxruntime has no fp16 convolutions on a CPU: fp16 runs as fp32, with casts around each")
        executed["fp32"] = executed.pop("fp16") + executed.get("fp32", 0)
    if "int8" in executed:
        log("onnxruntime is the referee: what the graph quantizes is rounded as it says and computed in float")
        executed["fp32"] = executed.pop("int8") + executed.get("fp32", 0)
    return Built(onnx, executed)


def weight_types(model: onnx_package.ModelProto) -> dict[str, int]:
    """How many weighted layers of a graph have weights of each type."""
    types = {tensor.name: TYPE_NAMES.get(tensor.data_type, str(tensor.data_type)) for tensor in model.graph.initializer}
    types |= {node.output[0]: "int8" for node in model.graph.node if node.op_type == "DequantizeLinear"}
    counts = Counter(types[node.input[1]] for node in model.graph.node if node.op_type in WEIGHTED)
    return dict(sorted(counts.items()))
