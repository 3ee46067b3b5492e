"""Frames as a player shows them."""

from fractions import Fraction

import av
import numpy as np
import pytest

from runtime.media.displayed import Upright
from runtime.media.video import VideoReader, first_frame
from tests.helpers.videos import SIZE, matrix_of, moving, write_video

# A stored point (x, y) is shown at (a x + c y, b x + d y); beside it what that does to an array.
MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_frame_is_turned_and_mirrored_as_its_matrix_says(tmp_path, matrix):
    path = write_video(tmp_path / "x.mp4", moving(2))
    stored = first_frame(path)
    got = first_frame(matrix_of(path, matrix))
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, MATRICES[matrix](stored))


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory):
    """Fields of two moments each: the odd rows show a bar that has moved by 8 columns."""
    path = tmp_path_factory.mktemp("film") / "x.mkv"
    moments = [np.zeros((*SIZE, 3), np.uint8) for _ in range(24)]
    for i, moment in enumerate(moments):
        moment[:, 2 * i : 2 * i + 16] = 255
    frames = []
    for even, odd in zip(moments[::2], moments[1::2], strict=True):
        frames.append(even.copy())
        frames[-1][1::2] = odd[1::2]
    with av.open(str(path), "w") as container:
        options = {"x264-params": "interlaced=1:tff=1", "crf": "4"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path, list(zip(moments[::2], moments[1::2], strict=True))


def test_interlaced_film_is_made_whole_at_its_times_and_is_said(interlaced):
    path, moments = interlaced
    with VideoReader(path) as reader:
        assert reader.notes == []
        frames = list(reader)
        assert any("12 interlaced frames: made whole" in note for note in reader.notes)
    assert len(frames) == 12
    np.testing.assert_allclose(np.diff([float(frame.pts * reader.time_base) for frame in frames]), 0.04, atol=1e-3)
    # Combed rows differ from those above and below them by the bar's edge; of a whole frame no row does.
    for frame, both in zip(frames[1:-1], moments[1:-1], strict=True):
        pixels = frame.pixels.astype(int)
        assert np.abs(np.diff(pixels.mean(2), axis=0)).mean() < 2.0
        # Which of its two moments is the first is the file's to say.
        assert min(np.abs(pixels - moment).mean() for moment in both) < 2.0


def test_the_shape_of_a_pixel_is_kept_and_turns_with_the_frame(tmp_path):
    path = write_video(tmp_path / "x.mp4", moving(2), aspect=Fraction(4, 3))
    with VideoReader(path) as reader:
        assert next(iter(reader)).aspect == Fraction(4, 3) and "pixels of 4:3" in reader.notes[0]
    with VideoReader(matrix_of(path, (0, 1, -1, 0))) as reader:
        assert next(iter(reader)).aspect == Fraction(3, 4)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_read_as_sdr_and_said(tmp_path, transfer, name):
    grey = [np.full((*SIZE, 3), 128, np.uint8)] * 2
    path = write_video(tmp_path / "x.mkv", grey, pix_fmt="yuv444p10le", matrix=9, transfer=transfer)
    with VideoReader(path) as reader:
        frame = next(iter(reader)).pixels
        assert f"is HDR ({name})" in reader.notes[0]
    # Half of PQ's signal is 92 cd/m2 of 203, half of HLG's the light of 0.083 of 0.265: sRGB's codes of these.
    assert np.abs(frame.astype(int) - {16: 179, 18: 151}[transfer]).max() <= 3


def test_side_data_is_asked_for_once_and_again_where_the_frame_changes():
    class Frame:
        rotation, width, height, asked = 0, 64, 48, 0

        @property
        def side_data(self):
            Frame.asked += 1
            return {}

    upright, frame = Upright(), Frame()
    for width in (64, 64, 64, 32, 32):
        frame.width = width
        assert upright.matrix(frame) == (1, 0, 0, 1)
    assert Frame.asked == 2
