"""A network stream through OpenCV itself, served from this machine to itself."""

import functools
import http.server
import threading

import pytest

from runtime.errors import FrameError
from runtime.media.camera import Camera
from tests.helpers.videos import SIZE, moving, write_video


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    write_video(tmp_path / "x.ts", moving(60))
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_stream_is_read_to_its_end_which_is_said(address, capfd):
    with Camera(f"{address}/x.ts") as source:
        frames = []
        with pytest.raises(FrameError, match=r"the stream ended.*after 60 frames"):
            frames += source
        assert source.taken == 60 and source.dropped + len(frames) == 60 and source.dropped < 60
    assert capfd.readouterr().err == ""


def test_the_frames_of_a_stream_are_rgb(address):
    with Camera(f"{address}/x.ts") as source:
        pixels = source.read().pixels
    # Red grows with the column and green with the row, somewhere in the moving gradient; blue with both.
    assert pixels.shape == (*SIZE, 3) and pixels[-1, :, 1].mean() > 200 > 50 > pixels[0, :, 1].mean()
    assert abs(pixels[0, :, 0].mean() - pixels[-1, :, 0].mean()) < 20


@pytest.mark.parametrize("given", ["{}/none.ts", "rtsp://127.0.0.1:1/none"])
def test_a_stream_that_is_not_there_is_one_line(address, given, capfd):
    with pytest.raises(FrameError, match="cannot be opened: no such camera or stream") as caught:
        Camera(given.format(address))
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""
