"""A network that upsamples its logits itself: that is left to the runtime where it does the very same."""

import time
from typing import Any, NamedTuple

import numpy as np
import onnx

from export.adopting.editing import Editor
from export.adopting.endings import LOGITS, PROBABILITIES, stride_of, take_ending
from runtime.cli import log
from runtime.errors import GraphError
from runtime.libraries import refusing
from runtime.spec import Upsample

RUNS = 3  # of each graph, in turns; the fastest counts


class Coarse(NamedTuple):
    """A graph up to its last upsampling, and how its logits are upsampled in its place."""

    graph: onnx.ModelProto
    output_stride: int
    upsample: Upsample


def left_to_runtime(graph: onnx.ModelProto, size: tuple[int, int]) -> Coarse | None:
    """The same graph without the upsampling that it ends in, cut as from anyone's ONNX file (`take_ending`); said.

    Where it ends in another one, that is said with the share of the graph's time that it takes.

    Args:
        graph: FP32, its output logits (1, C, height, width); it stays as it is.
        size: (height, width) of the network's input.

    Returns:
        None where it ends otherwise, or in probabilities, which are no logits before they are upsampled.
    """
    cut = onnx.ModelProto.FromString(graph.SerializeToString())
    Editor(cut).infer()
    ending = take_ending(cut, LOGITS, size)
    if ending.kind != "logits" or "Resize" not in ending.cut or set(PROBABILITIES) & set(ending.cut):
        _tell_other_upsample(graph)
        return None
    _, _, *map_size = Editor(cut).shape(LOGITS) or ()
    stride = stride_of((map_size[0], map_size[1]), size)
    log(
        f"its last layer upsamples the logits from 1/{stride} ({ending.upsample}), {_share(graph, cut):.0%} of its "
        "time on onnxruntime: that is left to the runtime, straight to the frame"
    )
    return Coarse(cut, stride, ending.upsample)


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


def _tell_other_upsample(graph: onnx.ModelProto) -> None:
    cut = without_last_resize(graph)
    if cut is not None:
        log(
            f"its last layer upsamples the logits in another way than the runtime, {_share(graph, cut):.0%} of its "
            "time on onnxruntime: return them before that, and they are upsampled bilinearly, straight to the frame"
        )


def _share(graph: onnx.ModelProto, cut: onnx.ModelProto) -> float:
    whole, coarse = _session(graph), _session(cut)
    wanted = whole.get_inputs()[0]
    feed = {wanted.name: np.zeros(wanted.shape, np.float32)}
    times = [[_seconds(session, feed) for session in (whole, coarse)] for _ in range(RUNS)]
    of_whole, of_coarse = (min(each) for each in zip(*times, strict=True))
    return max(1 - of_coarse / of_whole, 0.0)


def _session(graph: onnx.ModelProto) -> Any:
    import onnxruntime

    with refusing(GraphError, "onnxruntime refuses the graph"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of the sizes that nothing reads any more
        return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _seconds(session: Any, feed: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    session.run(None, feed)
    return time.perf_counter() - start
