"""Lanes over one engine, what is kept of a first frame, and what is left of an open that failed."""

import enum
import gc

import numpy as np
import pytest

from runtime.backends import tensorrt, tensorrt_library
from runtime.backends.tensorrt_buffers import NetworkBuffers
from runtime.errors import EngineError, LibraryError
from runtime.kernels import nvidia
from runtime.kernels.cuda import Kernels
from runtime.lanes import SharesEngine
from tests.helpers import cuda_on_cpu
from tests.helpers.fake_gpu import GPU, expected, frame
from tests.helpers.fake_tensorrt import BROKEN, ENGINE, Context

pytestmark = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")
BACKENDS = ("tensorrt", "tensorrt-rtx")


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_share_one_engine_and_have_a_context_each(fake, backend):
    driver, trt, made_of = fake(backend)
    assert isinstance(tensorrt, SharesEngine)
    lanes = tensorrt.open_lanes(ENGINE, made_of, 3)
    assert (trt.deserialised, trt.contexts, len(driver.streams)) == (1, 3, 3)
    for seed, lane in enumerate(lanes * 3):
        np.testing.assert_array_equal(lane.segment(frame(20, 30, seed)), expected("fp16", 1, frame(20, 30, seed))[1])
    lanes[0].close()
    np.testing.assert_array_equal(lanes[2].segment(frame(20, 30)), expected("fp16", 1, frame(20, 30))[1])
    for lane in lanes:
        lane.close()
    gc.collect()
    assert not driver.live and not driver.streams and not driver.library.events and not driver.library.graphs


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fails_at", ["engine", "tensors", "kernels", "stream", "memory", "bind", "events", "2nd lane"])
def test_an_open_that_fails_leaves_nothing_on_the_gpu(fake, monkeypatch, backend, fails_at):
    driver, trt, made_of = fake(backend)

    def fail(*_, **__):
        raise LibraryError("made up")

    where = {"kernels": (Kernels, "__init__"), "memory": (NetworkBuffers, "__init__"), "stream": (driver, "Stream")}
    if fails_at in where:
        monkeypatch.setattr(*where[fails_at], fail)
    trt.refuses_address = fails_at == "bind"
    driver.library.fails = "cuEventRecordWithFlags"
    if fails_at == "tensors":
        trt.tensors["logits"] = ("fp16", (1, 7, 4, 8))
    if fails_at == "events":
        real, made = driver.library._cuEventCreate, []
        monkeypatch.setattr(
            driver.library, "_cuEventCreate", lambda *a: made.append(a) or (2 if len(made) > 2 else real(*a))
        )
    if fails_at == "2nd lane":
        monkeypatch.setattr(Context, "__init__", lambda self, trt: Context_init(self, trt, limit=1))
    with pytest.raises((EngineError, LibraryError)) as held:
        tensorrt.open_lanes(BROKEN if fails_at == "engine" else ENGINE, made_of, 2)
    # While the error is still held, with all frames of its traceback: nothing waits for that.
    assert "\n" not in str(held.value)
    assert not driver.live and not driver.streams and not driver.library.events
    assert all(depth == 1 for depth in driver.freed_at), "a stream went without a context"
    assert driver.depth() == 0


def Context_init(self, trt, limit):
    trt.contexts += 1
    if trt.contexts > limit:
        raise LibraryError("made up")
    self._trt, self._addresses = trt, {}


def test_an_address_that_the_library_does_not_take_is_told(fake):
    _, trt, made_of = fake()
    trt.refuses_address = True
    with pytest.raises(EngineError, match="takes no memory for frame of the engine of icnet: it gives no reason"):
        tensorrt.open_engine(ENGINE, made_of)


def test_a_library_that_says_it_cannot_be_captured_is_believed(fake, monkeypatch, capsys):
    driver, _, made_of = fake("tensorrt-rtx")
    asked = []
    monkeypatch.setattr(Context, "is_stream_capturable", lambda self, stream: asked.append(stream), raising=False)
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        for seed in range(3):
            backend.segment(frame(20, 30, seed))
    assert len(asked) == 1 and driver.library.launched == 0
    assert "a frame is no CUDA graph here" in capsys.readouterr().err


def test_what_tensorrt_rtx_compiles_is_kept_by_the_first_frame_so_that_a_kill_loses_nothing(fake, tmp_path):
    _, _, made_of = fake("tensorrt-rtx")
    backend = tensorrt.open_engine(ENGINE, made_of)
    assert not list(tmp_path.glob("jit-*"))
    backend.segment(frame(20, 30))
    (kept,) = tmp_path.glob("jit-*")
    assert kept.read_bytes() == b"compiled"
    kept.unlink()
    backend.segment(frame(20, 30))
    assert not kept.exists()  # once, not with every frame
    backend.close()


@pytest.mark.parametrize(("capability", "words"), [("9.0", "lists SM75, SM86"), ("7.5", "built for Ampere")])
def test_a_gpu_that_tensorrt_rtx_does_not_take_is_refused_before_anything_is_opened(
    fake, monkeypatch, capability, words
):
    driver, trt, made_of = fake("tensorrt-rtx")
    trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM86")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU._replace(capability=capability))
    with pytest.raises(LibraryError, match=f"compute capability {capability}; .*{words}.*BACKEND=openvino"):
        tensorrt.open_engine(ENGINE, made_of)
    assert trt.deserialised == 0 and driver.made == 0
    tensorrt_library.refuse_unlisted("tensorrt", GPU)  # which has no such list


def test_a_gpu_that_tensorrt_rtx_lists_is_taken(fake, monkeypatch):
    _, trt, made_of = fake("tensorrt-rtx")
    trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM86")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU._replace(capability="8.6"))
    tensorrt.open_engine(ENGINE, made_of).close()
