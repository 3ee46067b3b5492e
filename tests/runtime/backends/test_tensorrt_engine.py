import signal
from contextlib import suppress

import numpy as np
import pytest

from runtime.backends import tensorrt
from runtime.backends.tensorrt_engine import Engine, TensorType
from runtime.errors import EngineError
from tests.helpers.cuda_driver.imitated_tensorrt import TensorFormat

FRAME, LOGITS = (3, 16, 32), (11, 4, 8)
PLANES = TensorType(FRAME, "fp16"), TensorType(LOGITS, "fp16")
LAST = TensorType((4, 16, 32), "fp16", channels_last=True), TensorType(LOGITS, "fp16", channels_last=True)


@pytest.fixture
def types(imitated, tmp_path):
    """What the runtime takes an engine's tensors for, of their dimensions and formats: (input, logits)."""

    def of(shapes, formats=()):
        gpu = imitated()
        dimensions, orders = (dict(zip(("frame", "logits"), each, strict=False)) for each in (shapes, formats))
        gpu.calls(gpu.trt.ICudaEngine, "get_tensor_shape", lambda _, name: dimensions[name])
        gpu.calls(gpu.trt.ICudaEngine, "get_tensor_format", lambda _, name: orders.get(name, TensorFormat.LINEAR))
        context = tensorrt.primary_context(gpu.driver)
        context.push()
        try:
            engine = Engine(gpu.engine, gpu.manifest, tmp_path / "jit")
            return engine.input, engine.logits
        finally:
            engine = None
            gpu.driver.Context.pop()

    return of


@pytest.mark.parametrize(
    ("shapes", "formats", "expected"),
    [
        (((1, 3, 16, 32), (1, 11, 4, 8)), (), PLANES),
        (((1, 4, 16, 32), (1, 11, 4, 8)), (TensorFormat.HWC,) * 2, LAST),
        (((1, 16, 32, 4), (1, 4, 8, 11)), (), LAST),
        (((1, 4, 16, 32), (1, 11, 4, 8)), (TensorFormat.HWC,), (LAST[0], PLANES[1])),
    ],
    ids=["planes", "format", "dimensions", "input alone"],
)
def test_an_engine_tells_by_its_tensors_where_the_channels_lie(types, shapes, formats, expected):
    assert types(shapes, formats) == expected


@pytest.mark.parametrize(
    ("shapes", "formats", "name"),
    [
        (((1, 4, 16, 32), (1, 11, 4, 8)), (), "frame"),
        (((1, 3, 16, 32), (1, 11, 4, 8)), (TensorFormat.HWC,), "frame"),
        (((1, 16, 32, 3), (1, 11, 4, 8)), (), "frame"),
        (((1, 3, 16, 32), (1, 8, 4, 11)), (), "logits"),
        (((1, 3, 16, 32), (1, 4, 8, 11)), (TensorFormat.LINEAR, TensorFormat.HWC), "logits"),
    ],
)
def test_no_other_order_is_taken_for_one_that_is_known(types, shapes, formats, name):
    with pytest.raises(EngineError, match=rf"the engine's tensor {name} is .*, expected fp16 or fp32 \(1, "):
        types(shapes, formats)


def test_logits_of_equal_sides_are_planes_unless_their_format_says_otherwise(imitated):
    engine, cube = object.__new__(Engine), (5, 5, 5)
    engine._trt = imitated().trt
    assert engine._forms(cube, 5)[(1, *cube), TensorFormat.LINEAR] == (cube, False)
    assert engine._forms(cube, 5)[(1, *cube), TensorFormat.HWC] == (cube, True)


def swallowing(call):
    """What the bindings do of an exception that is raised while the library logs: nothing."""

    def called(*of):
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        return call(*of)

    return called


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Runtime", "deserialize_cuda_engine"), ("ICudaEngine", "create_execution_context"),
     ("IExecutionContext", "execute_async_v3")],
)  # fmt: skip
def test_ctrl_c_while_an_engine_is_opened_or_runs_is_not_lost(imitated, kind, name):
    gpu = imitated()
    kind = getattr(gpu.trt, kind)
    gpu.calls(kind, name, swallowing(getattr(kind, name)))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), gpu.open() as backend:
            backend.segment(np.zeros((16, 32, 3), np.uint8))
    finally:
        signal.signal(signal.SIGINT, before)
