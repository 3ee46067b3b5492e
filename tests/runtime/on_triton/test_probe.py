"""The probe beside a server that speaks the V2 protocol, and others."""

import json
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import EngineError, PipelineError
from runtime.triton.command import main
from runtime.triton.golden import Golden, bytes_from_golden, golden_path, read_golden
from runtime.triton.places import ENGINE, versions
from runtime.triton.repository import add


@contextmanager
def serving(answer):
    """A server whose answer to a request's JSON and frame is a status and the bytes of a mask, or of anything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = int(self.headers["Inference-Header-Content-Length"])
            status, header, data = answer(self.path, json.loads(body[:length]), body[length:])
            text = json.dumps(header).encode()
            self.send_response(status)
            self.send_header("Inference-Header-Content-Length", str(len(text)))
            self.send_header("Content-Length", str(len(text) + len(data)))
            self.end_headers()
            self.wfile.write(text + data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def answered(mask, version="1"):
    shape = list(mask.shape)
    return 200, {"model_version": version, "outputs": [{"name": "mask", "shape": shape}]}, mask.tobytes()


def test_every_instance_is_asked_the_golden_frame(repository, capsys):
    golden = read_golden(repository / "street" / "1" / ENGINE)
    asked = []

    def answer(path, header, frame):
        asked.append((path, header["inputs"][0]["shape"], frame == golden.frame.tobytes()))
        return answered(golden.mask)

    with serving(answer) as url:
        assert main(["probe", "--repository", str(repository), "--url", url]) == 0
    assert asked == [("/v2/models/street/infer", list(golden.frame.shape), True)] * 2
    assert capsys.readouterr().out == "street version 1: the mask of the golden frame is right\n"


def test_one_wrong_or_failed_answer_of_several_is_enough(repository):
    golden = read_golden(repository / "street" / "1" / ENGINE)
    wrong = golden.mask.copy()
    wrong[-1, -1] ^= 1
    failed = 500, {"error": "Stub process 'street_0_0' is not healthy."}, b""
    cases = (
        (answered(wrong), "1 of .* pixels differ"),
        (failed, "500 .*not healthy"),
        (answered(golden.mask, "3"), "version 3 answered"),
        ((200, {}, b""), "holds no mask"),
    )
    for bad, said in cases:
        answers = [answered(golden.mask), bad]
        with serving(lambda *_, left=answers: left.pop()) as url, pytest.raises(PipelineError, match=said) as caught:
            main(["probe", "--repository", str(repository), "--url", url])
        assert "\n" not in str(caught.value)


def spoil(path):
    path.write_bytes(b"x")


@pytest.mark.parametrize("spoilt_by", [Path.unlink, spoil])
@pytest.mark.parametrize(("spoilt", "served"), [(1, 2), (2, 1)])
def test_a_golden_frame_is_needed_of_the_version_that_answers_alone(
    repository, engines, capsys, spoilt_by, spoilt, served
):
    # Also where the configuration names the spoilt one already, and the server has refused to load it.
    add(repository, "street", engines[1], 1)
    there = versions(repository / "street")
    mask = read_golden(there[served]).mask
    spoilt_by(golden_path(there[spoilt]))
    with serving(lambda *_: answered(mask, str(served))) as url:
        assert main(["probe", "--repository", str(repository), "--url", url]) == 0
    assert capsys.readouterr().out == f"street version {served}: the mask of the golden frame is right\n"
    with serving(lambda *_: answered(mask, str(spoilt))) as url, pytest.raises(EngineError, match=r"missing|damaged"):
        main(["probe", "--repository", str(repository), "--url", url])


def test_a_version_is_held_to_the_frame_of_its_own(repository, engines):
    add(repository, "street", engines[1], 1)
    there = versions(repository / "street")
    golden = read_golden(there[1])
    own = Golden(golden.frame ^ 1, golden.mask)
    golden_path(there[1]).write_bytes(bytes_from_golden(own))
    for served in (1, 2):
        held = read_golden(there[served])

        def answer(path, header, frame, served=served, held=held):
            return answered(held.mask if frame == held.frame.tobytes() else held.mask ^ 1, str(served))

        with serving(answer) as url:
            assert main(["probe", "--repository", str(repository), "--url", url]) == 0


def test_a_model_without_a_version_is_one_line(repository):
    shutil.rmtree(repository / "street" / "1")
    with pytest.raises(EngineError, match=r"street has no version$"):
        main(["probe", "--repository", str(repository)])


def test_no_server_is_one_line(repository):
    with serving(lambda *_: answered(np.zeros((2, 2), np.uint8))) as url:
        pass
    with pytest.raises(PipelineError, match=r"^127\.0\.0\.1:\d+, model street: no answer"):
        main(["probe", "--repository", str(repository), "--url", url])
    for bad in ("ftp://x", "http://", "http://x:99999"):
        with pytest.raises(PipelineError, match="no address of a server"):
            main(["probe", "--repository", str(repository), "--url", bad])
