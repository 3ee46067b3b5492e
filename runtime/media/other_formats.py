"""Pictures that Pillow reads and OpenCV does not, or not rightly: AVIF, HEIC, JPEG 2000, GIF, PNM, rare TIFFs."""

import io
from typing import Any

import numpy as np

from runtime.commands import install
from runtime.errors import FrameError
from runtime.libraries import refusing

UNREAD = "damaged, or of a kind that is not read: Pillow cannot decode it"
SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
HEIC = "HEIC"
# Pillow's names; whatever else it reads is not tried.
FORMATS = {
    "TIFF": ["TIFF"], "JPEG": ["JPEG", "MPO"], "GIF": ["GIF"], "PNM": ["PPM"], "JPEG 2000": ["JPEG2000"],
    "AVIF": ["AVIF"], "PNG": ["PNG"], "WebP": ["WEBP"], "BMP": ["BMP"],
}  # fmt: skip


def size(data: bytes, kind: str) -> tuple[int, int]:
    """(height, width) as stored, from the header alone.

    Raises:
        FrameError: it has none, or for HEIC its library is not there.
    """
    width, height = _open(data, kind).size
    return height, width


def opened(data: bytes, kind: str, mode: str | None = None) -> Any:
    """The picture as Pillow decodes it, upright; of several the first.

    Args:
        data: a whole file.
        kind: its format.
        mode: of Pillow, that it is held to, for example "CMYK".

    Raises:
        FrameError: it cannot be decoded, or has another mode; the message does not name the file.
    """
    from PIL import ImageOps

    image = _open(data, kind)
    with refusing(FrameError, UNREAD):
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    if mode is not None and image.mode != mode:
        raise FrameError(f"its colour profile is for {mode}, its pixels are {image.mode}: save it as RGB")
    return image


def profile(data: bytes, kind: str) -> bytes | None:
    """Its ICC profile, as the header has it.

    Raises:
        FrameError: as `size`.
    """
    icc: bytes | None = _open(data, kind).info.get("icc_profile")
    return icc


def samples_of(image: Any) -> np.ndarray:
    """The pixels: uint16 (H, W) where they are grey of 16 bits, else uint8 (H, W, 3) RGB, alpha dropped.

    Raises:
        FrameError: they are of another kind.
    """
    if image.mode in SIXTEEN_BITS:
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I" and image.format in ("PPM", None):  # a PGM of 16 bits
        return np.asarray(image).clip(0, 65535).astype(np.uint16)
    if image.mode in ("I", "F", "LAB", "HSV"):
        raise FrameError(f"has samples of Pillow's mode {image.mode}, expected grey, RGB or CMYK of 8 or 16 bits")
    if image.mode in ("RGBa", "La"):  # multiplied by alpha: back to the colours
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("RGBA", "RGBX"):
        return np.ascontiguousarray(np.asarray(image)[..., :3])
    return np.array(image.convert("RGB"))


def _open(data: bytes, kind: str) -> Any:
    if kind == HEIC:
        return _open_heic(data)
    from PIL import Image

    with refusing(FrameError, UNREAD):
        return Image.open(io.BytesIO(data), formats=FORMATS[kind])


def _open_heic(data: bytes) -> Any:
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise FrameError(f"is HEIC, which is read by pillow-heif: {install('heic')}") from None
    with refusing(FrameError, UNREAD):
        return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True).to_pillow()
