"""Videos as frames."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.errors import FrameError
from runtime.media import video
from runtime.media.frames import write_png
from runtime.media.pipeline import END
from runtime.media.video import VideoReader, first_frame, is_video
from tests.helpers.videos import SIZE, damage, moving, turned, two_films, write_video

# Colours of two by two pixels are one in 4:2:0, and 8 bits of luma are 219 steps; in 4:4:4 without loss the rest stays.
NEAR, CLOSE = 12.0, 2.0


def read_all(path: Path) -> tuple[list[np.ndarray], list[float], list[str]]:
    """Frames, times in seconds, and what was said of those that are lost."""
    with VideoReader(path) as reader:
        return drained(reader)


def drained(reader: VideoReader) -> tuple[list[np.ndarray], list[float], list[str]]:
    frames, times, said = [], [], []
    while True:
        try:
            found = reader.read()
        except FrameError as error:
            said.append(str(error))
            continue
        if found is END:
            return frames, times, said
        frames.append(found.pixels)
        times.append(float(found.pts * reader.time_base))


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.avi", "x.ts", "x.mov"])
def test_every_frame_comes_once_in_order_with_its_pixels(tmp_path, name):
    given = moving(30)
    frames, times, said = read_all(write_video(tmp_path / name, given))
    assert len(frames) == 30 and said == []
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous and frame.shape == (*SIZE, 3) for frame in frames)
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, given, strict=True)) < NEAR
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)


def test_a_file_tells_its_rate_and_length(tmp_path):
    with VideoReader(write_video(tmp_path / "x.mkv", moving(30), rate=10)) as reader:
        assert reader.rate == 10 and reader.frames == 30 and reader.seconds == pytest.approx(3)


def test_times_of_a_variable_rate_are_kept(tmp_path):
    given = [0, 0.04, 0.5, 0.51, 2.0]
    _, times, said = read_all(write_video(tmp_path / "x.mp4", moving(5), times=given))
    np.testing.assert_allclose(times, given, atol=1e-4)
    assert said == []


@pytest.mark.parametrize(("matrix", "full_range"), [(1, False), (5, False), (5, True), (1, True)])
def test_colours_follow_the_matrix_and_the_range_of_the_file(tmp_path, matrix, full_range):
    given = moving(3)
    path = write_video(tmp_path / "x.mkv", given, pix_fmt="yuv444p", matrix=matrix, full_range=full_range)
    frames, _, _ = read_all(path)
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, given, strict=True)) < CLOSE


def test_a_video_that_was_filmed_sideways_is_turned_as_opencv_turns_it(tmp_path):
    path = turned(write_video(tmp_path / "x.mp4", moving(3)))
    frames, _, _ = read_all(path)
    read, expected = cv2.VideoCapture(str(path)).read()
    assert read and frames[0].shape == expected.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(frames[0].astype(int) - expected[..., ::-1]).mean() < NEAR


def test_odd_sizes_are_read(tmp_path):
    frames, _, _ = read_all(write_video(tmp_path / "x.mkv", moving(2, (37, 51)), pix_fmt="yuv444p"))
    assert frames[0].shape == (37, 51, 3)


@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.mkv", "x.ts"])
def test_damaged_frames_are_said_or_missed_and_the_rest_goes_on(tmp_path, name):
    path = damage(write_video(tmp_path / name, moving(60), key_every=6))
    with VideoReader(path) as reader:
        frames, times, said = drained(reader)
        missing = reader.missing
    assert 40 <= len(frames) < 60 and times == sorted(times)
    assert all(str(path) in line and "damaged" in line for line in said)
    # Of a frame whose container's bytes are gone nothing is left but the gap.
    assert len(frames) + missing == 60 if name == "x.ts" else len(said) > 0
    assert len(frames) + len(said) == 60 or name != "x.mp4"


@pytest.mark.parametrize(
    ("times", "missing"), [([0, 1, 2, 3, 6, 7, 8, 9, 11, 12, 13, 14], 3), ([0, 1, 3, 7, 8, 12], 0)]
)
def test_frames_are_missed_where_the_rate_is_constant(tmp_path, times, missing):
    path = write_video(tmp_path / "x.mp4", moving(len(times)), times=[time / 25 for time in times])
    with VideoReader(path) as reader:
        assert reader.missing == 0 and drained(reader)[2] == [] and reader.missing == missing


def test_a_file_that_ends_before_its_time_is_said(tmp_path):
    path = write_video(tmp_path / "x.mkv", moving(100))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, times, said = read_all(path)
    assert 20 < len(frames) < 80 and len(said) == 1
    assert f"ends at {times[-1] + 0.04:.2f} s of 4.00 s: cut off" in said[0]


def test_a_change_of_size_in_the_middle_is_given_as_it_is(tmp_path):
    small = write_video(tmp_path / "a.ts", moving(10)).read_bytes()
    large = write_video(tmp_path / "b.ts", moving(10, (96, 128))).read_bytes()
    (tmp_path / "x.ts").write_bytes(small + large)
    frames, times, _ = read_all(tmp_path / "x.ts")
    assert {frame.shape[:2] for frame in frames} == {SIZE, (96, 128)} and times == sorted(times)
    assert len(set(times)) == len(times) >= 18


def test_a_raw_stream_without_times_is_counted(tmp_path):
    _, times, _ = read_all(write_video(tmp_path / "x.h264", moving(10)))
    assert len(times) == 10
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


NOT_VIDEOS = {
    "does not exist": lambda path: None,
    "is not a file": lambda path: path.mkdir(),
    "is not a video": lambda path: path.write_bytes(b"this is not a video" * 100),
    "cut off before": lambda path: path.write_bytes(b""),
    "has no pictures": sound_only,
    "too small": lambda path: write_video(path, moving(2, (8, 64))),
    "too large": lambda path: write_video(path, [np.zeros((48, 64, 3), np.uint8)]),
}


@pytest.mark.parametrize("said", NOT_VIDEOS)
def test_what_is_no_video_is_refused_with_its_name(tmp_path, monkeypatch, said):
    if said == "too large":
        monkeypatch.setattr("runtime.media.frames.MAX_PIXELS", 1000)
    NOT_VIDEOS[said](tmp_path / "x.mp4")
    with pytest.raises(FrameError, match=said) as caught:
        first_frame(tmp_path / "x.mp4")
    assert "x.mp4" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    class Refusing:
        error = av.error

        @staticmethod
        def open(path, **_):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(video, "library", lambda: Refusing)
    with pytest.raises(FrameError, match=r"cannot be read \(Permission denied"):
        VideoReader(write_video(tmp_path / "x.mp4", moving(2)))


@pytest.mark.parametrize("name", ["file:drive.mp4", "12:30:15.mp4", "frame%03d.mp4", "-x.mp4"])
def test_a_name_is_a_file_and_no_protocol(tmp_path, monkeypatch, name):
    dark, light = ([np.full((*SIZE, 3), level, np.uint8)] * 2 for level in (10, 240))
    write_video(tmp_path / "drive.mp4", light)
    write_video(tmp_path / name, dark)
    monkeypatch.chdir(tmp_path)
    assert first_frame(Path(name)).mean() < 30


def test_a_title_in_latin_1_is_no_matter(tmp_path):
    path = write_video(tmp_path / "x.avi", moving(3), title="Strasse1")
    path.write_bytes(path.read_bytes().replace(b"Strasse1", "Straße 1".encode("latin1")))
    assert len(read_all(path)[0]) == 3


@pytest.mark.parametrize("name", ["x.h264", "x.264", "x.3gp", "x.mts", "x.unknown", "x"])
def test_a_video_is_known_by_its_name_or_by_what_is_in_it(tmp_path, name):
    path = write_video(tmp_path / "x.mts", moving(5)) if name in ("x.unknown", "x") else tmp_path / name
    if path.exists():
        path = path.rename(tmp_path / name)
    else:
        write_video(path, moving(5))
    assert is_video(path) and len(read_all(path)[0]) == 5


def test_what_is_no_video_is_none(tmp_path):
    assert not is_video(tmp_path / "none") and not is_video(tmp_path)
    (tmp_path / "text").write_text("a line of text\n" * 100)
    write_png(tmp_path / "x.png", moving(1)[0])
    (tmp_path / "png").write_bytes((tmp_path / "x.png").read_bytes())
    assert not any(is_video(tmp_path / name) for name in ("text", "x.png", "png"))


def test_a_gif_of_several_moments_is_a_video_and_one_of_one_a_picture(tmp_path):
    for count in (1, 5):
        moments = [Image.fromarray(frame) for frame in moving(count)]
        moments[0].save(tmp_path / f"{count}.gif", save_all=True, append_images=moments[1:], duration=40)
    assert not is_video(tmp_path / "1.gif") and is_video(tmp_path / "5.gif")
    assert len(read_all(tmp_path / "5.gif")[0]) == 5


def test_raw_motion_jpeg_is_read_to_its_end(tmp_path):
    path = write_video(tmp_path / "x.mjpeg", moving(5), codec="mjpeg", pix_fmt="yuvj420p")
    assert is_video(path) and len(read_all(path)[0]) == 5


@pytest.mark.parametrize("name", ["x.mkv", "x.webm"])
def test_a_file_that_begins_late_or_whose_sound_is_longer_is_whole(tmp_path, name):
    codec = {"codec": "libvpx-vp9"} if name == "x.webm" else {}
    times = [10 + i / 10 for i in range(30)]
    assert read_all(write_video(tmp_path / name, moving(30), times=times, **codec))[2] == []
    assert read_all(write_video(tmp_path / name, moving(30), rate=10, sound_s=8, **codec))[2] == []


def test_a_second_film_in_a_file_is_said(tmp_path):
    with VideoReader(write_video(tmp_path / "x.mp4", moving(3))) as reader:
        assert reader.notes == []
    with VideoReader(two_films(tmp_path / "x.mp4")) as reader:
        assert len(reader.notes) == 1 and "holds 2 films (48x64, 48x64): number 1 is read" in reader.notes[0]


def test_closing_in_the_middle_lets_go_of_the_file_and_may_be_done_twice(tmp_path):
    reader = VideoReader(write_video(tmp_path / "x.mp4", moving(20)))
    reader.read()
    reader.close()
    reader.close()
    assert reader.read() is END
