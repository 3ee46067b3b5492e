"""Frames of damaged videos."""

import re
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media.pipeline import END
from runtime.media.video import VideoReader
from tests.helpers.videos import damage, moving, write_video

SPOILT, LEVELS = 0.01, 24  # of a frame's pixels are off by more: then it is another frame
CODECS = {
    "x.mkv": {"codec": "ffv1"},
    "x.mp4": {"extra": {"g": "10"}},
    "x.avi": {"codec": "mpeg4"},
    "x.ts": {"codec": "mpeg2video"},
    "x.webm": {"codec": "libvpx-vp9", "extra": {"deadline": "realtime", "cpu-used": "8", "b": "2000000"}},
}
SIZE = (96, 128)


def read(path: Path) -> tuple[dict[int, np.ndarray], list[str]]:
    """The frames by their times, and what was said of those that are lost."""
    frames, said = {}, []
    with VideoReader(path) as reader:
        while True:
            try:
                found = reader.read()
            except FrameError as error:
                said.append(str(error))
                continue
            if found is END:
                return frames, said
            frames[found.pts] = found.pixels


@pytest.mark.parametrize("name", CODECS)
def test_no_spoilt_frame_is_handed_on_and_those_before_and_behind_the_damage_are(tmp_path, name):
    settings = CODECS[name]
    muxer = {"cluster_size_limit": "20000"} if name == "x.mkv" else None
    path = write_video(tmp_path / name, moving(60, SIZE), key_every=10, muxer=muxer, **settings)
    whole, said = read(path)
    assert len(whole) == 60 and said == []
    got, said = read(damage(path, count=40))
    assert said and 30 <= len(got) < 60
    off = {pts: (np.abs(frame.astype(int) - whole[pts]).max(2) > LEVELS).mean() for pts, frame in got.items()}
    assert max(off.values()) < SPOILT
    assert min(got) == min(whole) and max(got) == max(whole)


def test_what_is_made_from_a_damaged_frame_is_left_out_until_the_next_key_frame(tmp_path):
    path = write_video(tmp_path / "x.mp4", moving(60, SIZE), key_every=20)
    _, said = read(damage(path, count=40))
    assert any("is damaged and left out" in line for line in said)
    assert 2 < sum("is made from a damaged one and left out" in line for line in said) < 20


def test_vp9_is_read_by_the_stricter_decoder_with_the_same_pixels(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.webm", moving(12, SIZE), codec="libvpx-vp9", transfer=16)
    strict, _ = read(path)
    monkeypatch.setattr("runtime.media.video.LIBVPX_FORMATS", ())
    plain, _ = read(path)
    assert strict.keys() == plain.keys() and len(strict) == 12
    for pts, frame in strict.items():
        np.testing.assert_array_equal(frame, plain[pts])


def test_a_vp9_frame_of_a_size_that_is_not_taken_is_refused_before_it_is_made(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.webm", moving(12, SIZE), codec="libvpx-vp9")
    with VideoReader(path) as reader:
        reader.read()
        monkeypatch.setattr("runtime.media.packets.largest_size", lambda packet: (40_000, 50_000))
        with pytest.raises(FrameError, match="40000x50000, 2000"):
            list(reader)


def test_damage_that_a_checksum_alone_tells_is_told(tmp_path, monkeypatch):
    path = write_video(tmp_path / "x.mkv", moving(20), key_every=5)
    monkeypatch.setattr("runtime.media.packets.Checksums.fit", lambda self, at: at is None or at < 2000)
    frames, said = read(path)
    assert len(frames) == 20 and len(said) == 1 and "checksums that do not fit" in said[0]


def test_joined_files_lose_nothing_and_go_on_a_step_later(tmp_path):
    part = write_video(tmp_path / "a.ts", moving(20)).read_bytes()
    (tmp_path / "x.ts").write_bytes(part + part)
    with VideoReader(tmp_path / "x.ts") as reader:
        times = [float(frame.pts * reader.time_base) for frame in reader]
    assert len(times) == 40
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)


def test_a_video_without_frames_is_an_error(tmp_path):
    whole = write_video(tmp_path / "x.avi", moving(1), codec="mpeg4").read_bytes()
    start = whole.index(b"movi")
    (tmp_path / "x.avi").write_bytes(whole[: start + 4].replace(whole[4:8], (start - 4).to_bytes(4, "little")))
    frames, said = read(tmp_path / "x.avi")
    assert frames == {} and len(said) == 1 and ("holds no frame" in said[0] or "cut off" in said[0])


def test_what_hevc_hands_on_behind_a_failure_is_left_out_though_it_says_key_frame(tmp_path):
    # Its pictures carry checksums, and the first one does not fit: FFmpeg fails there, and gives them all later.
    hashed = {"x265-params": "hash=1:info=0:log-level=none"}
    path = write_video(tmp_path / "x.mp4", moving(12, SIZE), codec="libx265", key_every=30, extra=hashed)
    whole, said = read(path)
    assert len(whole) == 12 and said == []
    got, said = read(damage(path, at=0.2, count=4))
    assert any("is damaged and left out" in line for line in said)
    assert got == {}


def test_a_damaged_mjpeg_frame_is_left_out_and_its_neighbours_are_not(tmp_path):
    path = write_video(tmp_path / "x.avi", moving(12, SIZE), codec="mjpeg", pix_fmt="yuvj420p", full_range=True)
    whole, _ = read(path)
    data = path.read_bytes()
    scans = [found.end() for found in re.finditer(rb"\xff\xda\0\x0c", data)]
    path.write_bytes(data[: scans[5] + 90] + b"\x55" * 4 + data[scans[5] + 94 :])
    got, said = read(path)
    assert len(said) == 1 and "0.20 s is damaged and left out" in said[0]
    assert sorted(whole.keys() - got.keys()) == [sorted(whole)[5]]
    for pts, frame in got.items():
        np.testing.assert_array_equal(frame, whole[pts])
