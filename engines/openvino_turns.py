"""Which of two forms of a network this CPU is faster with, where neither is faster everywhere."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

WARMUP, ROUNDS, LEAST_ROUNDS = 1, 7, 3
MOST_SECONDS = 20.0  # once there are the least rounds


def share_of_time(form: Any, other: Any) -> float:
    """How much of the other's time a form takes: the median of rounds in which both have a frame of noise.

    Args:
        form, other: openvino.CompiledModels of one input.
    """
    frame = np.random.default_rng(0).integers(0, 256, tuple(form.inputs[0].shape), np.uint8)
    requests = form.create_infer_request(), other.create_infer_request()
    shares = []
    for counts in turns(ROUNDS):
        own, others = (_seconds(request, frame) for request in requests)
        if counts:
            shares.append(own / others)
    return median(shares)


def turns(rounds: int) -> Iterator[bool]:
    """Whether each round counts, which those of warm-up do not; fewer than these where they take long."""
    start = perf_counter()
    for count in range(WARMUP + rounds):
        if count >= WARMUP + LEAST_ROUNDS and perf_counter() - start > MOST_SECONDS:
            return
        yield count >= WARMUP


def _seconds(request: Any, frame: np.ndarray) -> float:
    start = perf_counter()
    request.infer([frame])
    return perf_counter() - start
