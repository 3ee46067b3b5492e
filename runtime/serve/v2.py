"""The V2 inference protocol over HTTP, with binary tensors: requests and answers as bytes.

Source: KServe, open inference protocol V2 (required API, HTTP/REST); Triton, protocol/extension_binary_data.md.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import FrameError
from runtime.json_values import MOST_VALUES, told, values_from_json
from runtime.media.outputs import Seen
from runtime.serve.answers import class_values
from runtime.serve.asked import Asked, values_of
from runtime.serve.bodies import frame_from_pixels
from runtime.serve.replies import JSON, Refusal, Reply
from runtime.spec import EngineManifest, ModelSpec

SERVER = "street-segmentation"
VERSION = "1"  # of every model: which engine it is its sha256 tells
HEADER_LENGTH = "inference-header-content-length"
FRAME, MASK, CONFIDENCE = "frame", "mask", "confidence"
BINARY = "application/octet-stream"
MOST_JSON_PIXELS = 1 << 20  # of a mask as JSON numbers, whose text is four times as long
OWN = ("fit", "void_below")  # parameters of a request that are ours
TENSOR = "UINT8"


class Output(NamedTuple):
    """A tensor that is asked for, as bytes or as JSON numbers."""

    name: str
    binary: bool


class Inference(NamedTuple):
    """A request: the frame, uint8 (H, W, 3) RGB, what is asked for, and parameters as `values_of` gives them."""

    frame: np.ndarray
    outputs: tuple[Output, ...]
    values: dict[str, Any]
    id: str


def outputs_of(spec: ModelSpec) -> tuple[str, ...]:
    """The tensors that a network gives: no confidence where its graph names nothing but the class."""
    return (MASK,) if spec.upsample == "nearest" else (MASK, CONFIDENCE)


def server_metadata() -> dict[str, Any]:
    """What `GET /v2` answers."""
    from importlib import metadata

    try:
        version = metadata.version(SERVER)
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    return {"name": SERVER, "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str, manifest: EngineManifest) -> dict[str, Any]:
    """What `GET /v2/models/NAME` answers: the tensors, and in `parameters` what the masks mean."""
    outputs = [{"name": each, "datatype": TENSOR, "shape": [-1, -1]} for each in outputs_of(manifest.spec)]
    return {
        "name": name,
        "versions": [VERSION],
        "platform": manifest.backend,
        "inputs": [{"name": FRAME, "datatype": TENSOR, "shape": [-1, -1, 3]}],
        "outputs": outputs,
        "parameters": model_parameters(manifest),
    }


def model_parameters(manifest: EngineManifest) -> dict[str, Any]:
    """What the masks of an engine mean, and which engine it is, as JSON values."""
    spec = manifest.spec
    return {
        "network": spec.name,
        "precision": manifest.precision,
        "size": [spec.preprocess.height, spec.preprocess.width],
        "fit": spec.preprocess.fit,
        "classes": class_values(spec),
        "engine_sha256": manifest.engine_sha256,
        "weights_sha256": spec.weights_sha256,
    }


def inference_from_body(body: bytes, header_length: str | None, spec: ModelSpec) -> Inference:
    """A request to infer.

    Args:
        body: JSON, then the bytes of its binary tensors.
        header_length: the header of that name: how many bytes the JSON has; None: all of them.
        spec: of the network that is asked.

    Raises:
        Refusal: 400, it is none that this network takes.
        FrameError: the frame is of a size that is not taken.
    """
    length = _length(header_length, len(body))
    try:
        fields = values_from_json(body[:length])
    except ValueError as error:
        # Of so many bytes most are a frame's numbers.
        instead = f": send {FRAME} as binary data (binary_data_size)" if length > MOST_VALUES else ""
        raise _wrong(f"the JSON of the request: {error}{instead}") from None
    given = _dict(fields, "the request")
    parameters = _dict(given.get("parameters", {}), "parameters")
    tensor = _only_input(given.get("inputs"))
    frame = _frame(tensor, memoryview(body)[length:])
    binary = parameters.pop("binary_data_output", False) is True
    outputs = _outputs(given.get("outputs"), outputs_of(spec), binary)
    return Inference(frame, outputs, values_from_parameters(parameters), _id(given.get("id", "")))


def values_from_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that are ours, by their names.

    Raises:
        Refusal: 400, one is unknown or has no such value.
    """
    unknown = set(parameters) - set(OWN)
    if unknown:
        raise _wrong(f"the parameter {told(min(unknown))} is not known, there are {', '.join(OWN)}")
    return values_of({name: str(value) for name, value in parameters.items()})


def asked_of(values: Mapping[str, Any], outputs: Collection[str], spec: ModelSpec) -> Asked:
    """What a request asks of a network: its parameters, and a confidence where that is among the outputs' names.

    Raises:
        Refusal: 400, a confidence is asked of a network that has none.
    """
    asked = Asked(**values)
    if asked.void_below is None and CONFIDENCE in outputs:
        asked = replace(asked, void_below=0)
    refuse_confidence(spec, asked)
    return asked


def refuse_confidence(spec: ModelSpec, asked: Asked) -> None:
    """Hold a request to a network that may have no confidence.

    Raises:
        Refusal: 400, it has none, and one is asked for.
    """
    if asked.void_below is not None and CONFIDENCE not in outputs_of(spec):
        raise Refusal(400, "parameter", f"{spec.name} has no confidence: its graph gives class ids, no logits")


def reply_to(asked: Inference, model: str, seen: Seen) -> Reply:
    """The tensors that were asked for.

    Raises:
        Refusal: 400, a mask of so many pixels is asked as JSON numbers.
    """
    found = {MASK: seen.mask, CONFIDENCE: seen.confidence}
    planes = [(output, plane) for output in asked.outputs if (plane := found[output.name]) is not None]
    described = [_described(output, plane) for output, plane in planes]
    header = {"model_name": model, "model_version": VERSION, "outputs": described} | (
        {"id": asked.id} if asked.id else {}
    )
    text = json.dumps(header).encode()
    data = [plane.tobytes() for output, plane in planes if output.binary]
    if not data:
        return Reply(200, text, JSON)
    return Reply(200, b"".join([text, *data]), BINARY, {"Inference-Header-Content-Length": str(len(text))})


def _described(output: Output, plane: np.ndarray) -> dict[str, Any]:
    described = {"name": output.name, "datatype": TENSOR, "shape": list(plane.shape)}
    if output.binary:
        return described | {"parameters": {"binary_data_size": plane.size}}
    if plane.size > MOST_JSON_PIXELS:
        raise _wrong(
            f"{output.name} has {plane.size} values, as JSON at most {MOST_JSON_PIXELS}: ask it as binary_data"
        )
    return described | {"data": plane.reshape(-1).tolist()}


def _length(text: str | None, whole: int) -> int:
    if text is None:
        return whole
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= whole):
        raise _wrong(f"Inference-Header-Content-Length {told(text)} is no length within the {whole} bytes that came")
    return int(text)


def _only_input(inputs: Any) -> Mapping[str, Any]:
    if not (isinstance(inputs, list) and len(inputs) == 1):
        raise _wrong(f"inputs is {told(inputs)}, expected a list of one: {FRAME}")
    tensor = _dict(inputs[0], "the input")
    if tensor.get("name") != FRAME or tensor.get("datatype") != TENSOR:
        got = f"{told(tensor.get('name'))} of {told(tensor.get('datatype'))}"
        raise _wrong(f"the input is {got}, expected {FRAME!r} of {TENSOR!r}, [height, width, 3] RGB")
    return tensor


def _frame(tensor: Mapping[str, Any], binary: memoryview) -> np.ndarray:
    shape = tensor.get("shape")
    if not (isinstance(shape, list) and len(shape) == 3 and all(type(side) is int for side in shape) and shape[2] == 3):
        raise _wrong(f"the shape of {FRAME} is {told(shape)}, expected [height, width, 3]")
    size = _dict(tensor.get("parameters", {}), "the input's parameters").get("binary_data_size")
    if size is None:
        return frame_from_pixels(_bytes_of(tensor.get("data")), shape[0], shape[1])
    if size != len(binary):
        raise FrameError(f"binary_data_size is {told(size)}, {len(binary)} bytes follow the JSON")
    return frame_from_pixels(binary, shape[0], shape[1])


def _bytes_of(data: Any) -> bytes:
    # Flat or nested: the protocol has both. Of rows of several lengths NumPy makes no array of numbers.
    try:
        values = np.array(data if isinstance(data, list) else [])
    except ValueError:
        values = np.array([])
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0 or values.max() > 255:
        raise _wrong(f"the data of {FRAME} are missing, or not all of them whole numbers of 0 to 255")
    return values.astype(np.uint8).tobytes()


def _outputs(given: Any, known: Sequence[str], binary: bool) -> tuple[Output, ...]:
    if given is None or given == []:
        return tuple(Output(name, binary) for name in known)
    asked = [_dict(each, "an output") for each in given] if isinstance(given, list) else []
    names = [each.get("name") for each in asked]
    if not names or len(set(map(str, names))) < len(names) or not set(map(str, names)) <= set(known):
        raise _wrong(f"outputs are {told(names)}, expected some of {', '.join(known)}")
    parameters = (_dict(each.get("parameters", {}), "an output's parameters") for each in asked)
    forms = [each.get("binary_data", binary) is True for each in parameters]
    return tuple(Output(str(name), form) for name, form in zip(names, forms, strict=True))


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{what} is {told(value)}, expected an object")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise _wrong("the id is no text of at most 1000 letters")
    return value


def _wrong(message: str) -> Refusal:
    return Refusal(400, "v2", message)
