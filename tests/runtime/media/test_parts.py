"""Parts of a video are read by themselves, and together are the whole: no frame is lost or doubled at a seam."""

import numpy as np
import pytest

from runtime.errors import FrameError
from runtime.media.parts import MOST_LEADING, Packet, Part, parts_of
from runtime.media.video import VideoReader
from tests.helpers.videos import damage, moving, write_video

KINDS = {
    "B-frames": ("x.mp4", {"extra": {"bf": "3", "x264-params": "scenecut=0"}}),
    "an open GOP": ("x.mp4", {"extra": {"bf": "3", "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}}),
    "an open GOP in Matroska": ("x.mkv", {"extra": {"bf": "3", "x264-params": "open-gop=1:scenecut=0:b-adapt=0"}}),
    "an open GOP in a transport stream": ("x.ts", {"extra": {"bf": "2", "x264-params": "open-gop=1:scenecut=0"}}),
    "HEVC, open GOP": ("x.mp4", {"codec": "libx265", "extra": {"x265-params": "open-gop=1:bframes=3:log-level=0"}}),
    "MPEG-2": ("x.ts", {"codec": "mpeg2video", "extra": {"bf": "2"}}),
    "VP9": ("x.webm", {"codec": "libvpx-vp9", "extra": {"lag-in-frames": "8"}}),
    "every frame a key frame": ("x.mkv", {"codec": "ffv1", "key_every": 1}),
    "without B-frames": ("x.avi", {}),
    "MPEG-4 in AVI, whose times are made up": ("x.avi", {"codec": "mpeg4", "extra": {"bf": "2"}}),
    "HEVC in a transport stream": ("x.ts", {"codec": "libx265", "extra": {"x265-params": "bframes=3:log-level=0"}}),
    "sound beside it": ("x.mkv", {"sound_s": 2, "extra": {"bf": "2"}}),
}  # fmt: skip


def seen(path, part=None):
    """Times and pixels, a line for each frame that is lost, and what was made of the seams."""
    frames, lost = [], []
    with VideoReader(path, part) as reader:
        while True:
            try:
                frame = reader.read()
            except FrameError as error:
                lost.append(str(error))
                continue
            if not isinstance(frame, tuple):
                return frames, lost, reader.seams
            frames.append((frame.pts, frame.pixels.tobytes()))


def in_parts(path, seconds):
    with VideoReader(path) as reader:
        parts = reader.parts(seconds)
    return parts, [seen(path, part) for part in parts]


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_video_are_its_frames_once_each(tmp_path, kind):
    name, how = KINDS[kind]
    path = write_video(tmp_path / name, moving(60), **{"key_every": 8} | how)
    whole, lost, _ = seen(path)
    parts, found = in_parts(path, 0.5)
    assert len(parts) > 2
    assert [frame for frames, _, _ in found for frame in frames] == whole
    assert len(whole) == 60 and lost == [] and all(not told for _, told, _ in found)


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_of_a_seam_make_the_same_of_it(tmp_path, kind):
    name, how = KINDS[kind]
    path = write_video(tmp_path / name, moving(60), **{"key_every": 8} | how)
    seams = [seams for _, _, seams in in_parts(path, 0.5)[1]]
    assert [head for head, _ in seams[1:]] == [tail for _, tail in seams[:-1]]
    assert seams[0][0] == seams[-1][1] == "" and len({head for head, _ in seams}) == len(seams)


def test_a_key_frame_that_later_frames_look_past_is_found_at_its_seam(tmp_path):
    # Renewed strip by strip: what is marked as a key frame is whole only some frames later.
    extra = {"x264-params": "intra-refresh=1:scenecut=0", "bf": "0"}
    path = write_video(tmp_path / "x.mp4", moving(60), key_every=8, extra=extra)
    with VideoReader(path) as reader:
        packets = [packet for packet in reader._container.demux(reader._stream) if packet.size]
    begin = packets[24].pts
    first, second = Part(0, 24, 40, None, begin), Part(24, None, None, begin, None)
    assert seen(path, first)[2][1] != seen(path, second)[2][0]


def test_what_is_damaged_is_left_out_of_the_parts_as_of_the_whole(tmp_path):
    path = damage(write_video(tmp_path / "x.mp4", moving(120), key_every=12, extra={"bf": "2"}), 0.45, 300)
    whole, lost, _ = seen(path)
    _, found = in_parts(path, 0.5)
    assert lost and [frame for frames, _, _ in found for frame in frames] == whole
    assert sorted(told for _, tolds, _ in found for told in tolds) == sorted(lost)


def test_a_file_that_was_cut_off_is_told_by_its_last_part_alone(tmp_path):
    path = write_video(tmp_path / "x.mkv", moving(120), key_every=12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    _, found = in_parts(path, 0.5)
    assert [bool(told) for _, told, _ in found] == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize(
    ("times", "keys"),
    [
        ([0, 1, None, 3, 4, 5], {0, 3}),  # a raw stream
        ([0, 1, 2, 0, 1, 2], {0, 3}),  # a clock that starts anew
        ([0, 1, 9, 3, 4, 5], {0, 3}),  # a time that is damaged
        ([], set()),
    ],
)
def test_where_times_are_no_order_nothing_is_cut(times, keys):
    assert parts_of([Packet(pts, i in keys) for i, pts in enumerate(times)], 2) == [Part()]


def test_pictures_shown_before_a_key_frame_are_of_the_part_before():
    order = [0, 2, 1, 5, 3, 4, 6, 7]
    parts = parts_of([Packet(pts, pts in (0, 5)) for pts in order], 3)
    assert parts == [Part(0, 3, 8, None, 5), Part(3, None, None, 5, None)]


def test_more_pictures_before_a_key_frame_than_any_film_has_are_a_clock_that_jumped():
    late = [*range(10), 200, *range(10, 10 + MOST_LEADING + 2)]
    assert parts_of([Packet(pts, pts in (0, 200)) for pts in late], 3) == [Part()]


def test_frames_before_a_part_begins_are_decoded_and_not_given(tmp_path):
    path = write_video(tmp_path / "x.mp4", moving(16), extra={"bf": "2"})
    whole = seen(path)[0]
    assert seen(path, Part(0, None, None, whole[5][0], None))[0] == whole[5:]


def test_interlaced_film_is_refused_in_parts(tmp_path):
    path = write_video(
        tmp_path / "x.ts", moving(40), codec="mpeg2video", key_every=8, extra={"flags": "+ildct+ilme", "top": "1"}
    )
    with VideoReader(path) as reader:
        reader.read()
        interlaced = reader.interlaced
    if not interlaced:
        pytest.skip("this FFmpeg's MPEG-2 encoder marks no frame as interlaced")
    parts, _ = in_parts(path, 60)
    assert parts == [Part()]
    assert any("interlaced" in told for told in seen(path, Part(0, 8, 24, None, None))[1])


def test_a_part_of_mjpeg_is_the_whole(tmp_path):
    path = write_video(tmp_path / "x.mkv", moving(20), codec="mjpeg", pix_fmt="yuvj420p")
    with VideoReader(path) as reader:
        assert reader.parts(0.1) == [Part()]


def test_pixels_of_the_whole_film_are_untouched_by_parts(tmp_path):
    path = write_video(tmp_path / "x.mp4", moving(6))
    with VideoReader(path) as reader:
        frames = [frame.pixels for frame in reader]
    assert len(frames) == 6 and not np.array_equal(frames[0], frames[5])
