"""Videos of masks and overlays."""

import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.errors import OutputError
from runtime.labels import CAMVID, palette
from runtime.media.outputs import Look, Seen
from runtime.media.recording import Recording, VideoWriter
from runtime.media.video import TimedFrame
from runtime.reference import overlay
from runtime.threads import limited
from tests.helpers.videos import SIZE, moving, read_video

ROOT = Path(__file__).parents[3]
LOOK = Look(palette(CAMVID), 0.5)
TIME_BASE = Fraction(1, 1000)
RATE = Fraction(25)
# Colours of two by two pixels are one, and constant quality 20 is not lossless.
NEAR = 12.0
FLAT = 4  # of 255: luma has 219 steps and colour 224, rounded, and read back by a matrix with factors up to 2.1


def mask_of(frame: np.ndarray) -> np.ndarray:
    return (frame.sum(axis=2) % len(CAMVID)).astype(np.uint8)


def record(path: Path, frames: list[np.ndarray], times_ms: list[int]) -> None:
    with VideoWriter(path, frames[0], RATE, TIME_BASE) as writer:
        for pixels, time_ms in zip(frames, times_ms, strict=True):
            writer.write(pixels, time_ms)


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4"])
def test_a_repeatable_video_has_the_same_bytes_whatever_the_threads(tmp_path, name):
    frames = [frame if name == "x.mp4" else mask_of(frame) for frame in moving(30, (96, 128))]

    def written(threads: int, *, repeatable: bool) -> bytes:
        with (
            limited(threads),
            VideoWriter(tmp_path / name, frames[0], RATE, TIME_BASE, repeatable=repeatable) as writer,
        ):
            for number, pixels in enumerate(frames):
                writer.write(pixels, 40 * number)
        return (tmp_path / name).read_bytes()

    assert written(1, repeatable=True) == written(2, repeatable=True)
    if name == "x.mkv":  # whose muxer draws a number; so small, x264 takes one thread whatever it is told
        assert written(1, repeatable=False) != written(2, repeatable=False)
    else:  # by which AVX-512 gives other bytes now and then
        assert b"mbtree=0" in written(1, repeatable=True) and b"mbtree=1" in written(1, repeatable=False)
    stored, _ = read_video(tmp_path / name, "rgb24" if name == "x.mp4" else "gray")
    assert len(stored) == 30


def growing(folder: Path) -> list[Path]:
    """Videos in the folder that are not complete."""
    return list(folder.glob("*.part.*"))


@pytest.mark.parametrize("size", [SIZE, (37, 51), (1, 1)])
def test_a_video_has_the_frames_and_an_odd_side_one_more(tmp_path, size):
    given = moving(30, (38, 52))
    given = [frame[: size[0], : size[1]] for frame in given] if size != SIZE else moving(30)
    record(tmp_path / "x.mp4", given, list(range(0, 1200, 40)))
    frames, _ = read_video(tmp_path / "x.mp4")
    assert len(frames) == 30 and frames[0].shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    for frame, pixels in zip(frames, given, strict=True):
        assert np.abs(frame[: size[0], : size[1]].astype(int) - pixels).mean() < NEAR


@pytest.mark.parametrize("size", [(16, 16), (17, 19), (18, 33), (33, 18), (30, 250)], ids=str)
def test_every_frame_becomes_what_a_converter_of_its_own_makes_of_it(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", frames[0], Fraction(25), Fraction(1, 25)) as video:
        for frame in (*frames, np.ascontiguousarray(frames[0].transpose(1, 0, 2)).transpose(1, 0, 2)):
            even = np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), "edge")
            expected = av.VideoFrame.from_ndarray(even, "rgb24").reformat(
                format="yuv420p", dst_colorspace=1, dst_color_range=1
            )
            np.testing.assert_array_equal(video._yuv(frame).to_ndarray(), expected.to_ndarray())


def test_an_odd_side_is_not_scaled(tmp_path):
    stripes = np.zeros((37, 51, 3), np.uint8)
    stripes[:, ::2] = 255
    record(tmp_path / "x.mp4", [stripes] * 3, [0, 40, 80])
    (frame, *_), _ = read_video(tmp_path / "x.mp4")
    assert np.abs(frame[:37, :51].astype(int) - stripes).mean() < NEAR


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (128, 64, 128), (220, 20, 60), (0, 0, 142)])
def test_a_flat_colour_is_kept(tmp_path, color):
    record(tmp_path / "x.mp4", [np.full((*SIZE, 3), color, np.uint8)] * 3, [0, 40, 80])
    assert np.abs(read_video(tmp_path / "x.mp4")[0][1].astype(int) - color).max() <= FLAT


@pytest.mark.parametrize("size", [SIZE, (37, 51), (1, 1)])
def test_ids_are_kept_to_the_last_bit(tmp_path, size):
    given = [np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8) for i in range(10)]
    record(tmp_path / "x.mkv", given, list(range(0, 400, 40)))
    frames, _ = read_video(tmp_path / "x.mkv", "gray")
    np.testing.assert_array_equal(frames, given)


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_times_are_kept_from_the_first_frame_on(tmp_path, name):
    given = [5000, 5040, 5500, 5510, 7000]
    frames = moving(5) if name == "x.mp4" else [mask_of(frame) for frame in moving(5)]
    record(tmp_path / name, frames, given)
    np.testing.assert_allclose(read_video(tmp_path / name)[1], [0, 0.04, 0.5, 0.51, 2.0], atol=1e-3)


def test_a_video_without_frames_leaves_nothing(tmp_path):
    VideoWriter(tmp_path / "x.mp4", moving(1)[0], RATE, TIME_BASE).close()
    assert list(tmp_path.iterdir()) == []


def test_times_that_stand_still_or_go_back_come_a_moment_later(tmp_path):
    record(tmp_path / "x.mp4", moving(5), [0, 40, 40, 20, 100])
    _, times = read_video(tmp_path / "x.mp4")
    np.testing.assert_allclose(times, [0, 0.04, 0.041, 0.042, 0.1], atol=5e-4)


def test_an_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"older")
    writer = VideoWriter(path, moving(1)[0], RATE, TIME_BASE)
    for i, frame in enumerate(moving(100)):
        writer.write(frame, 40 * i)
    assert path.read_bytes() == b"older" and len(growing(tmp_path)) == 1
    writer.close()
    writer.close()
    assert len(read_video(path)[0]) == 100 and sorted(tmp_path.iterdir()) == [path]


def test_a_complete_file_tells_its_length_and_its_colours(tmp_path):
    record(tmp_path / "x.mp4", moving(50), list(range(0, 2000, 40)))
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == 50 and stream.average_rate == 25
        assert stream.codec_context.colorspace == 1 and stream.codec_context.color_range == 1


WRITE_AND_STOP = """
import os, resource, signal, sys
from fractions import Fraction
from pathlib import Path
from runtime.errors import OutputError
from runtime.media.recording import VideoWriter
from tests.helpers.videos import moving
path, limit = Path(sys.argv[1]), int(sys.argv[2])
frames = moving(16, (240, 320))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with VideoWriter(path, frames[0], Fraction(25), Fraction(1, 25)) as writer:
        for i in range(400):
            writer.write(frames[i % 16 if limit else 0], i)
        if not limit:
            os.kill(os.getpid(), signal.SIGKILL)
except OutputError as error:
    print(error)
"""


def stopped(path: Path, limit_bytes: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITE_AND_STOP, str(path), str(limit_bytes)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_killed_process_leaves_a_video_that_plays_but_for_the_last_seconds(tmp_path):
    assert stopped(tmp_path / "x.mp4").returncode == -signal.SIGKILL
    frames, times = read_video(growing(tmp_path)[0])
    assert 300 <= len(frames) < 400 and times[-1] == pytest.approx((len(frames) - 1) / 25, abs=1e-3)


def test_a_full_disk_is_one_line_and_what_was_written_plays(tmp_path):
    done = stopped(tmp_path / "x.mp4", 60_000)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1 and "x.mp4 cannot be written (File too large): free some space" in done.stdout
    frames, _ = read_video(tmp_path / "x.mp4")
    assert len(frames) >= 50 and growing(tmp_path) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(OutputError, match=r"file/x\.mp4 cannot be written"):
        VideoWriter(tmp_path / "file" / "x.mp4", moving(1)[0], RATE, TIME_BASE)
    with pytest.raises(OutputError, match=r"x\.mp4 cannot be written .Is a directory"):
        record(tmp_path / "x.mp4", moving(1), [0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.mp4"]


def recorded(tmp_path: Path, frames: list[np.ndarray]) -> Recording:
    outputs = {"ids": tmp_path / "x_ids.mkv", "color": tmp_path / "x_color.mp4", "overlay": tmp_path / "x_overlay.mp4"}
    with Recording(outputs, LOOK, RATE, TIME_BASE) as recording:
        for i, frame in enumerate(frames):
            recording.write(TimedFrame(frame, 40 * i), Seen(mask_of(frame)))
    return recording


def test_every_kind_is_recorded(tmp_path):
    # Classes in patches: in a picture of noise the colours of two by two pixels say nothing.
    given = [np.kron(frame[::12, ::16], np.ones((12, 16, 1), np.uint8)) for frame in moving(6)]
    recorded(tmp_path, given)
    np.testing.assert_array_equal(read_video(tmp_path / "x_ids.mkv", "gray")[0], [mask_of(frame) for frame in given])
    for kind, expected in (("color", LOOK.pixels("color", given[2], Seen(mask_of(given[2])))),
                           ("overlay", overlay(given[2], mask_of(given[2]), LOOK.palette, 0.5))):  # fmt: skip
        assert np.abs(read_video(tmp_path / f"x_{kind}.mp4")[0][2].astype(int) - expected).mean() < NEAR


def test_a_change_of_size_begins_files_of_their_own_and_completes_the_others(tmp_path):
    recording = recorded(tmp_path, [*moving(4), *moving(3, (96, 128))])
    names = ["x_ids.mkv", "x_color.mp4", "x_overlay.mp4"]
    later = ["x_ids.size2.mkv", "x_color.size2.mp4", "x_overlay.size2.mp4"]
    assert [path.name for _, path in recording.written] == names + later
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names + later)
    for path, count in zip(names + later, [4] * 3 + [3] * 3, strict=True):
        assert len(read_video(tmp_path / path)[0]) == count


def test_nothing_is_made_before_the_first_frame(tmp_path):
    recorded(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
