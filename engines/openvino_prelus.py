"""Whether a PReLU behind a residual sum costs less inside of the convolution than in a pass of its own.

CPUs differ: ENet takes 0.85 of the time with its sums fused on an Intel Xeon held to VNNI, 1.07 on an AMD EPYC, where a
convolution of few inputs waits for the arithmetic on its outputs. No flag tells, so it is measured.
"""

from functools import cache
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino
from openvino import opset13

from engines.openvino_layout import CHANNELS_FIRST, LEVELS, fake_quantize
from engines.openvino_pairs import fuse_sums
from runtime.backends.openvino import DEVICE, compile_options, core

INPUTS, OUTPUTS, HEIGHT, WIDTH = 32, 128, 128, 256  # of ENet's, where it has most of its bottlenecks
BYTES = np.zeros(()), np.full((), 255.0)
BOTTLENECKS, WARMUP, ROUNDS = 3, 2, 9


@cache
def share_of_fused(execution: str) -> float:
    """How much of the time of sums with a PReLU behind them is left where they are in their convolutions.

    Args:
        execution: what maps are kept as, as OpenVINO's INFERENCE_PRECISION_HINT takes it.

    Raises:
        RuntimeError: OpenVINO refuses the convolutions.
    """
    models = _bottlenecks(), _bottlenecks()
    for model, prelus in zip(models, (True, False), strict=True):
        fuse_sums(model, prelus=prelus)
    how = compile_options(execution)
    requests = [core().compile_model(model, DEVICE, how).create_infer_request() for model in models]
    maps = [np.full(port.shape, 100, np.uint8) for port in models[0].inputs]
    shares = [_seconds(requests[0], maps) / _seconds(requests[1], maps) for _ in range(WARMUP + ROUNDS)]
    return median(shares[WARMUP:])


def _seconds(request: Any, maps: list[np.ndarray]) -> float:
    start = perf_counter()
    request.infer(maps)
    return perf_counter() - start


def _bottlenecks() -> Any:
    # 1x1 convolutions of INPUTS to OUTPUTS, each added to what the one before gave, and between them those back.
    narrow = opset13.parameter([1, HEIGHT, WIDTH, INPUTS], np.uint8)
    wide = opset13.parameter([1, HEIGHT, WIDTH, OUTPUTS], np.uint8)
    inputs, skip = _bytes(narrow), _bytes(wide)
    for _ in range(BOTTLENECKS):
        added = opset13.add(_convolved(inputs, INPUTS, OUTPUTS), skip)
        slopes = opset13.constant(np.linspace(0.1, 0.5, OUTPUTS, dtype=np.float32))
        skip = fake_quantize(opset13.prelu(added, slopes).output(0), *_signed(), LEVELS * 2 + 2, _signed())
        inputs = fake_quantize(_convolved(skip, OUTPUTS, INPUTS).output(0), *BYTES, 256, BYTES)
    return openvino.Model([opset13.convert(inputs, "u8")], [narrow, wide])


def _bytes(port: Any) -> Any:
    values = opset13.convert(opset13.transpose(port, np.array(CHANNELS_FIRST)), "f32").output(0)
    return fake_quantize(values, *BYTES, 256, BYTES)


def _signed() -> tuple[np.ndarray, np.ndarray]:
    return np.full((), -128.0), np.full((), 127.0)


def _convolved(source: Any, inputs: int, outputs: int) -> Any:
    codes = np.random.default_rng(0).integers(-LEVELS, LEVELS + 1, (outputs, inputs, 1, 1))
    most = np.full((), 1 / inputs, np.float32)
    values = opset13.constant((codes * most / LEVELS).astype(np.float32)).output(0)
    weights = fake_quantize(values, -most, most, 2 * LEVELS + 1)
    return opset13.convolution(source, weights, [1, 1], [0, 0], [0, 0], [1, 1])
