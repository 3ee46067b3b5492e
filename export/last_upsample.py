"""A network that upsamples its logits itself: what it would save to leave that to the runtime, measured."""

import time

import numpy as np
import onnx

from runtime.cli import log
from runtime.errors import GraphError
from runtime.libraries import refusing

RUNS = 3  # of each graph, in turns; the fastest counts


def tell_last_upsample(graph: onnx.ModelProto) -> None:
    """One line where the graph ends in a resizing of its logits, with the share of its time that this takes."""
    cut = without_last_resize(graph)
    if cut is not None:
        share = 1 - _fastest(cut) / _fastest(graph)
        log(
            f"its last layer upsamples the logits, {max(share, 0.0):.0%} of its time on onnxruntime: return them "
            "before that, the runtime upsamples them itself, straight to the frame"
        )


def without_last_resize(graph: onnx.ModelProto) -> onnx.ModelProto | None:
    """The same graph up to the resizing that it ends in; None where it ends otherwise."""
    (output,) = graph.graph.output
    last = next((node for node in graph.graph.node if output.name in node.output), None)
    if last is None or last.op_type != "Resize":
        return None
    cut = onnx.ModelProto()
    cut.CopyFrom(graph)
    del cut.graph.output[:]
    cut.graph.output.append(onnx.ValueInfoProto(name=last.input[0]))
    cut.graph.node.remove(last)
    return cut


def _fastest(graph: onnx.ModelProto) -> float:
    import onnxruntime

    with refusing(GraphError, "onnxruntime refuses the graph"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of the sizes that nothing reads any more
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = session.get_inputs()[0]
        feed, times = {wanted.name: np.zeros(wanted.shape, np.float32)}, []
        for _ in range(RUNS):
            start = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - start)
    return min(times)
