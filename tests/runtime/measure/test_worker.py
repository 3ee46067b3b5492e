"""A path in a process of its own: what it answers, how it fails, and that it stands still between its turns."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.errors import EngineError
from runtime.lanes import Lanes
from runtime.measure import serving
from runtime.measure import worker as worker_module
from runtime.measure.serving import frames_per_s, serve
from runtime.measure.worker import ENGINE, LEAST_PATIENCE_S, PATIENCE_S, Job, Worker, warm_up
from runtime.threads import count, limited, usable
from tests.helpers.engines import built_engine
from tests.helpers.fake_code import sleeping_code
from tests.helpers.pictures import gradient

ROOT = Path(__file__).parents[3]


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    np.save(tmp_path / "frame.npy", gradient())
    return tmp_path / "frame.npy"


def test_an_engine_is_timed_and_gives_its_stages_mask_and_memory(tmp_path, frame):
    with Worker(Job(ENGINE, (built_engine(tmp_path),)), frame) as worker:
        answer = worker.ask(do="frame")
        assert set(answer.stages_ms) == {"preprocess", "network", "postprocess"}
        assert 0 < sum(answer.stages_ms.values()) <= answer.ms
        worker.ask(do="mask", file=str(tmp_path / "mask.npy"))
        assert worker.ask(do="peak").mib > 10
        assert worker.ask(do="throughput", frames=3, in_flight=2).frames_per_s > 0
    assert np.load(tmp_path / "mask.npy").shape == gradient().shape[:2]


def test_throughput_is_timed_when_every_lane_has_had_the_two_frames_after_which_it_is_warm(
    tmp_path, frame, monkeypatch
):
    had = {}

    def timed(lanes, image, frames):
        (shared,) = set(lanes)
        had.update(segmented=[backend.segmented for backend in shared._backends], in_flight=len(lanes))
        return 1.0

    class Counting:
        spec, segmented, at_once = None, 0, 1

        def segment(self, image):
            self.segmented += 1

        def close(self):
            pass

    monkeypatch.setattr("runtime.lanes.open_lanes", lambda path, count: Lanes([Counting() for _ in range(count)]))
    monkeypatch.setattr(serving, "_open", lambda kind, files, fitted: None)
    monkeypatch.setattr(serving, "frames_per_s", timed)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"do": "throughput", "frames": 3, "in_flight": 2}\n'))
    answers = []
    serve(answers.append, ENGINE, "", str(frame), "an.engine")
    assert had == {"segmented": [2, 2], "in_flight": 2} and answers[1:] == [{"frames_per_s": 1.0}]
    assert answers[0]["files"][0] == runtime.__file__


def test_a_base_is_run_by_its_own_code(tmp_path, frame):
    job = Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 30))
    with Worker(job, frame) as worker:
        assert worker.frame_ms() >= 30


def test_what_the_child_cannot_open_is_one_line(tmp_path, frame):
    with pytest.raises(EngineError, match=r"^refused\.engine: this engine is refused$"):
        Worker(Job(ENGINE, (tmp_path / "refused.engine",), sleeping_code(tmp_path, 1)), frame)
    with pytest.raises(EngineError, match="does not exist; build one: make engine"):
        Worker(Job(ENGINE, (tmp_path / "missing.engine",)), frame)


def test_a_worker_stands_still_between_its_turns_and_ends_with_the_parents_use(tmp_path, frame):
    worker = Worker(Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 1)), frame)
    stat = Path(f"/proc/{worker._process.pid}/stat")
    for _ in range(3):
        deadline = time.monotonic() + 5
        while (state := stat.read_text().rpartition(")")[2].split()[0]) != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state == "T"
        worker.frame_ms()
    worker.close()
    assert not stat.exists()
    worker.close()


@pytest.mark.parametrize("dead", [False, True])
def test_what_a_library_forked_goes_with_its_worker(tmp_path, frame, dead):
    worker = Worker(Job(ENGINE, (tmp_path / "forks.engine",), sleeping_code(tmp_path, 1)), frame)
    if dead:
        worker._process.kill()
        worker._process.wait()
    start = time.monotonic()
    worker.close()
    assert time.monotonic() - start < 30  # what was forked holds its standard output for 60
    worker.close()


def test_a_stopped_worker_does_not_outlive_a_parent_that_is_killed(tmp_path, frame):
    code = sleeping_code(tmp_path, 1)
    program = (
        "import sys, time; from pathlib import Path; from runtime.measure.worker import Job, Worker\n"
        "worker = Worker(Job('engine', (Path('any.engine'),), Path(sys.argv[1])), Path(sys.argv[2]))\n"
        "print(worker._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(code), str(frame)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(stat: Path) -> bool:
    # A zombie is dead; whether it is buried is the business of who adopted it.
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_child_that_dies_is_an_error_that_says_so(tmp_path, frame):
    with Worker(Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 1)), frame) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(EngineError, match=r"any\.engine: its process ended"):
            worker.frame_ms()


def test_frames_in_flight_multiply_the_throughput_and_not_the_latency():
    class Sleeping:
        def segment(self, frame: np.ndarray) -> None:
            time.sleep(0.02)

    alone, four = (frames_per_s([Sleeping()] * n, gradient(), 5) for n in (1, 4))
    assert alone < 50 and four > 2 * alone


def test_no_frame_is_begun_before_the_clock(monkeypatch):
    # As on a busy machine: who waits for the lanes goes on last.
    class Late(threading.Barrier):
        def wait(self, timeout=None):
            found = super().wait(timeout)
            if threading.current_thread() is threading.main_thread():
                time.sleep(0.2)
            return found

    class Sleeping:
        def segment(self, frame: np.ndarray) -> None:
            time.sleep(0.02)

    monkeypatch.setattr("runtime.measure.serving.threading.Barrier", Late)
    assert frames_per_s([Sleeping()], gradient(), 5) < 50


def test_a_worker_that_freezes_is_given_up_after_a_time_that_is_said(tmp_path, frame):
    with Worker(Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 300)), frame, 10) as worker:
        worker.patience_s = 0.2
        threading.Timer(0.05, worker._process.send_signal, [signal.SIGSTOP]).start()
        with pytest.raises(EngineError, match=r"any\.engine: its process did not answer within 0\.2 s for its frame: "):
            worker.frame_ms()
    with pytest.raises(EngineError, match=r"did not answer within 0\.001 s to open"):
        Worker(Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 1)), frame, 0.001)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'{"ms": 1.0, "stag', 'answered \'{"ms": 1.0, "stag\', which is cut short'),
        (b"hello\n", "answered 'hello'"),
        (b'{"ms": "1"}\n', 'answered \'{"ms": "1"}\''),
        (b'{"ms": NaN}\n', "answered"),
        (b"[1]\n", r"answered '[1]'"),
        (b"{}\n", "answered '{}'"),
        (b'{"error": 3}\n', "answered"),
        (b"[" * 50_000 + b"\n", "answered"),
        (b"\xff\xfe\n", "answered"),
    ],
)
def test_an_answer_that_is_none_is_one_line(tmp_path, frame, answer, told):
    code = sleeping_code(tmp_path, 1)
    with Worker(Job(ENGINE, (tmp_path / "any.engine",), code), frame) as worker:
        end, other = os.pipe()
        os.write(other, answer)
        os.close(other)
        worker._process.stdout.close()
        worker._process.stdout = os.fdopen(end, "rb")
        with pytest.raises(EngineError) as error:
            worker.frame_ms()
        os.killpg(worker._process.pid, signal.SIGKILL)
    assert told in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_process_is_waited_for_as_its_own_frames_suggest(tmp_path, frame):
    with Worker(Job(ENGINE, (tmp_path / "any.engine",), sleeping_code(tmp_path, 20)), frame) as worker:
        assert worker.patience_s == PATIENCE_S
        assert 0.02 <= warm_up([worker], 2) < 5
        assert worker.patience_s == LEAST_PATIENCE_S
        worker.patience_s = 7
        warm_up([worker], 1)
        assert worker.patience_s == 7


def test_a_worker_is_held_to_the_threads_that_were_asked(tmp_path, frame, monkeypatch):
    with limited(1):
        monkeypatch.setattr(worker_module, "CHILD", tmp_path / "child.py")
        (tmp_path / "child.py").write_text("import json, sys; print(json.dumps({'error': f'held to {sys.argv[1]}'}))")
        with pytest.raises(EngineError, match="held to 1"):
            Worker(Job(ENGINE, (tmp_path / "any.engine",)), frame)
    with serving._held_to(1):
        assert count() == 1
    with serving._held_to(0):
        assert count() == usable()


def test_code_that_is_older_than_threads_says_that_it_cannot_be_held_to_a_number(monkeypatch):
    monkeypatch.setitem(sys.modules, "runtime.threads", None)
    with pytest.raises(EngineError, match="its code is older than --threads and cannot be held to a number"):
        serving._held_to(1)
    with serving._held_to(0):
        pass


def test_the_most_memory_is_the_programs_own_and_not_of_what_started_it():
    started = "import subprocess, sys; held = b'x' * (600 << 20); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    own = "from runtime.measure.serving import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", started, own], capture_output=True, text=True, check=True, timeout=60)
    assert 10 < float(done.stdout) < 400
