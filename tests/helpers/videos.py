"""Videos made and read with PyAV alone."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.helpers.pictures import gradient

SIZE = (48, 64)
# The identity and a quarter turn, as a track's header has them: nine numbers of 16.16 and 2.30 bits.
UPRIGHT = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
QUARTER = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000")


def moving(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames that differ: a gradient that moves by 4 columns."""
    first = gradient(*size)
    return [np.roll(first, 4 * i, 1) for i in range(count)]


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times: Sequence[float] | None = None,
    rate: int = 25,
    key_every: int = 5,
    pix_fmt: str = "yuv420p",
    matrix: int = 5,
    full_range: bool = False,
) -> Path:
    """H.264 of uint8 (H, W, 3) RGB frames: at these times in seconds, or at a constant rate."""
    # AVI has no times: frames come in their order, and a rate.
    base = Fraction(1, rate if path.suffix == ".avi" else 90_000)
    options = {"crf": "0" if "444" in pix_fmt else "12"} | ({"bf": "0"} if path.suffix == ".avi" else {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = pix_fmt, key_every
        stream.codec_context.time_base = base
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full_range else 1)
            frame.pts, frame.time_base = round((times[i] if times else i / rate) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_video(path: Path, pixel_format: str = "rgb24") -> tuple[list[np.ndarray], list[float]]:
    """The frames and their times in seconds; a packet that cannot be decoded ends it."""
    frames, times = [], []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format=pixel_format))
                times.append(float(frame.time))
        except av.error.InvalidDataError:
            pass
    return frames, times


def damage(path: Path, at: float = 0.5, count: int = 400) -> Path:
    """Overwrite some bytes in the middle with noise."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + count] = np.random.default_rng(1).integers(0, 256, count, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def turned(path: Path) -> Path:
    """Say in the track's header that the camera was held sideways."""
    data = path.read_bytes()
    assert data.count(UPRIGHT) == 2  # the movie's, then the track's
    where = data.rindex(UPRIGHT)
    path.write_bytes(data[:where] + QUARTER + data[where + len(QUARTER) :])
    return path
