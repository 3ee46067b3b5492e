"""What a file says of itself without a decoder."""

import io
from pathlib import Path

import av
import pytest

from runtime.media.containers import CLUSTER_BYTES, Checksums, is_cut
from tests.helpers.videos import moving, write_video

LONG = 120  # frames of 25 a second, with key frames: several clusters


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize("name", ["x.mp4", "x.mov", "x.mkv", "x.avi", "x.3gp"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_file_that_was_cut_is_known_by_its_structure(tmp_path, name, share):
    path = write_video(tmp_path / name, moving(20))
    assert is_cut(path) is False
    assert is_cut(cut(path, share)) is True


def test_a_live_recording_ends_where_it_ends(tmp_path):
    whole = write_video(tmp_path / "x.mkv", moving(20), muxer={"live": "1"})
    assert is_cut(whole) is False


def test_what_hangs_behind_a_file_does_not_cut_it(tmp_path):
    path = write_video(tmp_path / "x.mp4", moving(5))
    path.write_bytes(path.read_bytes() + b"\x00\x01\x00\x00note" + bytes(100))
    assert is_cut(path) is False


def test_of_other_formats_nothing_is_known(tmp_path):
    assert is_cut(write_video(tmp_path / "x.ts", moving(5))) is None
    (tmp_path / "empty.mkv").write_bytes(b"")
    assert is_cut(tmp_path / "empty.mkv") is None


def packets(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def film(tmp_path):
    path = write_video(tmp_path / "x.mkv", moving(LONG), muxer={"cluster_time_limit": "500"})
    return path, packets(path)


def fitting(path: Path, places: list[int]) -> list[bool]:
    sums = Checksums(path)
    try:
        return [sums.fit(at) for at in places]
    finally:
        sums.close()


def test_checksums_fit_a_whole_file(film):
    assert all(fitting(*film)) and fitting(film[0], [None]) == [True]


def test_one_byte_in_a_cluster_is_found_and_the_other_clusters_fit(film):
    path, places = film
    data = bytearray(path.read_bytes())
    data[places[LONG // 2] + 20] ^= 1
    path.write_bytes(data)
    fits = fitting(path, places)
    assert not fits[LONG // 2] and fits[0] and fits[-1] and 1 <= fits.count(False) < LONG // 4


@pytest.mark.parametrize("noise", [b"\0" * 12, b"\xff" * 12, b"\x1f\x43\xb6\x75\x01" + b"\x7f" * 7])
def test_a_damaged_head_of_a_cluster_leaves_the_later_ones_readable(film, noise):
    path, places = film
    data = bytearray(path.read_bytes())
    heads = [at for at in range(len(data)) if data.startswith(CLUSTER_BYTES, at)]
    at = heads[len(heads) // 2]
    data[at : at + 12] = noise
    path.write_bytes(data)
    fits = fitting(path, places)
    assert fits[0] and fits[-1] and not fits[next(i for i, place in enumerate(places) if place > at + 12)]


def test_noise_is_walked_to_its_end(tmp_path):
    noise = io.BytesIO(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 300)
    (tmp_path / "x.mkv").write_bytes(noise.getvalue())
    is_cut(tmp_path / "x.mkv")
    assert fitting(tmp_path / "x.mkv", [0, 70_000])
