"""Lanes over one engine, what is kept of a first frame, and what is left of an open that failed."""

import enum
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runtime import reference
from runtime.backends import tensorrt, tensorrt_library
from runtime.backends.tensorrt_buffers import NetworkBuffers
from runtime.errors import EngineError, LibraryError
from runtime.kernels import nvidia
from runtime.kernels.cuda import Kernels
from runtime.kernels.graph import Event
from runtime.lanes import SharesEngine
from tests.helpers.imitated_gpu import GPU, expected, frame, logits_of

BACKENDS = ("tensorrt", "tensorrt-rtx")


@pytest.mark.parametrize("backend", BACKENDS)
def test_lanes_share_one_engine_and_have_a_context_each(imitated, backend):
    gpu = imitated(backend)
    assert isinstance(tensorrt, SharesEngine)
    deserialised = gpu.calls(gpu.trt.Runtime, "deserialize_cuda_engine")
    contexts = gpu.calls(gpu.trt.ICudaEngine, "create_execution_context")
    lanes = tensorrt.open_lanes(gpu.engine, gpu.manifest, 3)
    assert (len(deserialised), len(contexts), gpu.live("streams")) == (1, 3, 3)
    for seed, lane in enumerate(lanes * 3):
        np.testing.assert_array_equal(lane.segment(frame(20, 30, seed)), expected("fp16", 1, frame(20, 30, seed))[1])
    lanes[0].close()
    np.testing.assert_array_equal(lanes[2].segment(frame(20, 30)), expected("fp16", 1, frame(20, 30))[1])
    for lane in lanes:
        lane.close()
    assert gpu.live() == 0


def test_a_lane_captures_while_another_copies_on_the_null_stream(imitated, monkeypatch):
    gpu, image = imitated(), frame(20, 30)
    first, second = tensorrt.open_lanes(gpu.engine, gpu.manifest, 2)
    enqueue = first._enqueue

    def beside_another(*given, captured=False):
        enqueue(*given, captured=captured)
        if captured:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(second.logits, image).result()

    monkeypatch.setattr(first, "_enqueue", beside_another)
    with first, second:
        masks = [first.segment(image) for _ in range(2)]
        assert first.captured
        np.testing.assert_array_equal(masks[1], expected("fp16", 1, image)[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fails_at", ["engine", "tensors", "kernels", "stream", "memory", "bind", "events", "2nd lane"])
def test_an_open_that_fails_leaves_nothing_on_the_gpu(imitated, monkeypatch, backend, fails_at):
    gpu = imitated(backend)
    trt, driver = gpu.trt, gpu.driver

    def fail(*_, **__):
        raise LibraryError("made up")

    where = {"kernels": (Kernels, "__init__"), "memory": (NetworkBuffers, "__init__"), "stream": (driver, "Stream")}
    if fails_at in where:
        monkeypatch.setattr(*where[fails_at], fail)
    if fails_at == "engine":
        gpu.engine = b"broken"
    if fails_at == "bind":
        gpu.calls(trt.IExecutionContext, "set_tensor_address", lambda *_: False)
    if fails_at == "tensors":
        gpu.calls(trt.ICudaEngine, "get_tensor_shape", lambda *_: (1, 7, 4, 8))
    if fails_at == "events":
        real = Event.__init__
        made = gpu.calls(Event, "__init__", lambda it: fail() if len(made) > 2 else real(it))
    if fails_at == "2nd lane":
        open_one = trt.ICudaEngine.create_execution_context
        opened = gpu.calls(
            trt.ICudaEngine, "create_execution_context", lambda *it: open_one(*it) if len(opened) < 2 else None
        )
    with pytest.raises((EngineError, LibraryError)) as held:
        tensorrt.open_lanes(gpu.engine, gpu.manifest, 2)
    # While the error is still held, with all frames of its traceback: nothing waits for that.
    assert "\n" not in str(held.value)
    assert gpu.live() == gpu.pushed == 0


def test_an_address_that_the_library_does_not_take_is_told(imitated):
    gpu = imitated()
    gpu.calls(gpu.trt.IExecutionContext, "set_tensor_address", lambda *_: False)
    with pytest.raises(EngineError, match="takes no memory for frame of the engine of icnet: it gives no reason"):
        gpu.open()


def test_a_library_that_says_it_cannot_be_captured_is_believed(imitated, monkeypatch, capsys):
    gpu = imitated("tensorrt-rtx")
    asked = gpu.calls(gpu.trt.IExecutionContext, "is_stream_capturable", lambda *_: False)
    with gpu.open() as backend:
        for seed in range(3):
            backend.segment(frame(20, 30, seed))
    assert len(asked) == 1 and "graph" not in gpu.ran()
    assert "a frame is no CUDA graph here" in capsys.readouterr().err


def test_what_tensorrt_rtx_compiles_is_kept_by_the_first_frame_so_that_a_kill_loses_nothing(imitated, tmp_path):
    gpu = imitated("tensorrt-rtx")
    backend = gpu.open()
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
    imitated, monkeypatch, capability, words
):
    gpu = imitated("tensorrt-rtx")
    gpu.trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM86")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU._replace(capability=capability))
    opened, before = gpu.calls(gpu.trt.Runtime, "deserialize_cuda_engine"), gpu.made
    with pytest.raises(LibraryError, match=f"compute capability {capability}; .*{words}.*BACKEND=openvino"):
        gpu.open()
    assert opened == [] and gpu.made == before
    tensorrt_library.refuse_unlisted("tensorrt", GPU)  # which has no such list


def test_a_gpu_that_tensorrt_rtx_lists_is_taken(imitated, monkeypatch):
    gpu = imitated("tensorrt-rtx")
    gpu.trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM86")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU._replace(capability="8.6"))
    gpu.open().close()


def test_an_open_engine_takes_another_fit_from_the_next_frame_on(imitated):
    gpu, image = imitated(precision="fp32"), frame(37, 20)
    with gpu.open() as backend:
        for fit in ("stretch", "pad", "stretch"):
            backend.refit(fit)
            wanted = reference.segment(backend.logits(image), backend.spec, image.shape[:2])
            for _ in range(3):  # the second one of a size is a graph
                np.testing.assert_array_equal(backend.segment(image), wanted)
            values = reference.preprocess(image, backend.spec.preprocess)
            np.testing.assert_array_equal(backend.logits(image), logits_of(values, "fp32", 1, False))
