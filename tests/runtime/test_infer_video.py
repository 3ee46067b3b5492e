"""`runtime.infer` on videos and cameras, from the command line to the files, with an engine made of NumPy."""

import functools
import http.server
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import cli, infer
from runtime.errors import OutputError
from runtime.media import camera
from tests.helpers import fake_backend
from tests.helpers.fake_backend import PICTURE, files_below, write_fake_engine
from tests.helpers.videos import SIZE, damage, moving, read_video, write_video
from tests.runtime.media.test_camera import Capture
from tests.runtime.test_infer_bad_input import run, started


@pytest.fixture
def here(tmp_path, monkeypatch):
    return fake_backend.working_folder(tmp_path, monkeypatch)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def expected_ids(path: Path) -> list[np.ndarray]:
    return [fake_backend.expected_mask(frame) for frame in read_video(path)[0]]


@pytest.mark.parametrize("how", ["overlapped", "--sequential", "--lanes=3"])
def test_every_frame_has_the_mask_of_its_pixels_and_its_time(here, how):
    times = list(np.cumsum([0.04, 0.08, 0.02] * 8))
    write_video(here / "v.mp4", moving(24), times=times)
    argv = ["v.mp4", "-o", "out", "--save", "ids,overlay", *([how] if how[0] == "-" else [])]
    assert infer.main(argv) == cli.DONE
    assert files_below(here / "out") == ["v_mp4_ids.mkv", "v_mp4_overlay.mp4"]
    ids, ids_times = read_video(here / "out" / "v_mp4_ids.mkv", "gray")
    np.testing.assert_array_equal(ids, expected_ids(here / "v.mp4"))
    for got in (ids_times, read_video(here / "out" / "v_mp4_overlay.mp4")[1]):
        np.testing.assert_allclose(got, np.subtract(times, times[0]), atol=1e-3)


def test_a_video_gives_its_overlay_and_a_summary(here, capsys):
    write_video(here / "v.mp4", moving(30))
    assert infer.main(["v.mp4", "-o", "out"]) == cli.DONE
    printed = capsys.readouterr()
    assert printed.out.split() == ["out/v_mp4_overlay.mp4"] == [f"out/{name}" for name in files_below(here / "out")]
    assert printed.err.startswith(f"{fake_backend.CHOSEN}v.mp4: 30 frames in ") and printed.err.endswith(" a second\n")


def test_seconds_of_a_video_are_of_its_own_time(here, capsys):
    write_video(here / "v.mp4", moving(30))
    assert infer.main(["v.mp4", "-o", "out", "--seconds", "0.4"]) == cli.DONE
    assert len(read_video(here / "out" / "v_mp4_overlay.mp4")[0]) == 10
    assert "v.mp4: 10 frames in " in capsys.readouterr().err


def test_a_video_without_frames_fails(here, capsys):
    (here / "v.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n")
    assert infer.main(["v.y4m", "-o", "out"]) == cli.FAILED
    assert "v.y4m: holds no frame that can be decoded" in capsys.readouterr().err and files_below(here / "out") == []


def test_the_shape_of_pixels_is_kept_and_said(here, capsys):
    write_video(here / "v.mp4", moving(3), aspect=Fraction(4, 3))
    assert infer.main(["v.mp4", "-o", "out", "--json"]) == cli.DONE
    with av.open(str(here / "out" / "v_mp4_overlay.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["files"][0]["notes"][0] in printed.err and "has pixels of 4:3" in printed.err


def test_a_finished_file_at_an_address_is_read_to_its_end_and_no_frame_is_dropped(here, capsys):
    write_video(here / "v.mp4", moving(30))
    with served(here) as address:
        assert infer.main([f"{address}/v.mp4", "-o", "out", "--save", "ids"]) == cli.DONE
    assert len(read_video(here / "out" / "v_mp4_ids.mkv", "gray")[0]) == 30
    assert "30 frames in" in (told := capsys.readouterr().err) and "dropped" not in told


def test_stages_tell_the_times_and_the_busy_share_of_each(here, capsys):
    write_video(here / "v.mp4", moving(30))
    infer.main(["v.mp4", "--stages"])
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(infer.STAGES)] == list(infer.STAGES)
    assert "busy: decode " in out and "30 frames in" in out


def test_a_folder_has_pictures_and_videos(here, capsys):
    (here / "in").mkdir()
    (here / "in" / "p.png").write_bytes(PICTURE)
    write_video(here / "in" / "p.mkv", moving(4))
    write_video(here / "in" / "q.MP4", moving(4))
    assert infer.main(["in", "-o", "out", "--save", "color"]) == cli.DONE
    assert files_below(here / "out" / "in") == ["p_mkv_color.mp4", "p_png_color.png", "q_MP4_color.mp4"]


def test_json_tells_everything_of_a_video(here, capsys):
    damage(write_video(here / "v.mp4", moving(60), key_every=6))
    assert infer.main(["v.mp4", "a.png", "--json"]) == cli.FAILED
    document = json.loads(capsys.readouterr().out)
    picture, video = document["files"]
    assert picture["input"] == "a.png" and video["input"] == "v.mp4"
    assert (video["height"], video["width"]) == SIZE and video["outputs"] == {
        "overlay": "artifacts/masks/v_mp4_overlay.mp4"
    }
    assert video["frames"] + video["damaged"] + video["missing"] == 60 and video["damaged"] > 0 == video["dropped"]
    assert video["fps"] == pytest.approx(video["frames"] / video["seconds"], rel=0.01)
    assert set(video["milliseconds"]) == {"decode", "segment", *fake_backend.STAGES_MS, "encode"}
    assert set(video["busy"]) == set(infer.WHOLE) and sum(video["shares"].values()) == pytest.approx(1)
    assert all(error["input"] == "v.mp4" for error in document["errors"])


def test_damaged_frames_are_a_few_lines_and_the_rest_is_recorded(here, capfd, monkeypatch):
    damage(write_video(here / "v.mp4", moving(60), key_every=6), count=1500)
    assert run("v.mp4", "--save", "ids", "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    *lines, summary, about_ids = capfd.readouterr().err.removeprefix(fake_backend.CHOSEN).splitlines()
    assert about_ids.startswith("out/v_mp4_ids.mkv holds class ids")
    assert 0 < len(lines) <= infer.SAID_OF_A_STREAM and all("is damaged and left out" in line for line in lines)
    frames = int(summary.split()[1])
    assert frames > 30 and len(read_video(here / "out" / "v_mp4_ids.mkv")[0]) == frames
    assert f", {60 - frames} damaged" in summary


def test_frames_that_left_no_trace_are_counted_by_their_times(here, capsys):
    damage(write_video(here / "v.ts", moving(60), key_every=6))
    infer.main(["v.ts", "--json"])
    printed = capsys.readouterr()
    (stream,) = json.loads(printed.out)["files"]
    assert stream["missing"] > 0 and stream["frames"] + stream["damaged"] + stream["missing"] == 60
    assert f", {stream['missing']} missing by their times" in printed.err


def test_a_video_that_is_none_is_one_line_and_the_others_are_done(here, capfd, monkeypatch):
    (here / "bad.mp4").write_bytes(b"not a video")
    write_video(here / "v.mp4", moving(3))
    assert run("bad.mp4", "v.mp4", "-o", "out", "--warmup", "2", monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err.removeprefix(fake_backend.CHOSEN).splitlines()
    assert err[0].startswith("error: bad.mp4: is not a video") and err[-1] == "error: 1 of 2 inputs failed, 1 done"
    assert files_below(here / "out") == ["v_mp4_overlay.mp4"] and fake_backend.opened[0].segmented == 3 + 2


def test_a_change_of_size_is_recorded_in_two_files(here, capsys):
    parts = [write_video(here / f"{i}.ts", moving(8, size)).read_bytes() for i, size in enumerate((SIZE, (96, 128)))]
    (here / "v.ts").write_bytes(b"".join(parts))
    infer.main(["v.ts", "-o", "out"])
    assert files_below(here / "out") == ["v_ts_overlay.mp4", "v_ts_overlay.size2.mp4"]
    assert capsys.readouterr().out.split() == ["out/v_ts_overlay.mp4", "out/v_ts_overlay.size2.mp4"]


def test_seconds_end_a_video_in_time(here):
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.05)
    write_video(here / "v.mp4", moving(100))
    assert infer.main(["v.mp4", "-o", "out", "--seconds", "0.3"]) == cli.DONE
    assert 0 < len(read_video(here / "out" / "v_mp4_overlay.mp4")[0]) < 50


def test_an_output_that_is_an_input_is_refused(here):
    for name in ("v.mp4", "v_mp4_overlay.mp4"):
        write_video(here / name, moving(2))
    with pytest.raises(OutputError, match=r"v_mp4_overlay\.mp4 would overwrite an input"):
        infer.main([".", "-o", "."])


def test_without_pyav_one_line_names_the_command(here, capfd, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert run("v.mp4", "-o", "out", monkeypatch=monkeypatch) == cli.FAILED
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "pip install 'street-segmentation[video]'" in err and fake_backend.opened == []


@pytest.mark.parametrize(
    "argv", [["camera:0", "a.png"], ["v.mp4", "--lanes", "0"], ["v.mp4", "--seconds", "0"], ["v.mp4", "--seconds", "x"]]
)
def test_wrong_usage_is_exit_code_2(here, capfd, monkeypatch, argv):
    assert run(*argv, monkeypatch=monkeypatch) == cli.USAGE


@pytest.fixture
def capture(monkeypatch):
    found = Capture()
    monkeypatch.setattr(camera, "_opened", lambda given: found)
    monkeypatch.setattr(camera, "MISSES", 20)
    return found


def test_a_camera_is_recorded_until_it_is_unplugged(here, capfd, monkeypatch, capture):
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.01)
    capture.show(50)
    assert run("camera:0", "-o", "out", "--reconnect", "0", "--json", monkeypatch=monkeypatch) == cli.FAILED
    printed = capfd.readouterr()
    (video,) = json.loads(printed.out)["files"]
    assert video["frames"] + video["dropped"] == 50 and video["frames"] > 0 and video["dropped"] > 0
    error, summary = printed.err.removeprefix(fake_backend.CHOSEN).splitlines()
    assert error.startswith("error: camera:0: gives no more frames") and f"{video['dropped']} dropped" in summary
    (name,) = files_below(here / "out")
    assert name.startswith("camera-0-") and len(read_video(here / "out" / name)[0]) == video["frames"]


def test_a_camera_gives_the_engine_its_newest_frame(here, monkeypatch, capture):
    # The engine takes 20 times as long as the camera: what it segments must not come from a queue.
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.1)
    seen = []
    real = fake_backend.FakeBackend.segment

    def look(self, frame):
        seen.append(capture.given - int(frame[0, 0, 2]))
        return real(self, frame)

    monkeypatch.setattr(fake_backend.FakeBackend, "segment", look)
    monkeypatch.setattr(Capture, "read", every(0.005, Capture.read))
    assert infer.main(["camera:0", "-o", "out", "--reconnect", "0", "--seconds", "1"]) == cli.DONE
    assert len(seen) >= 3 and np.median(seen) <= 2


def every(seconds, read):
    def slowly(self):
        time.sleep(seconds)
        self.show(1)
        return read(self)

    return slowly


# From here on as a program of its own.


def wait_for(folder: Path, name: str, size: int) -> None:
    give_up = time.monotonic() + 60
    while not any(path.stat().st_size > size for path in folder.glob(name)) and time.monotonic() < give_up:
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_complete_video_and_exit_code_130(here, number):
    write_fake_engine(here / "artifacts" / "engines", delay_s=0.01)
    write_video(here / "v.mp4", moving(2000))
    process = started(here, "v.mp4", "-o", "out")
    wait_for(here / "out", "v_mp4_overlay.*.part.mp4", 10_000)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "out/v_mp4_overlay.mp4\n"
    summary, interrupted = err.removeprefix(fake_backend.CHOSEN).splitlines()
    assert interrupted == "error: interrupted; what was finished is kept"
    frames = int(summary.split()[1])
    assert 0 < frames < 2000 and len(read_video(here / "out" / "v_mp4_overlay.mp4")[0]) == frames
    assert files_below(here / "out") == ["v_mp4_overlay.mp4"]


def test_a_full_disk_is_one_line_and_what_was_recorded_plays(here):
    write_video(here / "v.mp4", moving(400))
    process = started(here, "v.mp4", "-o", "out", limit_bytes=50_000)
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.FAILED and out == "out/v_mp4_overlay.mp4\n"
    assert err.count("\n") == 2 and "v_mp4_overlay.mp4 cannot be written (File too large): free some space" in err
    assert len(read_video(here / "out" / "v_mp4_overlay.mp4")[0]) >= 40
