"""A live camera, with a capture that does what it is told."""

import threading
import time

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media import camera, reconnecting
from runtime.media.camera import Camera, camera_name, is_camera, shown_address
from runtime.media.local_camera import Asked
from runtime.media.pipeline import END

# A loaded machine may let a thread wait this long.
PATIENCE_S = 10.0


class Capture:
    """Gives a frame when it is told to, then says no or hangs; each frame is all of its number."""

    def __init__(self, then="miss"):
        self._frames, self._changed = [], threading.Condition()
        self._then, self.given, self.released = then, 0, threading.Event()

    def show(self, count):
        with self._changed:
            for _ in range(count):
                self.given += 1
                self._frames.append(np.full((4, 6, 3), (self.given, 0, 0), np.uint8))
            self._changed.notify_all()

    def read(self):
        with self._changed:
            if not self._frames and self._then == "wait":
                self._changed.wait(0.05)
            if self._frames:
                return True, self._frames.pop(0)
        if self._then == "hang":
            self.released.wait(PATIENCE_S)
        return False, None

    def release(self):
        self.released.set()


def opened(capture, **settings):
    return Camera("camera:0", opened=lambda _: capture, **{"patience_s": 0} | settings)


def wait_until(condition):
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(camera, "MISSES", 100)
    monkeypatch.setattr(camera, "MISS_S", 0.002)
    monkeypatch.setattr(camera, "LOOK_S", 0.005)


def test_the_newest_frame_is_read_and_the_older_ones_are_counted():
    capture = Capture(then="wait")
    with opened(capture) as source:
        capture.show(5)
        wait_until(lambda: source.taken == 5)
        first = source.read()
        # OpenCV's blue is our blue: the number is in the last channel.
        assert first.pixels.tolist() == [[[0, 0, 5]] * 6] * 4 and source.dropped == 4
        capture.show(1)
        second = source.read()
        assert second.pixels[0, 0, 2] == 6 and (source.taken, source.dropped) == (6, 4) and second.pts > first.pts
    assert capture.released.wait(PATIENCE_S)


def test_a_frame_is_read_once_and_the_next_is_waited_for():
    capture = Capture(then="wait")
    with opened(capture) as source:
        capture.show(1)
        source.read()
        threading.Timer(0.05, capture.show, [1]).start()
        assert source.read().pixels[0, 0, 2] == 2


def test_an_unplugged_camera_gives_its_last_frame_then_an_error_then_the_end():
    capture = Capture()
    capture.show(1)
    with opened(capture) as source:
        assert source.read().pixels[0, 0, 2] == 1
        with pytest.raises(FrameError, match=r"camera:0: gives no more frames .unplugged.*after 1 frames"):
            source.read()
        assert source.read() is END and capture.released.wait(PATIENCE_S)


def test_a_camera_that_misses_a_frame_goes_on(monkeypatch):
    capture = Capture()
    with opened(capture) as source:
        time.sleep(0.02)
        capture.show(1)
        assert source.read().pixels[0, 0, 2] == 1


def test_a_camera_that_hangs_is_said(monkeypatch):
    monkeypatch.setattr(camera, "STALL_S", 0.05)
    capture = Capture(then="hang")
    source = opened(capture)
    with pytest.raises(FrameError, match="gave no frame for"):
        source.read()
    assert source.read() is END
    capture.release()
    source.close()


def test_a_stop_ends_the_wait():
    stop = threading.Event()
    with opened(Capture(then="wait"), stop=stop) as source:
        threading.Timer(0.05, stop.set).start()
        assert source.read() is END


def test_a_camera_that_is_not_there_is_one_line():
    with pytest.raises(FrameError, match="camera:63: cannot be opened: no such camera") as caught:
        Camera("camera:63")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["camera:0", "/dev/video2", "rtsp://host/a", "http://host/x.m3u8", "udp://@:1234"])
def test_a_camera_or_a_stream_is_recognised(given):
    assert is_camera(given)


@pytest.mark.parametrize("given", ["camera.mp4", "camera:", "/dev/video", "video0", "C:/x.mp4", "a.png"])
def test_a_file_is_no_camera(given):
    assert not is_camera(given)


def test_a_password_is_never_shown():
    given = "rtsp://user:secret@host:554/a?b=c"
    assert shown_address(given) == "rtsp://host:554/a?b=***" and "secret" not in camera_name(given)
    assert camera_name("/dev/video0") == "video0" and "/" not in camera_name(given)
    with Camera(given, opened=lambda _: Capture(), patience_s=0) as source, pytest.raises(FrameError) as caught:
        source.read()
    assert "secret" not in str(caught.value)


class Plugged(Capture):
    """A camera of two frames, of a rate and a size that can be asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.show(2)

    def set(self, what, value):
        self.asked.append((what, value))

    def get(self, what):
        return dict(self.asked).get(what, 25.0)


def test_a_camera_that_was_pulled_is_opened_again_and_asked_again(monkeypatch):
    monkeypatch.setattr(camera, "MISSES", 3)
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE_S", 0.01)
    first, second = Plugged(), Plugged()
    there, told = iter([first, FrameError("no such camera"), second]), []

    def plugged(_):
        found = next(there, FrameError("no such camera"))
        if isinstance(found, FrameError):
            raise found
        return found

    with Camera("camera:0", opened=plugged, asked=Asked(fps=25.0), patience_s=0.5, told=told.append) as source:
        with pytest.raises(FrameError, match="was lost and did not come back within"):
            list(source)
        assert (source.taken, source.reconnects) == (4, 1)
    assert first.asked == second.asked != [] and first.released.is_set() and second.released.is_set()
    assert ["lost" in told[0], "back" in told[1], "lost" in told[2]] == [True] * 3


def test_a_camera_that_skips_a_frame_is_not_lost(monkeypatch):
    told, capture = [], Capture()
    with opened(capture, patience_s=0.5, told=told.append) as source:
        time.sleep(0.02)
        capture.show(1)
        assert source.read().pixels[0, 0, 2] == 1
    assert told == []
