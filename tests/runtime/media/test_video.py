"""Videos as frames."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media import video
from runtime.media.pipeline import END
from runtime.media.video import VideoReader, first_frame
from tests.helpers.videos import SIZE, damage, moving, turned, write_video

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


def test_closing_in_the_middle_lets_go_of_the_file_and_may_be_done_twice(tmp_path):
    reader = VideoReader(write_video(tmp_path / "x.mp4", moving(20)))
    reader.read()
    reader.close()
    reader.close()
    assert reader.read() is END
