"""Videos made and read with PyAV alone."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.helpers.pictures import gradient

SIZE = (48, 64)
# The identity, as a track's header has it: nine numbers of 16.16 and 2.30 bits.
UPRIGHT = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")


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
    transfer: int = 2,
    aspect: Fraction = Fraction(1),
    codec: str = "libx264",
    extra: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    title: str = "",
    sound_s: int = 0,
) -> Path:
    """A video (H.264) of uint8 (H, W, 3) RGB frames: at these times in seconds, or at a constant rate."""
    # AVI has no times: frames come in their order, and a rate.
    counted = path.suffix == ".avi" or codec == "mpeg2video"
    base = Fraction(1, rate if counted else 90_000)
    options = {"crf": "0" if "444" in pix_fmt else "12"} | ({"bf": "0"} if path.suffix == ".avi" else {})
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=(options if codec == "libx264" else {}) | (extra or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = pix_fmt, key_every
        stream.codec_context.time_base = base
        stream.codec_context.colorspace, stream.codec_context.color_trc = matrix, transfer
        stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.color_range = 2 if full_range else 1
        container.metadata["title"] = title
        sound = container.add_stream("libopus", rate=48_000) if sound_s else None
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full_range else 1)
            frame.pts, frame.time_base = round((times[i] if times else i / rate) / base), base
            container.mux(stream.encode(frame))
        for i in range(50 * sound_s):
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="flt", layout="stereo")
            quiet.sample_rate, quiet.pts, quiet.time_base = 48_000, 960 * i, Fraction(1, 48_000)
            container.mux(sound.encode(quiet))
        for made in (stream, sound):
            container.mux(made.encode() if made else [])
    return path


def two_films(path: Path) -> Path:
    """A file with two films of two frames, as cameras for the front and the back write it."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for pixels in moving(2):
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
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
    return matrix_of(path, (0, 1, -1, 0))


def matrix_of(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Say in the track's header that a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    data = path.read_bytes()
    assert data.count(UPRIGHT) == 2  # the movie's, then the track's
    where = data.rindex(UPRIGHT)
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(data[:where] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[where + len(UPRIGHT) :])
    return path
