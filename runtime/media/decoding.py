"""A picture's bytes as a frame: OpenCV where it is right, Pillow for what it is not, colours as their profile says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from runtime.errors import FrameError
from runtime.libraries import refusing
from runtime.media import tiff
from runtime.media.colour import as_srgb, profile_in
from runtime.media.headers import read_header, without_notes
from runtime.media.other_formats import opened, samples_of

DAMAGED = "damaged: OpenCV cannot decode it"
OPENCV = frozenset({"PNG", "JPEG", "WebP", "BMP"})
# libtiff as it is inside OpenCV: no zstd (50000), LZMA (34925) and WebP (50001); 8 bits in tiles only compressed.
COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
FEW_BITS = frozenset({8, 10, 12})  # that cameras have, and programs store in samples of 16 without shifting them up


def frame_from_bytes(data: bytes) -> np.ndarray:
    """The picture in these bytes, upright, in the colours that its profile says.

    Args:
        data: a whole file, held to size and cost.

    Returns:
        uint8 (H, W, 3) RGB, C-contiguous, the caller's.

    Raises:
        FrameError: it cannot be decoded, or in a way that is not read; the message does not name the file.
    """
    kind = read_header(data).kind
    profile = profile_in(data, kind)
    if profile is not None and profile.space == "CMYK":
        return profile.applied(opened(data, kind, "CMYK"))
    if kind in OPENCV:
        pixels = _opencv_rgb(without_notes(data))
    elif kind == "TIFF":
        pixels = _tiff_rgb(data)
    else:
        pixels = _in_rgb(eight_bits(samples_of(opened(data, kind))))
    return as_srgb(pixels, profile)


def opencv_decoded(data: bytes, flags: int) -> np.ndarray:
    """What OpenCV makes of a picture's bytes, by flags of `cv2.imdecode`.

    Raises:
        FrameError: it cannot; the message does not name the file.
        MemoryError: there is too little for the picture.
    """
    import cv2

    with refusing(FrameError, DAMAGED), quiet_opencv():
        try:
            decoded: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            if getattr(error, "code", None) == cv2.Error.StsNoMem:
                raise MemoryError(str(error)) from None
            decoded = None
    if decoded is None:
        raise FrameError(DAMAGED)
    return decoded


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV writes nothing on stderr: what it cannot read is told by our own line."""
    import cv2

    # OpenCV 5 has it in a module of its own, OpenCV 4 at the top, where 0 is silent.
    logging: Any = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2
    before = logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def eight_bits(samples: np.ndarray, bits: int | None = None) -> np.ndarray:
    """The upper 8 bits of what a sample has: uint8 of any shape.

    Args:
        samples: uint8 or uint16.
        bits: that a sample of 16 uses. None: 8, 10 or 12 if no sample needs more, else 16. That is a camera's 12 bits
            in a file of 16: nothing but this tells them from a picture 16 times too dark.

    Raises:
        FrameError: samples of another type.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype != np.uint16:
        raise FrameError(f"has {samples.dtype} samples, expected unsigned ones of 8 or 16 bits")
    if bits is None:
        needed = int(samples.max()).bit_length()
        bits = min((few for few in FEW_BITS if few >= needed), default=16)
    return (samples >> (bits - 8)).astype(np.uint8)


def _opencv_rgb(data: bytes, bits: int | None = None) -> np.ndarray:
    import cv2

    # From memory: of a cut file imread makes a partly grey picture, imdecode none.
    # BGR first: IMREAD_COLOR_RGB with 16-bit TIFF returns unset memory (OpenCV 5.0.0). ANYDEPTH so that one rule
    # makes 8 bits of 16: OpenCV's own truncates PNG and rounds TIFF.
    decoded = opencv_decoded(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    return np.asarray(cv2.cvtColor(eight_bits(decoded, bits), cv2.COLOR_BGR2RGB))


def _tiff_rgb(data: bytes) -> np.ndarray:
    how = tiff.layout(data)
    negative = how.photometric == tiff.NEGATIVE and how.bits >= 8
    if how.separate and how.photometric in (tiff.NEGATIVE, tiff.GREY, tiff.RGB):
        pixels = _joined(data, how)
    else:
        meant = tiff.GREY if negative else how.photometric
        again = tiff.said_anew(data, photometric=meant) if negative or how.alpha == tiff.STRAIGHT else data
        pixels = _tiff_decoded(again, how)
    return 255 - pixels if negative else pixels


def _joined(data: bytes, how: tiff.Layout) -> np.ndarray:
    # Decoded one by one, and made 8 bits together: which bits are used is the picture's, not a plane's.
    stored = [_plane(one, how) for one in tiff.planes(data, how.colors + (how.alpha == tiff.MULTIPLIED))]
    pixels = eight_bits(np.dstack(stored), _bits(how, _is_opencvs(how, 1)))
    return _in_rgb(_divided(pixels) if how.alpha == tiff.MULTIPLIED else pixels)


def _plane(data: bytes, how: tiff.Layout) -> np.ndarray:
    import cv2

    if _is_opencvs(how, 1):
        return opencv_decoded(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    grey = samples_of(opened(data, "TIFF"))
    return grey if grey.ndim == 2 else grey[..., 0]


def _divided(pixels: np.ndarray) -> np.ndarray:
    # TIFF 6.0, section 18: the colours are stored multiplied by alpha, the last sample; where it is 0 none is left.
    whole = np.maximum(pixels[..., -1:], 1).astype(np.uint16)
    divided = (pixels[..., :-1].astype(np.uint16) * 255 + whole // 2) // whole  # NumPy 1 would stay at 8 bits
    return np.asarray(divided.clip(max=255), np.uint8)


def _in_rgb(pixels: np.ndarray) -> np.ndarray:
    deep = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(np.broadcast_to(deep, (*deep.shape[:2], 3)))


def _tiff_decoded(data: bytes, how: tiff.Layout) -> np.ndarray:
    if _is_opencvs(how, how.samples) and how.alpha != tiff.MULTIPLIED:
        return _opencv_rgb(data, _bits(how, True))
    return _in_rgb(eight_bits(samples_of(opened(data, "TIFF")), _bits(how, False)))


def _is_opencvs(how: tiff.Layout, samples: int) -> bool:
    deep_cmyk = how.photometric == tiff.SEPARATED and how.bits > 8
    loose_tiles = how.tiled and how.compression == 1 and how.bits == 8
    few = how.bits in (2, 4)
    return how.compression in COMPRESSIONS and samples <= 4 and not (deep_cmyk or loose_tiles or few)


def _bits(how: tiff.Layout, opencv: bool) -> int | None:
    # Of packed samples OpenCV shifts 10, 12 and 14 bits up to 16, Pillow leaves 12 where they are.
    if how.bits in (8, 16):
        return None
    return 16 if opencv else max(8, how.bits)
