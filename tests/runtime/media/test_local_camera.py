"""What is asked of a camera, with OpenCV's capture replaced: no machine of these tests has a camera."""

import cv2
import numpy as np
import pytest

from runtime.errors import FrameError, LibraryError
from runtime.media import local_camera
from runtime.media.camera import Camera, is_camera, shown_address
from runtime.media.local_camera import Asked, as_it_comes, ask

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


class Sending(Webcam):
    """Sends MJPEG, and hands it on where it is asked to; every third frame lost a piece on its way."""

    def __init__(self, backend="V4L2", hands_on=True):
        super().__init__()
        self.has[FOURCC], self.backend, self.hands_on, self.sent, self.raw = MJPG, backend, hands_on, 0, False
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        self.picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
        self.whole = cv2.imencode(".jpg", self.picture)[1].reshape(1, -1)
        self.spoilt = np.delete(self.whole, slice(9000, 9400), axis=1)

    def getBackendName(self):
        return self.backend

    def set(self, what, value):
        if what == cv2.CAP_PROP_CONVERT_RGB:
            self.raw = self.hands_on and value == 0
            return self.hands_on
        return super().set(what, value)

    def read(self):
        self.sent += 1
        sent = self.spoilt if self.sent % 3 == 0 else self.whole
        return True, sent.copy() if self.raw else cv2.imdecode(sent, cv2.IMREAD_COLOR)


def test_a_damaged_frame_of_a_camera_is_left_out_and_counted():
    capture = as_it_comes(Sending())
    frames = [capture.read() for _ in range(4)]
    expected = cv2.imdecode(capture._capture.whole, cv2.IMREAD_COLOR)
    assert all(there and np.array_equal(pixels, expected) for there, pixels in frames)
    assert capture.damaged == 1 and capture._capture.sent == 5


def test_the_camera_tells_of_what_came_damaged(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Sending())
    with Camera("camera:0") as source:
        for _ in range(3):
            source.read()
        (note,) = source.notes
    assert note.startswith("camera:0: ") and note.endswith("frames came damaged and were left out")


@pytest.mark.parametrize("camera", [Sending("MSMF"), Sending(hands_on=False), Webcam()])
def test_a_camera_that_does_not_hand_on_what_it_sends_is_read_as_it_is(camera):
    assert as_it_comes(camera) is camera and camera.read()[1].shape == (480, 640, 3)


def test_frames_that_are_all_damaged_end_a_camera():
    camera = Sending()
    camera.whole = camera.spoilt
    assert as_it_comes(camera).read() == (False, None)


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
