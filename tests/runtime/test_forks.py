"""Engines, lanes and runs of frames in processes that are forked, and by threads that do not wait for each other."""

import multiprocessing
import subprocess
import sys
import threading
import time
import timeit
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runtime import forks
from runtime.backend import open_backend
from runtime.errors import EngineError
from runtime.forks import Guard
from runtime.kernels import bands
from runtime.lanes import Lanes, open_lanes
from runtime.media.camera import Camera
from runtime.media.pipeline import Clock, Stage, overlapped
from runtime.media.video import VideoReader
from tests.helpers import imitated_gpu, videos
from tests.helpers.children import in_child
from tests.helpers.engines import built_engine

BACKENDS = ("openvino", "onnxruntime")
REFUSED = r"^{} was opened by process \d+, and \d+ was forked from it, without its threads: open one of its own here$"


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    return {backend: built_engine(folder, backend=backend) for backend in BACKENDS}


def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in ((32, 64), (40, 90), (65, 33))]


def masks(path):
    with open_backend(path) as engine:
        return [engine.segment(frame) for frame in frames()]


@pytest.mark.parametrize("used", ["open", "closed", "never"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_opens_an_engine_of_its_own(engines, backend, used):
    expected = masks(engines[backend])
    if used == "never":
        bands._helpers.cache_clear()
    if used == "open":
        with open_backend(engines[backend]) as parents:
            assert np.array_equal(parents.segment(frames()[0]), expected[0])
            found = in_child(lambda: masks(engines[backend]))
            assert np.array_equal(parents.segment(frames()[1]), expected[1])
    else:
        found = in_child(lambda: masks(engines[backend]))
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_open_engine_is_refused_in_a_forked_child_and_goes_on_in_its_parent(engines, backend):
    frame, colors = frames()[0], np.zeros((256, 3), np.uint8)
    with open_backend(engines[backend]) as engine:
        expected = engine.segment(frame)
        for call in (engine.segment, engine.logits, lambda it: engine.overlay(it, colors, 0.5)):
            with pytest.raises(EngineError, match=REFUSED.format("the engine of icnet")):
                in_child(lambda call=call: call(frame))
        assert in_child(engine.close) is None  # it is not the child's to free
        assert np.array_equal(engine.segment(frame), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_open_lanes_are_refused_in_a_forked_child_and_go_on_in_their_parent(engines, backend):
    frame = frames()[0]
    with open_lanes(engines[backend], 2) as lanes:
        expected = lanes.segment(frame)
        for call in (lanes.segment, lambda it: lanes.warm_up(it, 1)):
            with pytest.raises(EngineError, match=REFUSED.format("this engine")):
                in_child(lambda call=call: call(frame))
        with lanes.lane():  # in use by a thread that the child does not have
            assert in_child(lanes.close) is None
        assert np.array_equal(lanes.segment(frame), expected)


def test_a_child_of_a_child_opens_its_own_too(engines):
    expected = masks(engines["openvino"])
    found = in_child(lambda: (masks(engines["openvino"]), in_child(lambda: masks(engines["openvino"]))))
    assert all(map(np.array_equal, found[1], expected))


def test_the_workers_of_a_pool_open_their_own(engines):
    expected = masks(engines["openvino"])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for found in pool.map_async(masks, [engines["openvino"]] * 4).get(20):
            assert all(map(np.array_equal, found, expected))


def test_a_run_of_frames_is_refused_in_a_forked_child():
    flow = overlapped(range(100), [Stage("double", lambda item: item * 2)], Clock())
    assert next(flow).value == 0
    with pytest.raises(EngineError, match=REFUSED.format("this run of frames")):
        in_child(lambda: [next(flow) for _ in range(9)])
    assert next(flow).value == 2
    flow.close()


def test_a_video_and_a_camera_are_refused_in_a_forked_child(tmp_path):
    class Capture:
        def read(self):
            time.sleep(0.01)
            return True, np.zeros((4, 6, 3), np.uint8)

        def release(self):
            pass

    path = tmp_path / "a.mp4"
    videos.write_video(path, videos.moving(3))
    with VideoReader(path) as video, Camera("camera:0", opened=lambda _: Capture()) as camera:
        camera.read()
        with pytest.raises(EngineError, match=REFUSED.format(".*a.mp4")):
            in_child(video.read)
        with pytest.raises(EngineError, match=REFUSED.format("camera:0")):
            in_child(camera.read)
        assert in_child(lambda: (video.close(), camera.close())) == (None, None)
        assert video.read().pixels.ndim == camera.read().pixels.ndim == 3


ENDS = """
import os, sys
from runtime.backend import open_backend
from tests.helpers.children import ended
import numpy as np
frame, (one, closed) = np.zeros((9, 9, 3), np.uint8), sys.argv[1:]
parents = open_backend(one)
for engine in (parents, open_backend(closed)):
    engine.segment(frame)
engine.close()
pid = os.fork()
if pid == 0:
    children = [open_backend(path) for path in (one, closed)]
    for child in children:
        child.segment(frame)
    children[0].close()
    print("said at the end")
    sys.exit(3)
assert ended(pid) == 3
parents.segment(frame)
parents.close()
"""


@pytest.mark.parametrize("order", [1, -1], ids=["openvino is open", "onnxruntime is open"])
def test_a_forked_child_that_ends_by_itself_ends_with_its_own_code(engines, order):
    # In a process of its own, two seconds: the libraries' destructors run at its end, and one that hangs is to be seen.
    # Python 3.12 and later warn of every fork beside threads, which is what this is about.
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        ENDS,
        *map(str, list(engines.values())[::order]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "said at the end\n", "")


def test_a_fork_waits_for_the_frame_that_is_on_its_way():
    guard, inside, order = Guard("the engine"), threading.Event(), []

    def work():
        with guard:
            inside.set()
            time.sleep(0.2)
            order.append("frame")

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    assert in_child(lambda: list(order)) == ["frame"]
    thread.join()
    with guard:  # free again in the parent
        pass


def test_a_thread_that_meets_a_fork_waits_and_is_not_refused(monkeypatch):
    guard, refused = Guard("the engine"), []

    def use():
        for _ in range(200):
            try:
                with guard:
                    time.sleep(0.0001)
            except EngineError as error:
                refused.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    while thread.is_alive():
        in_child(lambda: None)
    assert refused == []


def test_a_fork_takes_locks_behind_guards_and_gives_them_back(monkeypatch):
    lock, guard, inside = threading.Lock(), Guard("the engine"), threading.Event()
    monkeypatch.setattr(forks, "_LOCKS", [*forks._LOCKS, lock])
    monkeypatch.setattr(forks, "HOLD_S", 5)

    def work():
        with guard:
            inside.set()
            time.sleep(0.05)
            with lock:
                pass

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    start = time.monotonic()
    assert in_child(lambda: lock.acquire(timeout=1))
    assert time.monotonic() - start < 5 and lock.acquire(timeout=1)
    thread.join()


def refusals(engine, frame, expected, calls=40, threads=4):
    """What threads that share one engine get: only masks that are right, and refusals."""
    wait, refused = threading.Barrier(threads), []

    def use(_):
        wait.wait()
        for _ in range(calls):
            try:
                assert np.array_equal(engine.segment(frame), expected)
            except EngineError as error:
                refused.append(str(error))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(use, range(threads)))
    return refused


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_in_one_engine_get_right_masks_or_are_refused(engines, backend):
    frame = frames()[1]
    with open_backend(engines[backend]) as engine:
        refused = refusals(engine, frame, engine.segment(frame))
        assert refused and all("the engine of icnet is in use by another thread: it is for one" in it for it in refused)
        assert engine.segment(frame).shape == frame.shape[:2]


def test_two_threads_in_one_engine_of_tensorrt_get_right_masks_or_are_refused(imitated):
    gpu = imitated()
    frame = imitated_gpu.frame(20, 30, 0)
    with gpu.open() as engine:
        assert refusals(engine, frame, imitated_gpu.expected("fp16", 1, frame)[1])


def engine_of(kind, engines, imitated):
    return imitated().open() if kind == "tensorrt" else open_backend(engines[kind])


@pytest.mark.parametrize("kind", [*BACKENDS, "tensorrt"])
def test_every_use_of_an_engine_that_another_thread_uses_is_refused(kind, engines, imitated):
    frame, colors = imitated_gpu.frame(20, 30, 0), np.zeros((256, 3), np.uint8)
    engine = engine_of(kind, engines, imitated)
    calls = [engine.segment, engine.logits, lambda it: engine.overlay(it, colors, 0.5), lambda _: engine.close()]
    expected = engine.segment(frame)
    with engine._guard, ThreadPoolExecutor(1) as pool:  # as during a frame
        for call in calls:
            with pytest.raises(EngineError, match=r"is in use by another thread: it is for one at a time\."):
                pool.submit(call, frame).result()
    assert np.array_equal(engine.segment(frame), expected)  # close, too, left it as it was
    engine.close()


def test_warming_up_beside_frames_takes_each_lane_when_it_is_free(engines):
    frame, stop = frames()[1], threading.Event()
    with open_lanes(engines["openvino"], 2) as lanes, ThreadPoolExecutor(3) as pool:
        expected = lanes.segment(frame)

        def work():
            found = []
            while not stop.is_set():
                found.append(np.array_equal(lanes.segment(frame), expected))
            return found

        working = [pool.submit(work) for _ in range(3)]
        try:
            for _ in range(20):
                assert np.array_equal(lanes.warm_up(frame, 2), expected)
        finally:
            stop.set()
        assert all(all(each.result()) for each in working)


def test_closing_lanes_beside_frames_refuses_who_comes_later(engines):
    frame, begun = frames()[1], threading.Barrier(4)
    lanes = open_lanes(engines["openvino"], 2)
    expected = lanes.segment(frame)

    def work():
        begun.wait()
        with pytest.raises(ValueError, match="the engine is closed"):
            while True:
                assert np.array_equal(lanes.segment(frame), expected)

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work) for _ in range(3)]
        begun.wait()
        lanes.close()
        for each in working:
            each.result(10)


def test_a_thread_that_would_wait_for_itself_is_refused(engines):
    with open_lanes(engines["openvino"], 1) as lanes:
        said = r"this thread has 1 of the 1 lanes of icnet's engine and would wait for itself"
        with lanes.lane():
            for call in (lanes.close, lambda: lanes.segment(frames()[0]), lambda: lanes.warm_up(frames()[0], 1)):
                with pytest.raises(EngineError, match=said):
                    call()
        assert lanes.segment(frames()[0]).shape == frames()[0].shape[:2]


def test_lanes_of_nothing_and_a_warm_up_of_no_run_are_refused(engines):
    with pytest.raises(ValueError, match="lanes are one or more backends, got none"):
        Lanes([])
    for lanes in (0, -1, 65, True, 1.0, "2"):
        with pytest.raises(ValueError, match="lanes are a whole number from 1 to 64, got "):
            open_lanes(engines["openvino"], lanes)
    lanes = open_lanes(engines["openvino"], 1)
    with lanes, pytest.raises(ValueError, match="a warm-up has one run or more, got 0"):
        lanes.warm_up(frames()[0], 0)
    with pytest.raises(ValueError, match="the engine is closed"):
        lanes.warm_up(frames()[0], 1)


def test_a_guard_costs_microseconds():
    guard = Guard("the engine")

    def use():
        with guard:
            pass

    assert min(timeit.repeat(use, number=1000, repeat=5)) / 1000 < 20e-6  # 1.1 on an idle core; tests share theirs
