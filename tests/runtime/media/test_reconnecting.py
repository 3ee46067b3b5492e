"""A stream that is lost and comes back, with captures that do what they are told."""

import threading

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media import reconnecting
from runtime.media.camera import Camera
from runtime.media.reconnecting import Reconnecting

FRAME = np.zeros((4, 6, 3), np.uint8)
ADDRESS = "rtsp://user:secret@host/live"


class Line:
    """A connection of so many frames."""

    def __init__(self, frames, *, damaged=0, finite=False):
        self.frames, self.damaged, self.finite, self.released = frames, damaged, finite, False

    def read(self):
        self.frames -= 1
        return (True, FRAME) if self.frames >= 0 else (False, None)

    def release(self):
        self.released = True


class Lines:
    """Gives one connection after the other; None: it cannot be opened."""

    def __init__(self, *lines):
        self.left, self.made = list(lines), []

    def __call__(self, *_):
        line = self.left.pop(0) if self.left else None
        if line is None:
            raise FrameError("cannot be opened")
        self.made.append(line)
        return line


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE_S", 0.004)


def frames_of(capture):
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def test_a_line_that_is_lost_is_opened_again_counted_and_told():
    lines, told = Lines(Line(3, damaged=1), None, Line(2, damaged=2), Line(1)), []
    capture = Reconnecting(lines, "cam", patience_s=0.2, told=told.append)
    assert frames_of(capture) == 6 and capture.reconnects == 2 and capture.damaged == 3
    assert told[0] == "cam: lost after 3 frames; it is tried again for 0 s" and "reconnect 1" in told[1]
    assert len(told) == 5 and "lost after 6 frames" in told[4] and "did not come back within" in capture.why
    assert all(line.released for line in lines.made)


def test_a_connection_that_gives_nothing_is_no_reconnect_and_is_let_go():
    lines = Lines(Line(1), Line(0), Line(0), Line(2))
    capture = Reconnecting(lines, "cam", patience_s=0.2)
    assert frames_of(capture) == 3 and capture.reconnects == 1 and all(line.released for line in lines.made)


def test_pauses_grow_up_to_the_longest(monkeypatch):
    pauses = []
    monkeypatch.setattr(Reconnecting, "_wait", lambda self, pause_s: pauses.append(pause_s) or len(pauses) < 7)
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE_S", 0.5)
    monkeypatch.setattr(reconnecting, "LONGEST_PAUSE_S", 10.0)
    frames_of(Reconnecting(Lines(Line(1)), "cam", patience_s=60))
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]


def test_what_has_an_end_is_not_begun_again():
    lines = Lines(Line(3, finite=True), Line(3))
    assert frames_of(Reconnecting(lines, "cam", patience_s=0.2)) == 3 and len(lines.made) == 1


def test_without_patience_nothing_is_tried():
    lines = Lines(Line(3), Line(3))
    assert frames_of(Reconnecting(lines, "cam", patience_s=0)) == 3 and len(lines.made) == 1


def test_a_first_connection_that_fails_is_said_at_once():
    with pytest.raises(FrameError, match="cannot be opened"):
        Reconnecting(Lines(None, Line(1)), "cam")


def test_a_stop_ends_the_waiting(monkeypatch):
    monkeypatch.setattr(reconnecting, "FIRST_PAUSE_S", 3600.0)
    stop = threading.Event()
    capture = Reconnecting(Lines(Line(0)), "cam", patience_s=1e9, stopped=stop.is_set)
    threading.Timer(0.05, stop.set).start()
    assert capture.read() == (False, None) and capture.reconnects == 0


def test_a_line_that_drops_all_night_is_a_bounded_number_of_lines():
    told = []
    capture = Reconnecting(Lines(*(Line(1) for _ in range(200))), "cam", patience_s=0.1, told=told.append)
    assert frames_of(capture) == 200 and capture.reconnects == 199
    assert len(told) == reconnecting.MOST_TOLD + 1 and "is counted" in told[-1]


def test_a_camera_goes_on_with_its_frames_and_its_clock_and_no_password_is_told(monkeypatch):
    told, lines = [], Lines(Line(2), None, Line(2))
    with Camera(ADDRESS, opened=lines, patience_s=0.2, told=told.append) as source:
        with pytest.raises(FrameError, match=r"rtsp://host/live: was lost and did not come back .* after 4 frames"):
            list(source)
        assert source.reconnects == 1 and source.taken == 4
    assert told and not any("secret" in line for line in told)
