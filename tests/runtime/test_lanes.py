"""Several ways through one engine."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import runtime
from runtime.backends import openvino, tensorrt
from runtime.errors import EngineError, FrameError
from runtime.lanes import Lanes
from tests.helpers import fake_backend, imitated_gpu
from tests.helpers.engines import built_engine
from tests.helpers.fake_backend import SPEC, FakeBackend, write_fake_engine
from tests.helpers.pictures import gradient

THREADS = 4


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


class Alone(FakeBackend):
    """Fails when two threads are in it."""

    def __init__(self, spec):
        super().__init__(spec, delay_s=0.002)
        self._inside = threading.Lock()

    def segment(self, frame, out=None):
        assert self._inside.acquire(blocking=False), "two threads in one backend"
        try:
            return super().segment(frame, out)
        finally:
            self._inside.release()


def test_no_backend_is_given_to_two_threads_and_all_of_them_work():
    backends = [Alone(SPEC), Alone(SPEC)]
    with Lanes(backends) as lanes, ThreadPoolExecutor(THREADS) as pool:
        masks = list(pool.map(lanes.segment, [gradient()] * 40))
    assert all(np.array_equal(mask, fake_backend.expected_mask(gradient())) for mask in masks)
    assert sum(backend.segmented for backend in backends) == 40 and min(backend.segmented for backend in backends) > 0
    assert all(backend.closed for backend in backends)


def test_a_lane_is_back_after_an_error():
    with Lanes([FakeBackend(SPEC)]) as lanes:
        for _ in range(3):
            with pytest.raises(FrameError):
                lanes.segment(np.zeros((4, 4), np.uint8))
        assert lanes.segment(gradient()).shape == gradient().shape[:2]


def test_close_waits_for_a_lane_in_use_and_may_be_called_twice():
    lanes = Lanes([FakeBackend(SPEC)])
    with lanes.lane() as backend:
        closing = threading.Thread(target=lanes.close)
        closing.start()
        closing.join(0.05)
        assert closing.is_alive() and not backend.closed
    closing.join()
    assert backend.closed
    lanes.close()
    with pytest.raises(ValueError, match="closed"):
        lanes.segment(gradient())


def test_a_thread_that_waits_for_a_lane_while_it_closes_is_refused():
    lanes, refused = Lanes([FakeBackend(SPEC)]), []

    def wait():
        with pytest.raises(ValueError, match="closed"):
            lanes.segment(gradient())
        refused.append(True)

    with lanes.lane():
        threads = [threading.Thread(target=target, daemon=True) for target in (wait, wait, lanes.close)]
        for thread in threads:
            thread.start()
        for thread in threads[:2]:
            thread.join(5)
        assert len(refused) == 2 and threads[2].is_alive()
    threads[2].join(5)
    assert not threads[2].is_alive()


def test_every_lane_is_closed_once_though_one_fails():
    backends, closed = [FakeBackend(SPEC) for _ in range(3)], []

    def fail():
        closed.append(1)
        raise RuntimeError("lost")

    for i, close in enumerate((lambda: closed.append(0), fail, lambda: closed.append(2))):
        backends[i].close = close
    lanes = Lanes(backends)
    with pytest.raises(RuntimeError, match="lost"):
        lanes.close()
    lanes.close()
    assert sorted(closed) == [0, 1, 2]


class Asking(FakeBackend):
    """Notes of each frame whether it was alone."""

    def __init__(self, spec):
        super().__init__(spec)
        self.alone = []

    def ask(self, alone):
        self._is_alone = alone

    def segment(self, frame, out=None):
        self.alone.append(self._is_alone())
        return super().segment(frame, out)


def test_a_frame_is_alone_while_no_other_thread_has_a_lane_nor_had_one_when_the_frame_before_began():
    first, second = Asking(SPEC), Asking(SPEC)
    with Lanes([first, second]) as lanes:
        with lanes.lane() as held, ThreadPoolExecutor(1) as pool:
            other = first if held is second else second
            held.segment(gradient())
            pool.submit(lanes.segment, gradient()).result()
            held.segment(gradient())
            held.segment(gradient())
        assert (held.alone, other.alone) == ([True, False, True], [False])


def test_a_frame_is_not_alone_while_another_waits_for_its_lane():
    backend = Asking(SPEC)
    with Lanes([backend]) as lanes:
        with lanes.lane():
            waiting = threading.Thread(target=lanes.segment, args=(gradient(),))
            waiting.start()
            while not lanes._waiting:
                waiting.join(0.001)
            backend.segment(gradient())
        waiting.join()
        lanes.segment(gradient())
    assert backend.alone == [False, False, True]


def test_a_warm_up_goes_both_ways_of_a_backend_that_has_two():
    backends = [Asking(SPEC), Asking(SPEC)]
    with Lanes(backends) as lanes:
        lanes.warm_up(gradient(), 2)
    assert [backend.alone for backend in backends] == [[False, False], [False, False, True, True]]


def spied(request, calls, name):
    class Spy:
        def __getattr__(self, what):
            if what == "infer":
                calls.append(name)
            return getattr(request, what)

    return Spy()


def test_a_lone_frame_of_openvino_has_all_cores_and_the_same_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "count", lambda: 2)
    frame, calls = np.random.default_rng(1).integers(0, 256, (33, 50, 3), np.uint8), []
    with runtime.open_lanes(built_engine(tmp_path), 2) as lanes:
        for backend in lanes._backends:
            backend._alone = spied(backend._alone, calls, "all cores")
            backend._request = spied(backend._request, calls, "its share")
        alone = lanes.segment(frame)
        with lanes.lane(), ThreadPoolExecutor(1) as pool:
            shared = pool.submit(lanes.segment, frame).result()
    assert calls == ["all cores", "its share"]
    np.testing.assert_array_equal(alone, shared)


@pytest.mark.parametrize(("lanes", "cores", "lone"), [(1, 2, True), (2, 1, True), (2, 2, False)])
def test_openvino_compiles_once_where_a_lone_frame_gains_nothing(tmp_path, monkeypatch, lanes, cores, lone):
    monkeypatch.setattr(openvino, "count", lambda: cores)
    with runtime.open_lanes(built_engine(tmp_path), lanes, lone=lone) as opened:
        assert all(backend._alone is None for backend in opened._backends)


def test_a_backend_that_does_best_with_several_lanes_says_so(here, monkeypatch):
    monkeypatch.setattr("tests.helpers.fake_backend.LANES", 2, raising=False)
    with runtime.open_lanes(here / "artifacts/engines/icnet-fp16.engine") as lanes:
        assert lanes.count == 2 == tensorrt.LANES


def test_a_backend_that_shares_nothing_is_opened_once_a_lane(here):
    with runtime.open_lanes(here / "artifacts/engines/icnet-fp16.engine", 3) as lanes:
        assert lanes.count == 3 == len(fake_backend.opened) and lanes.spec == SPEC
        lanes.warm_up(gradient(), 2)
        assert [backend.segmented for backend in fake_backend.opened] == [2, 2, 2]
    assert all(backend.closed for backend in fake_backend.opened)


def test_lanes_that_were_opened_are_closed_when_one_fails(here, monkeypatch):
    path = write_fake_engine(here / "engines")

    def second_fails(engine, manifest):
        if fake_backend.opened:
            raise EngineError("out of memory")
        fake_backend.opened.append(FakeBackend(manifest.spec))
        return fake_backend.opened[0]

    monkeypatch.setattr(fake_backend, "open_engine", second_fails)
    with pytest.raises(EngineError, match="out of memory"):
        runtime.open_lanes(path, 2)
    assert fake_backend.opened[0].closed


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_lanes_give_the_masks_of_one_backend_from_all_threads(tmp_path, backend):
    path = built_engine(tmp_path, backend=backend)
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (20 + i % 3, 30 + i % 5, 3), dtype=np.uint8) for i in range(24)]
    with runtime.open_backend(path) as alone:
        expected = [alone.segment(frame) for frame in frames]
    with runtime.open_lanes(path, 2) as lanes, ThreadPoolExecutor(THREADS) as pool:
        for mask, wanted in zip(pool.map(lanes.segment, frames), expected, strict=True):
            np.testing.assert_array_equal(mask, wanted)


def test_by_default_there_are_as_many_lanes_as_the_backend_likes(tmp_path, here):
    with runtime.open_lanes(here / "artifacts/engines/icnet-fp16.engine") as lanes:
        assert lanes.count == 1


def test_openvino_likes_two(tmp_path):
    with runtime.open_lanes(built_engine(tmp_path)) as lanes:
        assert lanes.count == openvino.LANES == 2


def test_two_lanes_of_tensorrt_share_nothing(imitated):
    gpu = imitated()
    images = [imitated_gpu.frame(20 + i % 3, 30 + i % 2, i) for i in range(24)]
    opened = [gpu.open() for _ in range(2)]
    with Lanes(opened) as lanes, ThreadPoolExecutor(THREADS) as pool:
        for image, mask in zip(images, pool.map(lanes.segment, images), strict=True):
            np.testing.assert_array_equal(mask, imitated_gpu.expected("fp16", 1, image)[1])


RACE = """
import sys, threading
from runtime.kernels.cpu import compiled_loops
sys.setswitchinterval(1e-6)
wait, found = threading.Barrier(8), []
def ask():
    wait.wait()
    found.append(compiled_loops())
threads = [threading.Thread(target=ask) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 8 and len(set(found)) == 1
"""


def test_the_loops_are_compiled_once_however_many_lanes_ask_for_them_first():
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
