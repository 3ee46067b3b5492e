"""Which of two forms of a network this CPU is faster with, where neither is faster everywhere."""

from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

WARMUP, ROUNDS = 1, 7


def share_of_time(form: Any, other: Any) -> float:
    """How much of the other's time a form takes: the median of rounds in which both have a frame of noise.

    Args:
        form, other: openvino.CompiledModels of one input.
    """
    frame = np.random.default_rng(0).integers(0, 256, tuple(form.inputs[0].shape), np.uint8)
    requests = form.create_infer_request(), other.create_infer_request()
    shares = []
    for _ in range(WARMUP + ROUNDS):
        own, others = (_seconds(request, frame) for request in requests)
        shares.append(own / others)
    return median(shares[WARMUP:])


def _seconds(request: Any, frame: np.ndarray) -> float:
    start = perf_counter()
    request.infer([frame])
    return perf_counter() - start
