"""A camera on the network: GStreamer's RTSP server as a process of its own, which is cut off and frozen."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from runtime.errors import FrameError
from runtime.media import network, video
from runtime.media.camera import Camera
from tests.helpers import fake_backend
from tests.helpers.rtsp_server import HEIGHT, WIDTH, serving
from tests.helpers.videos import read_video

pytestmark = pytest.mark.cameras
ROOT = Path(__file__).parents[3]


def read(source, count):
    return [source.read() for _ in range(count)]


def picture(address):
    give_up = time.monotonic() + 10
    while True:
        try:
            return urllib.request.urlopen(address, timeout=10).read()
        except urllib.error.HTTPError:  # that camera is not open yet
            assert time.monotonic() < give_up
            time.sleep(0.1)


def test_the_frames_of_a_live_stream_come_in_colour_and_in_time():
    with serving() as server, Camera(server.address) as source:
        frames = read(source, 20)
        assert frames[0].pixels.shape == (HEIGHT, WIDTH, 3) and source.reconnects == 0 and source.notes == []
        # A white ball on black, which moves.
        assert all(frame.pixels.max() > 200 and frame.pixels.min() < 30 for frame in frames)
        assert (frames[0].pixels != frames[-1].pixels).any()
        assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))


def test_a_line_that_is_cut_comes_back_is_counted_and_told_without_the_password():
    told = []
    with serving("admin", "hunter2") as server, Camera(server.address, told=told.append) as source:
        for cut in range(2):
            read(source, 10)
            server.cut()
            time.sleep(1)
            server.start()
            while source.reconnects < cut + 1:
                source.read()
        assert source.reconnects == 2 and len(told) == 4 and "reconnect 2" in told[-1]
        assert not any("hunter2" in line for line in told)


def test_a_line_that_says_nothing_any_more_is_lost_and_comes_back(monkeypatch):
    # As with the true bounds, ten seconds, in less time.
    monkeypatch.setattr(video, "RTSP", video.RTSP | {"timeout": "1000000"})
    monkeypatch.setattr(network, "TIMEOUT_S", 2.0)
    told = []
    with serving() as server, Camera(server.address, told=told.append) as source:
        read(source, 10)
        os.kill(server.pid, signal.SIGSTOP)
        threading.Timer(4, os.kill, (server.pid, signal.SIGCONT)).start()
        while source.reconnects == 0:
            source.read()
        assert "lost after" in told[0] and source.notes == []


def test_a_line_that_stays_away_is_given_up():
    with serving() as server, Camera(server.address, patience_s=2) as source:
        read(source, 5)
        server.cut()
        with pytest.raises(
            FrameError, match=r"was lost and did not come back within 2 s \([1-9] tries\), after \d+ fr"
        ):
            list(source)


def test_a_wrong_password_is_one_line_without_it():
    with serving("admin", "hunter2") as server, pytest.raises(FrameError, match="cannot be opened") as caught:
        Camera(server.address.replace("hunter2", "hunter3"))
    assert "hunter" not in str(caught.value)


def test_a_camera_that_takes_the_call_and_never_answers_is_bounded_in_time(monkeypatch):
    monkeypatch.setattr(video, "TIMEOUT_S", 1.0)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(FrameError, match="cannot be opened"):  # without a bound it never ends
        Camera(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live")


def test_two_cameras_are_recorded_in_one_run_and_looked_at(tmp_path):
    fake_backend.write_fake_engine(tmp_path / "artifacts" / "engines")
    with serving("admin", "hunter2") as first, serving() as second:
        command = [sys.executable, "-m", "tests.helpers.fake_backend", first.address, second.address]
        command += ["--seconds", "15", "--show", "--jsonl", "-o", "out"]
        run = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        head = run.stderr.readline() + run.stderr.readline()
        page = re.search(r"http://127\.0\.0\.1:\d+/", head)[0]
        for number in range(2):
            assert picture(f"{page}{number}.jpg").startswith(b"\xff\xd8")
        first.cut()
        first.start()
        out, err = run.communicate(timeout=120)
    streams = [json.loads(line) for line in out.splitlines() if line]
    assert run.returncode == 0 and sorted(stream["reconnects"] for stream in streams) == [0, 1]
    for stream in streams:
        assert len(read_video(tmp_path / stream["outputs"]["overlay"])[0]) == stream["frames"] > 10
    kept = (tmp_path / "out" / "run.json").read_text()
    names = " ".join(path.name for path in (tmp_path / "out").iterdir())
    assert "hunter2" not in head + out + err + kept + names
