import dataclasses
import json

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media.outputs import Seen
from runtime.serve.replies import Refusal
from runtime.serve.v2 import Output, inference_from_body, outputs_of, reply_to
from tests.helpers.fake_backend import SPEC

FRAME = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
MASK, CONFIDENCE = FRAME[..., 0] % 11, FRAME[..., 1]


def request(frame=FRAME, binary=True, outputs=None, **fields):
    """Body, and the header that tells its JSON from its tensors."""
    tensor = {"name": "frame", "datatype": "UINT8", "shape": list(frame.shape)}
    tensor |= {"parameters": {"binary_data_size": frame.size}} if binary else {"data": frame.reshape(-1).tolist()}
    text = json.dumps({"inputs": [tensor]} | ({} if outputs is None else {"outputs": outputs}) | fields).encode()
    return (text + frame.tobytes(), str(len(text))) if binary else (text, None)


@pytest.mark.parametrize("binary", [True, False])
def test_a_frame_comes_as_bytes_or_as_numbers(binary):
    found = inference_from_body(*request(binary=binary, id="7"), SPEC)
    assert np.array_equal(found.frame, FRAME) and found.id == "7"


def test_nested_numbers_are_a_frame_too():
    text = json.dumps(
        {"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [16, 20, 3], "data": FRAME.tolist()}]}
    )
    assert np.array_equal(inference_from_body(text.encode(), None, SPEC).frame, FRAME)


def test_without_outputs_all_are_given_as_numbers_unless_bytes_are_asked_for():
    assert inference_from_body(*request(), SPEC).outputs == (Output("mask", False), Output("confidence", False))
    found = inference_from_body(*request(parameters={"binary_data_output": True}), SPEC)
    assert found.outputs == (Output("mask", True), Output("confidence", True))
    ids = dataclasses.replace(SPEC, upsample="nearest")
    assert outputs_of(ids) == ("mask",)


def test_our_parameters_are_those_of_a_request():
    found = inference_from_body(*request(parameters={"fit": "pad", "void_below": 85}), SPEC)
    assert found.values == {"fit": "pad", "void_below": 85}


def test_tensors_come_back_as_bytes_behind_the_json_whose_length_is_told():
    asked = inference_from_body(
        *request(outputs=[{"name": "confidence", "parameters": {"binary_data": True}}, {"name": "mask"}], id="a"), SPEC
    )
    reply = reply_to(asked, "street", Seen(MASK, CONFIDENCE))
    length = int(reply.headers["Inference-Header-Content-Length"])
    header = json.loads(reply.body[:length])
    assert (header["model_name"], header["model_version"], header["id"]) == ("street", "1", "a")
    first, second = header["outputs"]
    assert first == {
        "name": "confidence", "datatype": "UINT8", "shape": [16, 20], "parameters": {"binary_data_size": 320},
    }  # fmt: skip
    assert reply.body[length:] == CONFIDENCE.tobytes()
    assert np.array_equal(np.array(second["data"]).reshape(16, 20), MASK)


def test_an_answer_without_bytes_is_json_alone():
    reply = reply_to(inference_from_body(*request(outputs=[{"name": "mask"}]), SPEC), "street", Seen(MASK))
    assert reply.kind == "application/json" and not reply.headers
    assert json.loads(reply.body)["outputs"][0]["data"] == MASK.reshape(-1).tolist()


def test_a_large_mask_is_not_written_as_numbers():
    asked = inference_from_body(*request(outputs=[{"name": "mask"}]), SPEC)
    with pytest.raises(Refusal, match="binary_data"):
        reply_to(asked, "street", Seen(np.zeros((1100, 1000), np.uint8)))


def test_a_large_frame_comes_as_bytes_and_not_as_numbers():
    side = 577
    frame = np.zeros((side, side, 3), np.uint8)
    assert inference_from_body(*request(frame, binary=False), SPEC).frame.shape == frame.shape
    frame = np.zeros((side, side + 1, 3), np.uint8)
    assert inference_from_body(*request(frame), SPEC).frame.shape == frame.shape
    for body in (request(frame, binary=False)[0], b"[" + b"0," * (9 << 20)):
        with pytest.raises(Refusal, match="send frame as binary data") as caught:
            inference_from_body(body, None, SPEC)
        assert caught.value.status == 400 and len(str(caught.value)) < 200


WRONG_FIELDS = [
    ({"inputs": []}, "list of one"),
    ({"inputs": [{"name": "image", "datatype": "UINT8"}]}, "'frame' of 'UINT8'"),
    ({"inputs": [{"name": "frame", "datatype": "FP32"}]}, "'frame' of 'UINT8'"),
    ({"inputs": ["x"]}, "expected an object"),
    ({"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [1, 16, 20, 3]}]}, "height, width, 3"),
    ({"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [True, 20, 3]}]}, "height, width, 3"),
    ({"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [16, 20, 3], "data": [256]}]}, "0 to 255"),
    (
        {"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [16, 20, 3], "data": [[1], [1, 2]]}]},
        "whole numbers",
    ),
    ({"inputs": [{"name": "frame", "datatype": "UINT8", "shape": [16, 20, 3], "data": "abc"}]}, "missing"),
    ({"outputs": [{"name": "logits"}]}, "expected some of mask, confidence"),
    ({"outputs": [{"name": "mask"}, {"name": "mask"}]}, "expected some of"),
    ({"outputs": "mask"}, "expected some of"),
    ({"parameters": {"sequence_id": 1}}, "not known"),
    ({"parameters": {"fit": "squeeze"}}, "stretch, pad, auto"),
    ({"parameters": []}, "expected an object"),
    ({"id": 7}, "no text"),
]


@pytest.mark.parametrize(("fields", "said"), WRONG_FIELDS)
def test_what_is_no_request_is_one_line(fields, said):
    with pytest.raises(Refusal, match=said) as caught:
        inference_from_body(*request(**fields), SPEC)
    assert caught.value.status == 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize("length", ["-1", "x", "", "99999999", "1e3"])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(Refusal, match="no length within"):
        inference_from_body(request()[0], length, SPEC)


def test_bytes_of_another_number_than_was_said_are_no_frame():
    body, length = request()
    for wrong in (body + b"x", body[:-1]):
        with pytest.raises(FrameError, match="bytes follow"):
            inference_from_body(wrong, length, SPEC)
    with pytest.raises(Refusal, match="JSON"):
        inference_from_body(body, None, SPEC)
