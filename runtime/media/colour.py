"""Colours as a picture's ICC profile says, made sRGB by LittleCMS; a picture in sRGB is left as it is."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from runtime.media import other_formats, tiff
from runtime.media.named_colours import of_code_points, of_exif, of_gamma

MOST_BYTES = 8 << 20  # a printer's profile with large tables has one to three
SPACES = {b"RGB ": "RGB", b"GRAY": "GRAY", b"CMYK": "CMYK"}
MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's
# Levels by which a profile may move colours and still be sRGB: makers round curves and primaries each their own way.
SAME_LEVELS = 2
KEPT_PROFILES = 16  # transforms, of a few KB to a few MB each


class Profile(NamedTuple):
    """An ICC profile of a picture, whose bytes LittleCMS understands."""

    space: str  # RGB, GRAY or CMYK
    icc: bytes

    def applied(self, image: Any) -> np.ndarray:
        """A Pillow picture of that space as uint8 (H, W, 3) sRGB."""
        from PIL import ImageCms

        return np.array(ImageCms.applyTransform(image, _transform(self)))


def as_srgb(pixels: np.ndarray, profile: Profile | None) -> np.ndarray:
    """The same picture in sRGB.

    Args:
        pixels: uint8 (H, W, 3), in the profile's colours; of a grey one three equal channels.
        profile: None for sRGB.
    """
    if profile is None or profile.space == "CMYK" or _is_srgb(profile):
        return pixels
    from PIL import Image

    if profile.space == "GRAY":
        return profile.applied(Image.fromarray(np.ascontiguousarray(pixels[..., 0])))
    return profile.applied(Image.fromarray(pixels))


def profile_in(data: bytes, kind: str) -> Profile | None:
    """The profile of a file, or of the colours that it names; None: none, or one that nobody can read, as browsers do.

    Raises:
        FrameError: it is a picture in HDR.
    """
    try:
        icc = _FINDERS[kind](data) if kind in _FINDERS else other_formats.profile(data, kind)
    except (struct.error, zlib.error, ValueError):
        return None
    if not icc or not 128 <= len(icc) <= MOST_BYTES or icc[36:40] != b"acsp":
        return None
    space = SPACES.get(icc[16:20])  # ICC.1:2022, table 17: the colour space of the pixels
    found = Profile(space, icc) if space else None
    return found if found and _transform(found) else None


@lru_cache(KEPT_PROFILES)
def _transform(profile: Profile) -> Any:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile.icc))
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            MODES[profile.space],
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None


@lru_cache(KEPT_PROFILES)
def _is_srgb(profile: Profile) -> bool:
    # What it does to colours tells: there are dozens of profiles that are sRGB under other names.
    from PIL import Image

    levels = np.arange(0, 256, 17, dtype=np.uint8)
    grey = profile.space == "GRAY"
    colors = np.stack([levels] * 3, -1)[None] if grey else np.stack(np.meshgrid(levels, levels, levels), -1)
    probe = np.ascontiguousarray(colors.reshape(1, -1, 3))
    shown = profile.applied(Image.fromarray(probe[..., 0] if grey else probe))
    return bool(np.abs(shown.astype(int) - probe).max() <= SAME_LEVELS)


# W3C PNG, 4.3: of a code point (cICP), a profile, sRGB's chunk and gAMA with cHRM the first that is there counts.
def _png_profile(data: bytes) -> bytes | None:
    notes: dict[bytes, bytes] = {}
    for name, body in _png_notes(data):
        notes.setdefault(name, body)
    if b"cICP" in notes:
        return of_code_points(*struct.unpack_from("BB", notes[b"cICP"]))
    if b"iCCP" in notes:
        packed = notes[b"iCCP"][notes[b"iCCP"].index(b"\0") + 2 :]
        return zlib.decompressobj().decompress(packed, MOST_BYTES + 1)
    if b"sRGB" in notes or b"gAMA" not in notes:
        return None
    chroma = struct.unpack_from(">8I", notes[b"cHRM"]) if b"cHRM" in notes else None
    (gamma,) = struct.unpack_from(">I", notes[b"gAMA"])
    return of_gamma(gamma, chroma)


def _png_notes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        if name in (b"IDAT", b"IEND"):
            return
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


# ICC.1:2022, B.4: APP2 segments of a JPEG, each with its number and how many there are.
def _jpeg_profile(data: bytes) -> bytes | None:
    parts: dict[int, bytes] = {}
    at, exif = 2, b""
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b"\xd9", b""):
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1 : at + 2] == b"\xe2" and data[at + 4 : at + 16] == b"ICC_PROFILE\0":
            parts[data[at + 16]] = data[at + 18 : at + 2 + length]
        if data[at + 1 : at + 2] == b"\xe1" and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = data[at + 4 : at + 2 + length]
        at += 2 + length
    return b"".join(part for _, part in sorted(parts.items())) or (of_exif(exif) if exif else None)


# RFC 9649, 2.7: chunks of a name, a length and an even number of bytes.
def _webp_profile(data: bytes) -> bytes | None:
    at = 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"ICCP":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return None


def _no_profile(data: bytes) -> bytes | None:
    return None


_FINDERS = {
    "PNG": _png_profile,
    "JPEG": _jpeg_profile,
    "WebP": _webp_profile,
    "TIFF": tiff.profile,
    "BMP": _no_profile,
    "GIF": _no_profile,
    "PNM": _no_profile,
}
