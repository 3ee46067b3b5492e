"""What is asked of a camera, with OpenCV's capture replaced: no machine of these tests has a camera."""

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError, LibraryError
from runtime.media import local_camera
from runtime.media.camera import Camera, is_camera, shown_address
from runtime.media.local_camera import Asked, ask

WIDTH, HEIGHT, FPS, FOURCC = (
    cv2.CAP_PROP_FRAME_WIDTH,
    cv2.CAP_PROP_FRAME_HEIGHT,
    cv2.CAP_PROP_FPS,
    cv2.CAP_PROP_FOURCC,
)
MJPG, YUYV = (float(cv2.VideoWriter_fourcc(*letters)) for letters in ("MJPG", "YUYV"))


class Webcam:
    """Has a few sizes; the larger ones in MJPG alone, as USB has no room for more."""

    def __init__(self):
        self.has = {WIDTH: 640.0, HEIGHT: 480.0, FPS: 30.0, FOURCC: YUYV}
        self.order = []

    def set(self, what, value):
        self.order.append(what)
        if what in self.has and (what == FOURCC or value <= (1920 if self.has[FOURCC] == MJPG else 640)):
            self.has[what] = value
        return True

    def get(self, what):
        return self.has.get(what, 0.0)

    def isOpened(self):
        return True

    def read(self):
        return True, np.zeros((round(self.has[HEIGHT]), round(self.has[WIDTH]), 3), np.uint8)

    def release(self):
        pass


def test_a_camera_gives_what_is_asked_for_when_the_format_is_asked_first():
    webcam = Webcam()
    assert ask(webcam, Asked((720, 1280), 25.0, "MJPG")) == []
    assert webcam.order[0] == FOURCC and (webcam.get(WIDTH), webcam.get(HEIGHT), webcam.get(FPS)) == (1280, 720, 25)


def test_what_a_camera_does_not_give_is_told():
    assert ask(Webcam(), Asked((720, 1280), 29.97)) == ["was asked for 1280x720 and gives 640x480"]
    webcam = Webcam()
    webcam.set = lambda *_: False
    told = ask(webcam, Asked((480, 640), 60.0, "MJPG"))
    assert told == ["was asked for 60 frames a second and gives 30", "was asked for MJPG and gives YUYV"]


def test_the_camera_has_the_size_the_rate_and_the_notes(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Webcam())
    with Camera("camera:0", asked=Asked((720, 1280), 25.0, "MJPG")) as source:
        assert source.read().pixels.shape == (720, 1280, 3) and source.rate == 25 and source.notes == []
    with Camera("camera:0", asked=Asked((720, 1280))) as source:
        assert source.notes == ["camera:0: was asked for 1280x720 and gives 640x480"] and source.rate == 30


@pytest.mark.parametrize("given", ["rtsp://host/live", "gst:videotestsrc ! appsink"])
def test_nothing_is_asked_of_a_stream(given):
    with pytest.raises(FrameError, match=r"are of a camera such as camera:0"):
        Camera(given, asked=Asked(fps=30.0))


def test_a_pipeline_without_gstreamer_is_one_line(monkeypatch):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(LibraryError, match="built without GStreamer") as caught:
        Camera("gst:videotestsrc ! appsink")
    assert "\n" not in str(caught.value)


def test_a_pipeline_is_given_to_gstreamer_where_opencv_has_it(monkeypatch):
    given = []
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *words: given.append(words) or Webcam())
    assert is_camera("gst:videotestsrc ! appsink") and local_camera.open_local("gst:videotestsrc ! appsink")
    assert given == [("videotestsrc ! appsink", cv2.CAP_GSTREAMER)]


@pytest.mark.parametrize(
    "pipeline",
    [
        "gst:rtspsrc location=rtsp://admin:hunter2@h/live ! appsink",
        "gst:rtspsrc location=rtsp://h/live user-id=hunter2 user-pw=hunter2 ! appsink",
        'gst:rtspsrc location=rtsp://h/live user-pw="a hunter2" ! appsink',
        "gst:rtspsrc location=rtsp://h/live user-pw = hunter2 ! appsink",
        "gst:srtsrc uri=srt://h:1 passphrase='x hunter2 y' ! appsink",
    ],
)
def test_a_pipeline_is_shown_without_its_password(pipeline):
    assert "hunter2" not in shown_address(pipeline) and "appsink" in shown_address(pipeline)
