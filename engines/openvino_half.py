"""Whether this CPU computes faster in FP32 than in 16 bits.

A CPU with the instructions of BF16 and no matrix units may take longer with them: an Intel Xeon whose AMX is hidden
from its guests reaches 93 GMAC/s in BF16 and 176 in FP32, an AMD EPYC 228 and 115. No flag tells, so it is measured.
"""

from functools import cache

from runtime.backends.openvino import TYPE_NAMES
from runtime.measure.roof import Roof, reached

SHAPE = 128, 64, 128, 3  # channels, height, width, kernel of a stack that takes some tens of milliseconds
WARMUP, ROUNDS = 1, 5
LEAST_GAIN = 1.2  # in FP32: below it the smaller maps are worth more, and a noisy machine must not choose


@cache
def gain_of_fp32(execution: str) -> float:
    """How many times as many multiplications a second this CPU's convolutions reach in FP32.

    Args:
        execution: the type of 16 bits beside it, as OpenVINO's INFERENCE_PRECISION_HINT takes it.

    Raises:
        EngineError: OpenVINO refuses convolutions.
    """
    half = TYPE_NAMES[execution]
    roof, rounds = Roof(("fp32", half), (SHAPE,)), []
    for _ in range(WARMUP + ROUNDS):
        roof.segment()
        rounds.append(roof.stages_ms)
    per_s = reached(rounds[WARMUP:])
    return per_s["fp32"] / per_s[half]
