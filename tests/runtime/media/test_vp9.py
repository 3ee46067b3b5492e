"""Sizes that VP9 frames say."""

import av
import numpy as np
import pytest

from runtime.media.vp9 import largest_size
from tests.helpers.videos import moving, write_video


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("size", [(48, 64), (90, 34), (130, 258)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gbrp"])
def test_a_key_frame_says_its_size(tmp_path, size, pix_fmt):
    path = write_video(tmp_path / "x.webm", moving(12, size), codec="libvpx-vp9", pix_fmt=pix_fmt, key_every=6)
    sizes = [largest_size(packet) for packet in packets(path)]
    assert sizes[0] == size and sizes.count(size) >= 2 and set(sizes) == {size, (0, 0)}


def test_what_is_no_frame_says_none():
    assert largest_size(b"") == largest_size(b"\x82") == largest_size(b"\xc0") == (0, 0)
    noise = np.random.default_rng(1)
    for count in range(200):
        height, width = largest_size(noise.integers(0, 256, count, dtype=np.uint8).tobytes())
        assert 0 <= height <= 1 << 16 and 0 <= width <= 1 << 16
