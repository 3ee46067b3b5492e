"""Triton itself over a model repository of ours, asked by tritonclient over HTTP and gRPC."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest

from runtime.backend import open_backend
from runtime.errors import PipelineError
from runtime.media.frames import read_frame
from runtime.samples import STREET
from runtime.triton.command import main
from runtime.triton.golden import Golden, bytes_from_golden, golden_path, read_golden
from runtime.triton.places import ENGINE
from runtime.triton.repository import add, serve
from tests.helpers.tritonserver import triton

pytestmark = pytest.mark.triton
EXPLICIT = ("--model-control-mode", "explicit", "--load-model", "street")
WAYS = ("http", "grpc")
FRAME = read_frame(STREET)[:128, :256].copy()
SETTLED_S = 60.0


class Client:
    """One of tritonclient's, over HTTP or gRPC."""

    def __init__(self, running, way):
        self._own = import_module(f"tritonclient.{way}")
        self._client = self._own.InferenceServerClient(f"127.0.0.1:{running.port if way == 'http' else running.grpc}")

    def infer(self, frame, *outputs, **parameters):
        """The answer; `as_numpy` gives its tensors."""
        tensor = self._own.InferInput("frame", list(frame.shape), "UINT8" if frame.dtype == np.uint8 else "FP32")
        tensor.set_data_from_numpy(frame)
        asked = [self._own.InferRequestedOutput(name) for name in outputs] or None
        return self._client.infer("street", [tensor], outputs=asked, parameters=parameters or None)

    def refusal(self, frame, *outputs, **parameters):
        """The one line why it is not served, with its code."""
        error = import_module("tritonclient.utils").InferenceServerException
        with pytest.raises(error) as caught:
            self.infer(frame, *outputs, **parameters)
        return str(caught.value)


def version_of(answer):
    response = answer.get_response()
    return int(response["model_version"] if isinstance(response, dict) else response.model_version)


@pytest.fixture(scope="module")
def running(written, tmp_path_factory):
    with triton(written, tmp_path_factory.mktemp("triton"), *EXPLICIT) as found:
        yield found


@pytest.fixture(params=WAYS)
def client(running, request):
    return Client(running, request.param)


def test_masks_and_confidences_are_those_of_segment(client, engines):
    for frame in (read_frame(STREET), FRAME, np.ascontiguousarray(FRAME[:33, :47])):
        with open_backend(engines[0]) as alone:
            mask, confidence = alone.confidence(frame)
            assert np.array_equal(mask, alone.segment(frame))
        answer = client.infer(frame)
        assert np.array_equal(answer.as_numpy("mask"), mask)
        assert np.array_equal(answer.as_numpy("confidence"), confidence)
        only = client.infer(frame, "mask")
        assert np.array_equal(only.as_numpy("mask"), mask) and only.as_numpy("confidence") is None


def test_the_parameters_of_a_request_are_those_of_our_server(client, engines):
    wide = np.ascontiguousarray(FRAME[:60])
    for fit in ("stretch", "pad", "auto"):
        with open_backend(engines[0], fit=fit) as alone:
            assert np.array_equal(client.infer(wide, "mask", fit=fit).as_numpy("mask"), alone.segment(wide))
    with open_backend(engines[0]) as alone:
        mask, confidence = alone.confidence(FRAME)
    found = client.infer(FRAME, "mask", void_below=60).as_numpy("mask")
    assert np.array_equal(found, np.where(confidence < 60, 255, mask)) and (found == 255).any()


@pytest.mark.parametrize(
    ("frame", "parameters", "said"),
    [
        (np.zeros((4, 64, 3), np.uint8), {}, "frame is 4x64 pixels, too small"),
        (np.zeros((0, 0, 3), np.uint8), {}, "frame is 0x0 pixels, too small"),
        (np.zeros((64, 64, 4), np.uint8), {}, "Expected [-1,-1,3], got [64,64,4]"),
        (np.zeros((64, 64, 3), np.float32), {}, "'FP32', but model 'street' expects 'UINT8'"),
        (FRAME, {"fit": "squeeze"}, "fit: 'squeeze' is none of stretch, pad, auto"),
        (FRAME, {"void_below": 256}, "void_below: '256' is not a confidence, 0 to 255"),
        (FRAME, {"alpha": 1}, "the parameter 'alpha' is not known"),
    ],
)
def test_a_bad_request_is_one_line_and_the_next_is_answered(client, frame, parameters, said):
    found = client.refusal(frame, **parameters)
    assert said in found and "\n" not in found.strip() and ("[400]" in found or "INVALID_ARGUMENT" in found)
    assert client.infer(FRAME, "mask").as_numpy("mask").shape == FRAME.shape[:2]


def test_many_at_once_get_each_their_own_mask(running, engines):
    frames = [np.ascontiguousarray(FRAME[i : i + 64, 3 * i : 3 * i + 100]) for i in range(24)]
    with open_backend(engines[0]) as alone:
        masks = [alone.segment(frame) for frame in frames]

    def several(way):
        own = Client(running, way)
        return [own.infer(frame, "mask").as_numpy("mask") for frame in frames]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(several, WAYS * 2):
            assert all(np.array_equal(own, mask) for own, mask in zip(found, masks, strict=True))


def test_it_complains_of_nothing(running):
    assert "Traceback" not in running.log.read_text()


class Load:
    """Clients of both kinds that ask until they are told to stop: versions by which they were answered, and faults."""

    def __init__(self, running, masks):
        self.seen, self.faults, self._masks = [], [], masks
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(running, way)) for way in (*WAYS, *WAYS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, version):
        """Wait until the answers are of that version, and of no other one any more."""
        until = time.monotonic() + SETTLED_S
        while set(self.seen[-8:]) != {version}:
            assert time.monotonic() < until and not self.faults, (self.seen[-8:], self.faults)
            time.sleep(0.1)

    def _ask(self, running, way):
        own = Client(running, way)
        while not self._stop.is_set():
            try:
                answer = own.infer(FRAME, "mask")
            except Exception as error:
                self.faults.append(str(error))
                return
            version = version_of(answer)
            if not np.array_equal(answer.as_numpy("mask"), self._masks[version]):
                self.faults.append(f"a mask of version {version} is wrong")
            self.seen.append(version)


def test_versions_take_each_others_place_under_load_and_a_damaged_one_none(repository, engines, tmp_path):
    masks = {}
    for version, engine in enumerate(engines, 1):
        with open_backend(engine) as alone:
            masks[version] = alone.segment(FRAME)
    assert not np.array_equal(*masks.values())
    model = repository / "street"
    with triton(repository, tmp_path, *EXPLICIT) as running, Load(running, masks) as load:
        load.until(1)
        add(repository, "street", engines[1], None)
        assert running.load("street").status == 200
        load.until(2)
        serve(model, 1, None)
        assert running.load("street").status == 200
        load.until(1)

        add(repository, "street", engines[1], None)
        engine = model / "2" / ENGINE
        whole, golden = engine.read_bytes(), read_golden(engine)
        engine.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        refused = running.load("street")
        assert refused.status == 400 and "is damaged or edited" in refused.values["error"]
        load.until(1)
        engine.write_bytes(whole)
        golden_path(engine).write_bytes(bytes_from_golden(Golden(golden.frame, golden.mask ^ 1)))
        refused = running.load("street")
        assert refused.status == 400 and "another mask of the golden frame" in refused.values["error"]
        load.until(1)
    assert load.faults == [] and {1, 2} == set(load.seen) and len(load.seen) > 50


def test_a_killed_process_is_seen_by_the_probe_and_not_by_readiness(repository, tmp_path, capsys):
    with triton(repository, tmp_path, *EXPLICIT) as running:
        probe = ["probe", "--repository", str(repository), "--url", f"http://127.0.0.1:{running.port}"]
        assert main(probe) == 0
        processes = running.processes()
        assert len(processes) == 2
        os.kill(processes[0], signal.SIGKILL)
        with pytest.raises(PipelineError, match=r"500 .*not healthy"):
            main(probe)
        assert running.ready() and running.ask("GET", "/v2/models/street/ready").status == 200
        assert running.processes() == processes[1:]
    capsys.readouterr()
