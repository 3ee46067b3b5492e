"""HDR video as the SDR picture that networks are trained on: PQ and HLG to sRGB, their primaries to BT.709's."""

from functools import cache

import numpy as np

# ITU-T H.273, tables 3 and 2: the numbers that videos carry.
PQ, HLG = 16, 18
HDR = {PQ: "PQ", HLG: "HLG"}
BT709, P3_DCI, P3 = 1, 11, 12
# SMPTE ST 2084, equation 4.1.
M1, M2, C1, C2, C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
PQ_PEAK_CD_M2 = 10_000.0
# ITU-R BT.2408, table 1: what is white in SDR has 203 cd/m2 in PQ and 75% of the signal in HLG.
WHITE_CD_M2, HLG_WHITE_SIGNAL = 203.0, 0.75
# ITU-R BT.2100, table 5.
A, B, C = 0.17883277, 0.28466892, 0.55991073
# Linear light of other primaries in those of BT.709. ITU-R BT.2087's matrix, inverted; Display P3: SMPTE EG 432-1.
FROM_2020 = np.linalg.inv([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
FROM_P3 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
LEVELS = 1 << 16
ROWS = 16  # at a time: their light stays in a core's cache


def sdr_from_hdr(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """The sRGB picture of an HDR one. SDR's white stays white, and so does all that is brighter.

    No curve bends what SDR can show: a street in HDR is the street that the network knows. Of HLG the light of the
    scene is taken, since SDR's own signal is of that, too.

    Args:
        pixels: uint16 (H, W, 3) RGB, the full range, non-linear.
        transfer: `PQ` or `HLG`.
        primaries: by ITU-T H.273; BT.2020's where they are not known.

    Returns:
        uint8 (H, W, 3) RGB.

    Source: ITU-R BT.2100, BT.2408, BT.2087; IEC 61966-2-1.
    """
    import cv2

    light, encoded = _light(transfer), _encoded()
    matrix = {BT709: np.eye(3), P3: FROM_P3, P3_DCI: FROM_P3}.get(primaries, FROM_2020)
    to_levels = (matrix * (LEVELS - 1)).astype(np.float32)
    result = np.empty(pixels.shape, np.uint8)
    for row in range(0, len(pixels), ROWS):
        levels = cv2.transform(light[pixels[row : row + ROWS]], to_levels)
        result[row : row + ROWS] = encoded[np.clip(levels, 0, LEVELS - 1).astype(np.uint16)]
    return result


@cache
def _light(transfer: int) -> np.ndarray:
    """Linear light of each signal, 1 where SDR's white is; float32 (65536)."""
    signal = np.linspace(0, 1, LEVELS)
    if transfer == PQ:
        root = signal ** (1 / M2)
        light = (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1) * (PQ_PEAK_CD_M2 / WHITE_CD_M2)
    else:
        light = _hlg_light(signal) / _hlg_light(np.array([HLG_WHITE_SIGNAL]))
    return light.astype(np.float32)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)


@cache
def _encoded() -> np.ndarray:
    """sRGB's code of each of 65536 levels of light, uint8."""
    light = np.linspace(0, 1, LEVELS)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    encoded: np.ndarray = np.rint(255 * code).astype(np.uint8)
    return encoded
