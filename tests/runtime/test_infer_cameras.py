"""`runtime.infer` on several cameras, with captures that do what they are told and an engine made of NumPy."""

import json
import urllib.request

import pytest

from runtime import cli, infer
from runtime.errors import FrameError, OutputError
from runtime.infer_options import MOST_CAMERAS, options_of
from runtime.media import camera
from runtime.media.plan import plan_of
from tests.helpers import fake_backend
from tests.helpers.fake_backend import files_below
from tests.helpers.videos import read_video
from tests.runtime.media.test_camera import Capture
from tests.runtime.test_infer_bad_input import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


@pytest.fixture
def captures(monkeypatch):
    """A camera of 50 frames for each address but camera:9."""
    found = {}

    def opened(given):
        if given == "camera:9":
            raise FrameError("camera:9: cannot be opened")
        found[given] = Capture()
        found[given].show(50)
        return found[given]

    monkeypatch.setattr(camera, "_opened", opened)
    monkeypatch.setattr(camera, "MISSES", 3)
    return found


def test_several_cameras_are_recorded_at_once_each_in_its_own_files(here, capfd, monkeypatch, captures):
    assert run("camera:0", "camera:1", "-o", "out", "--reconnect", "0", "--json", monkeypatch=monkeypatch) == cli.FAILED
    printed = capfd.readouterr()
    document = json.loads(printed.out)
    assert sorted(stream["input"] for stream in document["files"]) == ["camera:0", "camera:1"]
    for stream in document["files"]:
        assert stream["frames"] + stream["dropped"] == 50
        assert len(read_video(here / stream["outputs"]["overlay"])[0]) == stream["frames"]
    assert len(fake_backend.opened) == 2 and len(files_below(here / "out")) == 2
    for name in ("camera:0", "camera:1"):
        assert f"error: {name}: gives no more frames" in printed.err
    assert "damaged" not in printed.err


def test_a_camera_that_is_not_there_is_said_and_the_others_go_on(here, capfd, monkeypatch, captures):
    assert run("camera:9", "camera:0", "-o", "out", "--reconnect", "0", monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err
    assert "error: camera:9: cannot be opened" in err and len(files_below(here / "out")) == 1
    assert "error: camera:0: gives no more frames" in err


def test_a_full_disk_ends_all_cameras(here, monkeypatch, captures):
    def full(*_, **__):
        raise OutputError("the disk is full")

    monkeypatch.setattr("runtime.media.recording.VideoWriter", full)
    with pytest.raises(OutputError, match="the disk is full"):
        infer.main(["camera:0", "camera:1", "-o", "out", "--reconnect", "0"])


def test_counts_of_cameras_do_not_mix(here, capsys, captures):
    infer.main(["camera:0", "camera:1", "-o", "out", "--reconnect", "0", "--stats", "counts.csv", "--jsonl"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    rows = [row.split(",") for row in (here / "counts.csv").read_text().splitlines()]
    column = rows[0].index("pixels")
    for stream in lines:
        pixels = sum(int(row[column]) for row in rows[1:] if row[0] == stream["input"])
        assert pixels == stream["frames"] * stream["height"] * stream["width"]


def test_looking_on_is_told_and_ends_with_the_run(here, capsys, captures):
    infer.main(["camera:0", "-o", "out", "--reconnect", "0", "--show"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("look on at ")]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(line.split()[-1], timeout=5)


def test_cameras_that_differ_in_what_is_hidden_have_names_of_their_own(here):
    plan = plan_of(options_of(["rtsp://h/a?key=1", "rtsp://h/a?key=2"]))
    first, second = (address.task.outputs["overlay"].name for address in plan.addresses)
    assert second == first.replace("_overlay", "-2_overlay") and "key=1" not in first


def test_a_camera_that_is_given_twice_is_refused(here):
    with pytest.raises(FrameError, match="camera:0: is given twice"):
        infer.main(["camera:0", "camera:0"])


def test_a_pipeline_is_refused_before_an_engine_is_opened(here):
    with pytest.raises(Exception, match="built without GStreamer"):
        infer.main(["gst:videotestsrc ! appsink"])
    assert fake_backend.opened == []


def test_nothing_is_asked_of_streams(here):
    with pytest.raises(FrameError, match="a stream is as its camera sends it"):
        infer.main(["rtsp://h/a", "--camera-fps", "30"])


def test_a_password_is_not_kept_in_run_json(here, captures):
    infer.main(["rtsp://admin:hunter2@h/live", "-o", "out", "--reconnect", "0"])
    assert "hunter2" not in (text := (here / "out" / "run.json").read_text()) and "rtsp://h/live" in text


@pytest.mark.parametrize(
    "argv",
    [
        ["camera:0", "--camera-size", "1280"],
        ["camera:0", "--camera-size", "0x720"],
        ["camera:0", "--camera-fps", "0"],
        ["camera:0", "--camera-fps", "1e9"],
        ["camera:0", "--camera-format", "JPEG2"],
        ["camera:0", "--reconnect", "-1"],
        ["camera:0", "--reconnect", "nan"],
        ["camera:0", "--show-port", "65536"],
        ["camera:0", "--list", "x"],
        [f"camera:{i}" for i in range(MOST_CAMERAS + 1)],
    ],
)
def test_wrong_usage_is_exit_code_2(here, capfd, monkeypatch, argv):
    assert run(*argv, monkeypatch=monkeypatch) == cli.USAGE
    assert "Traceback" not in capfd.readouterr().err


def test_size_rate_and_format_are_read_as_cameras_say_them():
    options = options_of(["camera:0", "--camera-size", "1280x720", "--camera-fps", "29.97", "--camera-format", "mjpg"])
    assert (options.camera_size, options.camera_fps, options.camera_format) == ((720, 1280), 29.97, "MJPG")
