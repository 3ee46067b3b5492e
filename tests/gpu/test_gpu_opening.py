"""An engine that cannot be opened leaves nothing on the GPU, whatever failed and whichever thread asked."""

import threading

import pytest

from runtime.backend import open_backend
from runtime.backends import tensorrt
from runtime.backends.tensorrt_engine import Engine
from runtime.errors import EngineError, PipelineError
from tests.gpu.test_gpu_engine import GROWTH, frame, free_bytes
from tests.helpers.engines import built_engine

pytestmark = pytest.mark.gpu

# Each step of opening, in order; the last is over when all that an engine has is there.
STEPS = [(tensorrt, "Kernels"), (tensorrt, "NetworkBuffers"), (Engine, "bind"), (tensorrt, "FrameClock")]


def refuses(*_, **__):
    raise EngineError("made to fail")


def on_another_thread(work):
    found = []

    def run():
        try:
            work()
        except PipelineError as error:
            found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize(("where", "name"), STEPS, ids=[name for _, name in STEPS])
def test_an_open_that_fails_on_another_thread_leaves_nothing(tmp_path, backend, driver, monkeypatch, where, name):
    path = built_engine(tmp_path, backend=backend, precision="fp16")
    with open_backend(path) as engine:  # the library keeps some memory from its first engine on
        engine.segment(frame(40, 50))
    free = free_bytes(driver)
    monkeypatch.setattr(where, name, refuses)
    for _ in range(5):
        assert on_another_thread(lambda: open_backend(path)) == ["made to fail"]
    assert free - free_bytes(driver) <= GROWTH


def test_an_engine_of_another_model_leaves_nothing(tmp_path, backend, driver, monkeypatch):
    path = built_engine(tmp_path, backend=backend, precision="fp16")
    monkeypatch.setattr(Engine, "_tensor_type", refuses)
    assert on_another_thread(lambda: open_backend(path)) == ["made to fail"]
