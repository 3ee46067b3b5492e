"""A stream whose packets were damaged on their way, served from this machine to itself."""

import functools
import http.server
import itertools
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media.camera import Camera
from runtime.media.network import NetworkCapture
from runtime.media.preview import Preview
from runtime.media.video import VideoReader
from tests.helpers.pictures import gradient
from tests.helpers.videos import damage, moving, write_video

SPOILT, LEVELS = 0.01, 24
SIZE = (96, 128)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_frames_that_are_spoilt_are_passed_over_and_counted(tmp_path, address):
    whole = [frame.pixels for frame in VideoReader(write_video(tmp_path / "x.ts", moving(60, SIZE), key_every=10))]
    damage(tmp_path / "x.ts", count=40)
    capture = NetworkCapture(f"{address}/x.ts")
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][..., ::-1])
    capture.release()
    assert 40 <= len(frames) < 60 and capture.damaged > 0
    for frame in frames:
        off = min((np.abs(frame.astype(int) - other).max(2) > LEVELS).mean() for other in whole)
        assert off < SPOILT


def test_a_camera_tells_what_came_damaged(tmp_path, address):
    damage(write_video(tmp_path / "x.ts", moving(60, SIZE), key_every=10), count=40)
    with Camera(f"{address}/x.ts") as source:
        assert source.read().pixels.shape == (*SIZE, 3)
        with pytest.raises(FrameError, match="gives no more frames"):
            list(source)
        assert "frames came damaged and were left out" in source.notes[0]


@contextmanager
def mjpeg_camera(port=0):
    """A camera that sends pictures over HTTP and has no end: the preview's own page."""
    with Preview(port) as page:
        view = page.view("camera", lambda frame, mask: frame)

        def film():
            for i in itertools.count():
                view.see(np.roll(gradient(*SIZE), 4 * i, 1), np.zeros(SIZE, np.uint8))
                if page.closed.wait(0.03):
                    return

        threading.Thread(target=film, daemon=True).start()
        yield page.address


def test_a_camera_over_http_that_drops_comes_back():
    told = []
    with mjpeg_camera() as address:
        source = Camera(f"{address}0.mjpeg", told=told.append)
        assert source.read().pixels.shape == (*SIZE, 3)
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with source, mjpeg_camera(port):
        while source.reconnects == 0:
            source.read()
        assert source.read().pixels.shape == (*SIZE, 3) and "lost after" in told[0] and "reconnect 1" in told[1]
