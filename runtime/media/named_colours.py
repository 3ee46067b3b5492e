"""Colours that a picture names by numbers of PNG or EXIF, as the ICC profile that says the same."""

import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from runtime.errors import FrameError
from runtime.media.tones import HDR

Point = tuple[float, float]
D65, DCI = (0.3127, 0.3290), (0.314, 0.351)
# ITU-T H.273, table 2: red, green, blue, white as x, y.
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
PRIMARIES: dict[int, Sequence[Point]] = {
    1: BT709,
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), DCI),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65),
}
# Table 3: sRGB's curve, also for what is filmed in BT.709's, as players show it; plain powers.
SRGB_CURVES, POWERS = frozenset({1, 6, 13, 14, 15}), {4: 2.2, 5: 2.8, 8: 1.0}
# Adobe RGB (1998) Color Image Encoding, 4.3.1.
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65)
ADOBE_POWER = 2 + 51 / 256
# What every encoder writes for sRGB's curve and primaries: W3C PNG, 11.3.2.5.
SRGB_GAMMA, SRGB_CHROMA = 45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
NEAR = 1000  # hundred-thousandths
# ICC.1:2022, annex E.3 and 7.2.16: profiles are of D50; Bradford's matrix adapts other whites.
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


class Named(NamedTuple):
    """Primaries and white as x, y, and the power of the curve; None: sRGB's own."""

    points: Sequence[Point]
    power: float | None

    def profile(self) -> bytes:
        """As an ICC profile, 10.10 and 10.18: three primaries and their curve."""
        xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in self.points])
        white = xyz[3]
        adapted = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD
        matrix = adapted @ (xyz[:3].T * np.linalg.solve(xyz[:3].T, white))
        if self.power is None:
            curve = b"para\0\0\0\0\0\3\0\0" + _fixed(SRGB_CURVE)
        else:
            curve = b"para\0\0\0\0\0\0\0\0" + _fixed([self.power])
        tags = {f"{name}XYZ".encode(): b"XYZ \0\0\0\0" + _fixed(matrix[:, i]) for i, name in enumerate("rgb")}
        tags |= {b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50), **{f"{name}TRC".encode(): curve for name in "rgb"}}
        table, body, first = b"", b"", 128 + 4 + 12 * len(tags)
        for name, value in tags.items():
            table += name + struct.pack(">II", first + len(body), len(value))
            body += value
        head = struct.pack(">I4xI4s4s4s12x4s", first + len(body), 0x04000000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
        return head.ljust(68, b"\0") + _fixed(D50) + bytes(48) + struct.pack(">I", len(tags)) + table + body


def of_code_points(primaries: int, transfer: int) -> bytes | None:
    """The profile of a PNG's cICP chunk; None: it is sRGB, or of numbers that say nothing.

    Raises:
        FrameError: it is HDR.
    """
    if transfer in HDR:
        raise FrameError(f"is HDR ({HDR[transfer]}), which is read of videos alone: save it as SDR")
    points = PRIMARIES.get(primaries)
    if points is None or not (transfer in SRGB_CURVES or transfer in POWERS) or (primaries == 1 and transfer == 13):
        return None
    return Named(points, POWERS.get(transfer)).profile()


def of_gamma(gamma: int, chroma: Sequence[int] | None) -> bytes | None:
    """The profile of a PNG's gAMA and cHRM, in hundred-thousandths, white first; None: it is sRGB, or nonsense."""
    chroma = chroma or SRGB_CHROMA
    usual = all(abs(a - b) <= NEAR for a, b in zip(chroma, SRGB_CHROMA, strict=True))
    if (usual and abs(gamma - SRGB_GAMMA) <= NEAR) or not 10_000 <= gamma <= 1_000_000:
        return None
    points = [(x / 1e5, y / 1e5) for x, y in zip(chroma[::2], chroma[1::2], strict=True)]
    if any(not (0 < x < 1 and 0 < y < 1) for x, y in points):
        return None
    white, *primaries = points
    power = None if abs(gamma - SRGB_GAMMA) <= NEAR else 1e5 / gamma
    try:
        return Named([*primaries, white], power).profile()
    except (np.linalg.LinAlgError, struct.error):
        return None


def of_exif(exif: bytes) -> bytes | None:
    """The profile of a camera's Adobe RGB, which it tells by EXIF alone (DCF 2.0, 4.4: index R03); None: it is sRGB."""
    from PIL import Image

    tags = Image.Exif()
    try:
        tags.load(exif)
        space, index = tags.get_ifd(0x8769).get(0xA001), tags.get_ifd(0xA005).get(1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error, io.UnsupportedOperation):
        return None
    # 2 is what some cameras write; the standard's own is "uncalibrated", and R03 beside it.
    adobe = space == 2 or (space == 0xFFFF and str(index).startswith("R03"))
    return Named(ADOBE, ADOBE_POWER).profile() if adobe else None


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
