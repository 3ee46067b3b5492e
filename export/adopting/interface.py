"""Which of a file's inputs takes a frame, and which of its outputs segments it."""

from collections.abc import Mapping

import numpy as np
import onnx

from export.adopting.editing import shown
from export.adopting.endings import channels_of
from export.adopting.source import Source
from export.adopting.untouched import TYPES, Input
from runtime.errors import GraphError

COLOURS = 3
USUAL_SIZE = (1024, 2048)


def input_of(source: Source, size: tuple[int, int] | None) -> Input:
    """The file's one input, as a frame.

    Args:
        source: the file.
        size: (height, width) for axes that are free; None: `USUAL_SIZE`.

    Raises:
        GraphError: there are several, or it takes no picture of three colours.
    """
    graph = source.model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise GraphError(f"{source.path} has {len(inputs)} inputs ({names}), expected one, a frame: export it with one")
    tensor = inputs[0].type.tensor_type
    lengths = tuple(int(length.dim_value) for length in tensor.shape.dim)
    layout = _layout(lengths)
    if layout is None or tensor.elem_type not in TYPES or lengths[0] not in (0, 1):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise GraphError(
            f"the input {inputs[0].name} of {source.path} is {kind} {shown(lengths)}, expected one picture of three "
            "colours: 1x3xHEIGHTxWIDTH or 1xHEIGHTxWIDTHx3"
        )
    height, width = lengths[2:] if layout == "NCHW" else lengths[1:3]
    free = size or USUAL_SIZE
    return Input(inputs[0].name, layout, tensor.elem_type, (height or free[0], width or free[1]))


def refuse_other_size(
    source: Source, given: Input, asked: tuple[int, int] | None, said: tuple[int, int] | None
) -> None:
    """Hold the size that a file is exported for to the one that was asked.

    Raises:
        GraphError: it is another.
    """
    wanted = asked or said
    if wanted and wanted != given.size:
        raise GraphError(
            f"{source.path} is for frames of {shown(given.size)}, asked was {shown(wanted)}: export it at that size or "
            f"with free axes, or take --size {shown(given.size)}"
        )


def output_of(
    source: Source, results: Mapping[str, np.ndarray], size: tuple[int, int], asked: str | None, classes: int
) -> tuple[str, list[str]]:
    """The output that segments, and the other ones.

    Args:
        source: the file.
        results: its outputs for a frame.
        size: of its input.
        asked: by the user.
        classes: how many the user named; 0: none.

    Raises:
        GraphError: none could be it, or several, or the one that was asked is none.
    """
    if asked is not None and asked not in results:
        raise GraphError(f"{source.path} has no output {asked}; it has {', '.join(results)}")
    able = [name for name, values in results.items() if _segments(values, size)]
    if asked is None and len(able) > 1 and classes:
        able = [name for name in able if _count(results[name], size) == classes] or able
    if not able or (asked is not None and asked not in able):
        told = ", ".join(f"{name} {shown(values.shape)}" for name, values in results.items())
        raise GraphError(
            f"no output of {source.path} is a map of classes for frames of {shown(size)} ({told}): detection and "
            "classification are not taken, nor sizes that are baked in"
        )
    if asked is None and len(able) > 1:
        told = ", ".join(f"{name} {shown(results[name].shape)}" for name in able)
        raise GraphError(f"several outputs of {source.path} could segment ({told}): name one with --output")
    chosen = asked or able[0]
    if asked is None:
        _refuse_prototypes(source, results, chosen)
    return chosen, [name for name in results if name != chosen]


def _refuse_prototypes(source: Source, results: Mapping[str, np.ndarray], chosen: str) -> None:
    # Instance segmentation: a list of detections, and maps that each of them weighs. Those maps are no classes.
    for name, values in results.items():
        if name != chosen and values.dtype.kind == "f" and values.ndim == 3 and min(values.shape[1:]) > 1:
            raise GraphError(
                f"{source.path} gives {name} {shown(values.shape)} beside {chosen} {shown(results[chosen].shape)}: a "
                f"list, as of detections whose masks are made of prototypes; those are not taken. Where {chosen} is a "
                f"map of classes, say so: --output {chosen}"
            )


def _layout(lengths: tuple[int, ...]) -> str | None:
    if len(lengths) != 4:
        return None
    if lengths[1] == COLOURS or (lengths[1] == 0 and lengths[3] != COLOURS):
        return "NCHW"
    return "NHWC" if lengths[3] == COLOURS else None


def _segments(values: np.ndarray, size: tuple[int, int]) -> bool:
    if values.dtype.kind not in "iubf":
        return False
    if values.dtype.kind != "f":
        values = values.reshape([length for length in values.shape if length != 1] or [1])
        return values.ndim == 2 and channels_of(values.shape, size) is not None
    return channels_of(values.shape, size) is not None


def _count(values: np.ndarray, size: tuple[int, int]) -> int:
    axis = channels_of(values.shape, size)
    if values.dtype.kind != "f" or not axis:
        return 0
    channels = values.shape[axis if values.ndim == 4 else 0]
    return 2 if channels == 1 else channels
