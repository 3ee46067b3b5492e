"""The file as it came, on onnxruntime: what its adopted graph is held to."""

from typing import Any, NamedTuple

import numpy as np
import onnx

from export.adopting.editing import NCHW_FROM_NHWC, shown
from export.adopting.endings import channels_of
from export.adopting.source import Source
from runtime import reference
from runtime.errors import GraphError
from runtime.libraries import refusing
from runtime.proof import apart, bound
from runtime.spec import ModelSpec, Preprocess, Upsample

MOST_OTHER, MOST_OTHER_HALF = 1e-4, 5e-3  # share of the mask's pixels
TYPES: dict[int, Any] = {
    onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.DOUBLE: np.float64,
    onnx.TensorProto.UINT8: np.uint8,
}  # fmt: skip


class Input(NamedTuple):
    """A file's input as it is declared and as it is fixed."""

    name: str
    layout: str  # NCHW or NHWC
    kind: int  # onnx.TensorProto's
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """In its own layout."""
        return (1, 3, *self.size) if self.layout == "NCHW" else (1, *self.size, 3)


def run_file(source: Source, given: Input, preprocess: Preprocess, frame: np.ndarray) -> dict[str, np.ndarray]:
    """Every output of the untouched file for a frame, uint8 (H, W, 3) RGB.

    Raises:
        GraphError: onnxruntime does not run it, or not at this size.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    values = reference.preprocess(frame, preprocess)
    if given.kind == onnx.TensorProto.UINT8:
        values = np.rint(values)
    values = values if given.layout == "NCHW" else values.transpose(0, 2, 3, 1)
    with refusing(GraphError, f"onnxruntime does not open {source.path}"):
        session = onnxruntime.InferenceSession(str(source.path), options, providers=["CPUExecutionProvider"])
    with refusing(GraphError, f"{source.path} does not run at {shown(given.size)}, its sizes are baked in",
                  "; export it at that size, or give --size as it was exported"):  # fmt: skip
        found = session.run(None, {given.name: np.ascontiguousarray(values.astype(TYPES[given.kind]))})
    return {value.name: array for value, array in zip(session.get_outputs(), found, strict=True)}


def mask_of(output: np.ndarray, size: tuple[int, int], threshold: float) -> np.ndarray:
    """The mask that an untouched output means, uint8 of this size, or of the output's own where it holds ids.

    Args:
        output: logits, a map of one channel, or ids, as the file gives them.
        size: of the network's input, (height, width).
        threshold: above which one channel is class 1.
    """
    if output.dtype.kind in "iub":
        lengths = [length for length in output.shape if length != 1]
        size = (lengths[0], lengths[1]) if len(lengths) == 2 else size
        ids = output.reshape(size).astype(np.int64)
        hot = (ids[None] == np.arange(min(int(ids.max()), 254) + 1)[:, None, None])[None].astype(np.float32)
        return reference.postprocess(hot, *size, upsample="nearest")
    logits = logits_of(output, size)
    if logits.shape[1] == 1:
        above = (logits - np.float32(threshold)).astype(np.float32)
        logits = np.concatenate([np.zeros_like(above), above], axis=1)
    return reference.postprocess(logits, *size)


def logits_of(output: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A float output as float32 NCHW."""
    axis = channels_of(output.shape, size)
    if output.ndim == 4:
        return (output.transpose(NCHW_FROM_NHWC) if axis == 3 else output).astype(np.float32)
    return (output[None] if axis else output.reshape(1, 1, *output.shape[-2:])).astype(np.float32)


def held(mask: np.ndarray, found: np.ndarray, spec: ModelSpec, *, is_half: bool, rounding: str = "") -> str:
    """Compare an adopted graph's mask with the file's; how far they agree, in words.

    Args:
        mask: of the untouched file, of the network's size.
        found: the adopted graph's logits, float32 NCHW.
        spec: of it.
        is_half: one of both computes in half precision.
        rounding: where the logits are as near as rounding brings them, how near, in words (`rounding`).

    Raises:
        GraphError: the masks differ on more pixels, and nothing was said of rounding.
    """
    equal = float((reference.segment(found, spec, mask.shape) == mask).mean())
    told = f"{equal:.4%} of the pixels are the file's on onnxruntime"
    if 1 - equal <= (MOST_OTHER_HALF if is_half else MOST_OTHER):
        return told
    if is_half and rounding:
        return f"{told}, where classes are near ties: held to the logits, {rounding}"
    raise GraphError(
        f"the adopted graph of {spec.name} is not the file: {told}, expected "
        f"{1 - (MOST_OTHER_HALF if is_half else MOST_OTHER):.2%}. That is a fault of the adoption: please report it"
    )


def rounding(wanted: np.ndarray, found: np.ndarray, moved: np.ndarray) -> str:
    """How far two results are apart, in words; nothing where that is more than rounding in half precision.

    Args:
        wanted, found: logits of one frame, of one shape.
        moved: those that noise in the frame makes of `found`.
    """
    off, most = apart(wanted, found), bound(apart(found, moved), {"fp16": 1})
    return f"{off:.4f} of their deviation apart (at most {most:.4f})" if off <= most else ""


def run_graph(graph: onnx.ModelProto, spec: ModelSpec, frame: np.ndarray) -> np.ndarray:
    """The adopted graph's logits for a frame, float32 NCHW.

    Raises:
        GraphError: onnxruntime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    is_half = graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    values = reference.preprocess(frame, spec.preprocess).astype(np.float16 if is_half else np.float32)
    with refusing(GraphError, f"onnxruntime does not run the adopted graph of {spec.name}"):
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run(None, {graph.graph.input[0].name: values})
    return np.asarray(logits, np.float32)


def upsampled(logits: np.ndarray, upsample: Upsample, size: tuple[int, int]) -> np.ndarray:
    """Logits, float32 (1, C, h, w), as (C, height, width)."""
    coarse = logits[0]
    for axis, length in ((2, size[1]), (1, size[0])):
        table = reference.axis_table(coarse.shape[axis], length, upsample)
        shape = [1, 1, 1]
        shape[axis] = length
        first, second = (np.take(coarse, index, axis) for index in (table.first, table.second))
        coarse = first * table.weight_first.reshape(shape) + second * table.weight_second.reshape(shape)
    return coarse
