"""The page on which a run is looked at, asked as a browser asks, and as others do."""

import http.client
import threading
import time
import urllib.request

import cv2
import numpy as np
import pytest

from runtime.errors import LibraryError, OutputError
from runtime.media import preview, window
from runtime.media.preview import MOST_CLIENTS, Preview
from runtime.media.view import Shown, View
from tests.helpers.pictures import gradient

FRAME, MASK = gradient(48, 64), np.zeros((48, 64), np.uint8)


@pytest.fixture
def page():
    with Preview() as page:
        yield page


def drawn(frame, mask):
    return frame


def asked(page, path, host=None):
    port = int(page.address.rstrip("/").rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    return connection.getresponse()


def test_the_page_names_every_source_and_no_name_becomes_html(page):
    page.view("camera:0", drawn)
    page.view("<script>alert(1)</script>", drawn)
    text = urllib.request.urlopen(page.address, timeout=10).read().decode()
    assert "camera:0" in text and '"/1.mjpeg"' in text and "<script>" not in text
    assert page.address.startswith("http://127.0.0.1:")


def test_a_picture_is_the_newest_frame(page):
    view = page.view("camera:0", drawn)
    for pixels in (np.zeros_like(FRAME), FRAME):
        view.see(pixels, MASK)
    data = asked(page, "/0.jpg").read()
    got = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(got.astype(int) - FRAME).mean() < 12


def test_a_film_goes_on_and_ends_with_the_run(page):
    view = page.view("camera:0", drawn)
    view.see(FRAME, MASK)
    answer = asked(page, "/0.mjpeg")
    assert answer.getheader("Content-Type").startswith("multipart/x-mixed-replace")
    data = answer.read(200)
    assert data.startswith(b"--frame\r\nContent-Type: image/jpeg")
    view.see(FRAME[::-1].copy(), MASK)
    while data.count(b"--frame") < 2:
        data += answer.read(50)
    page.close()
    answer.read()


def test_who_comes_by_another_name_is_refused(page):
    # A page elsewhere whose name was turned to this machine.
    page.view("camera:0", drawn).see(FRAME, MASK)
    assert asked(page, "/0.jpg", host="evil.example").status == 403 == asked(page, "/", host="127.0.0.1.evil").status
    assert asked(page, "/0.jpg", host="localhost:1").status == 200


@pytest.mark.parametrize("path", ["/1.jpg", "/../run.json", "/0.png", "/%2e", "//x/0.jpg"])
def test_nothing_else_is_served(page, path):
    page.view("camera:0", drawn).see(FRAME, MASK)
    assert asked(page, path).status == 404


def test_clients_are_bounded_and_a_place_is_given_back(page):
    page.view("camera:0", drawn).see(FRAME, MASK)
    films = [asked(page, "/0.mjpeg") for _ in range(MOST_CLIENTS)]
    assert asked(page, "/").status == 503
    for film in films:
        film.close()
    give_up = time.monotonic() + 10
    while asked(page, "/").status != 200:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_port_that_is_taken_is_one_line(page):
    with pytest.raises(OutputError, match=r"cannot listen on 127\.0\.0\.1:.*give another --show-port"):
        Preview(int(page.address.rstrip("/").rsplit(":", 1)[1]))


def test_after_the_end_nobody_listens_and_no_thread_is_left(page):
    page.close()
    page.close()
    with pytest.raises(ConnectionRefusedError):
        asked(page, "/")
    assert not any(thread.name == "preview" for thread in threading.enumerate())


def test_a_large_frame_is_shown_smaller_and_once_for_all_who_look():
    calls = []
    view = View("camera:0", lambda frame, mask: calls.append(1) or frame)
    view.see(np.zeros((1024, 2048, 3), np.uint8), np.zeros((1024, 2048), np.uint8))
    number, data = view.jpeg(0, 0)
    assert view.jpeg(0, 0) == (number, data) and len(calls) == 1 and view.jpeg(number, 0) is None
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (640, 1280, 3)


def test_what_is_shown_is_recorded_first():
    class Recording:
        def __init__(self):
            self.masks = []

        def write(self, frame, mask):
            self.masks.append(mask)

    class Frame:
        pixels = FRAME

    recording, view = Recording(), View("x", drawn)
    Shown(recording, [view]).write(Frame, MASK)
    assert recording.masks[0] is MASK and view.drawn(0, 0)[0] == 1


def test_where_opencv_has_no_windows_it_is_one_line(monkeypatch):
    monkeypatch.setattr(window, "PROBE", "raise SystemExit(1)")
    with pytest.raises(LibraryError, match=r"there is no window here.*--show") as caught:
        window.Windows()
    assert "\n" not in str(caught.value)


def test_windows_are_drawn_by_one_thread_and_close_with_the_run(monkeypatch):
    drawn_by, frames = set(), []

    def show(name, pixels):
        drawn_by.add(threading.get_ident())
        frames.append((name, pixels[0, 0].tolist()))

    monkeypatch.setattr(window, "PROBE", "pass")
    monkeypatch.setattr(cv2, "imshow", show)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    closed = []
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: closed.append(1))
    with window.Windows() as windows:
        for name in ("a", "b"):
            windows.view(name, drawn).see(np.full((4, 4, 3), (1, 2, 3), np.uint8), MASK[:4, :4])
        give_up = time.monotonic() + 10
        while len(frames) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
    assert sorted(frames) == [("a", [3, 2, 1]), ("b", [3, 2, 1])] and len(drawn_by) == 1 and closed == [1]


def test_a_screen_that_goes_away_is_one_line_and_the_run_goes_on(monkeypatch, capfd):
    def gone(*_):
        raise cv2.error("no screen")

    monkeypatch.setattr(window, "PROBE", "pass")
    monkeypatch.setattr(cv2, "imshow", gone)
    with window.Windows() as windows:
        windows.view("a", drawn).see(FRAME, MASK)
        give_up = time.monotonic() + 10
        while any(thread.name == "windows" for thread in threading.enumerate()):
            assert time.monotonic() < give_up
            time.sleep(0.01)
    assert capfd.readouterr().err == "the windows are closed: no screen\n"


def test_a_client_that_leaves_stops_nothing(page, capfd):
    view = page.view("camera:0", drawn)
    view.see(FRAME, MASK)
    asked(page, "/0.mjpeg").close()
    view.see(FRAME, MASK)
    assert asked(page, "/0.jpg").status == 200 and capfd.readouterr().err == "" and preview.HOST == "127.0.0.1"
