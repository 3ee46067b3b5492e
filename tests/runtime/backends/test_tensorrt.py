import dataclasses
import enum
import gc
import sys
import threading
import time

import numpy as np
import pytest

from runtime import reference
from runtime.backends import tensorrt, tensorrt_library
from runtime.errors import EngineError, FrameError, LibraryError
from runtime.fit import with_fit
from runtime.kernels import graph, nvcc, nvidia
from runtime.manifest import this_system
from runtime.spec import Target
from tests.helpers.cuda_driver import imitated_tensorrt
from tests.helpers.imitated_gpu import GPU, expected, frame, logits_of

STEPS = ["htod", "resize_normalize_{}", "network", "coarse_winner_{}", "upsample_argmax_{}", "dtoh"]


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
def test_a_mask_is_the_reference_of_the_logits(imitated, backend, precision, block, last):
    gpu = imitated(backend, precision, block, last=last)
    with gpu.open() as backend:
        for size in ((16, 32), (37, 53), (8, 9), (1, 1), (4 * block, 8 * block)):
            logits, mask = expected(precision, block, frame(*size), last)
            np.testing.assert_array_equal(backend.segment(frame(*size)), mask)
            np.testing.assert_array_equal(backend.logits(frame(*size)), logits.astype(np.float32))
            assert backend.logits(frame(*size)).dtype == np.float32


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
def test_a_frame_with_a_border_has_the_mask_that_the_reference_gives_it(imitated, last):
    gpu = imitated(precision="fp32", last=last)
    with gpu.open(with_fit(gpu.manifest, "pad")) as backend:
        for size in ((16, 32), (37, 20), (8, 90), (1, 1), (4, 8), (4, 4)):
            expected = reference.segment(backend.logits(frame(*size)), backend.spec, size)
            np.testing.assert_array_equal(backend.segment(frame(*size)), expected)
            values = reference.preprocess(frame(*size), backend.spec.preprocess)
            np.testing.assert_array_equal(backend.logits(frame(*size)), logits_of(values, "fp32", 1, last))


def test_a_frame_is_two_copies_three_kernels_and_one_wait(imitated):
    gpu = imitated()
    steps = [step.format("fp16") for step in STEPS]
    with gpu.open() as backend:
        for before in ("wait", "graph", "graph"):  # the first frame of a size waits before there are buffers for it
            backend.segment(frame(20, 30))
            assert gpu.ran() == [before, *steps, "wait"]


def test_a_frame_of_the_logits_size_needs_no_upsampling(imitated):
    gpu = imitated(block=2)
    with gpu.open() as backend:
        np.testing.assert_array_equal(backend.segment(frame(8, 16)), expected("fp16", 2, frame(8, 16))[1])
        assert gpu.ran() == ["wait", *(s.format("fp16") for s in STEPS[:4]), "dtoh", "wait"]


def test_from_the_second_frame_of_a_size_on_one_call_enqueues_all_of_it(imitated):
    gpu = imitated()
    enqueued = gpu.calls(gpu.trt.IExecutionContext, "execute_async_v3")
    with gpu.open() as backend:
        for seed in range(3):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
            # Once by itself, once into the graph.
            assert (gpu.ran().count("graph"), len(enqueued)) == ((0, 1), (1, 2), (1, 2))[seed]
        backend.segment(frame(10, 11))
        assert (gpu.ran().count("graph"), len(enqueued), gpu.live("graphs")) == (0, 3, 0)
    assert gpu.live() == 0


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_frame_that_cannot_be_captured_is_enqueued_call_by_call_and_said_once(imitated, capsys, call):
    gpu = imitated()
    gpu.fails(call)
    with gpu.open() as backend:
        for seed in range(3):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
    assert capsys.readouterr().err.count(f"refuses {call} (CUDA error 901)") == 1
    assert "graph" not in gpu.ran() and gpu.live() == 0


def refuse_captured(gpu):
    """Let the library refuse what is captured, and say why."""
    context = gpu.trt.IExecutionContext
    run = context.execute_async_v3
    gpu.calls(context, "execute_async_v3", lambda it, on: it._refused("no") if it._captures(on) else run(it, on))


def refuse_frames(gpu):
    """Let the library refuse every frame without a word."""
    gpu.calls(gpu.trt.IExecutionContext, "execute_async_v3", lambda *_: False)


def test_a_network_that_fails_in_the_capture_leaves_the_stream_as_it_was(imitated, capsys):
    gpu = imitated()
    with gpu.open() as backend:
        refuse_captured(gpu)
        for seed in range(2):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
    assert capsys.readouterr().err.count("is no CUDA graph here") == 1
    assert gpu.live() == 0


@pytest.mark.parametrize("call", ["cuGraphExecDestroy", "cuEventDestroy_v2"])
def test_a_driver_that_takes_nothing_back_hides_no_other_error_and_keeps_no_memory(imitated, call):
    gpu = imitated()
    with pytest.raises(KeyError), gpu.open() as backend:
        for _ in range(2):
            backend.segment(frame(20, 30))
        gpu.fails(call)
        raise KeyError
    assert gpu.live("device", "pinned", "streams", "modules") == 0 < gpu.live()
    gpu.forget()


def test_a_frame_that_is_interrupted_is_waited_for_before_its_memory_goes(imitated, monkeypatch):
    gpu = imitated()
    with pytest.raises(KeyboardInterrupt), gpu.open() as backend:
        backend.segment(frame(20, 30))

        def interrupted(self):
            launch(self)
            raise KeyboardInterrupt

        launch = graph.Graph.launch
        monkeypatch.setattr(graph.Graph, "launch", interrupted)
        backend.segment(frame(20, 30))
    assert gpu.live() == 0


def test_what_was_said_of_a_refused_capture_is_no_reason_of_a_later_error(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        refuse_captured(gpu)
        for _ in range(2):
            backend.segment(frame(20, 30))
        refuse_frames(gpu)
        with pytest.raises(EngineError, match="cannot run the engine of icnet: it gives no reason"):
            backend.segment(frame(20, 30))


def test_after_the_first_frame_nothing_is_allocated(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.segment(frame(20, 30))
        backend.segment(frame(20, 30))
        before = gpu.made, gpu.live()
        for seed in range(50):
            backend.segment(frame(20, 30, seed))
        assert (gpu.made, gpu.live()) == before


def test_another_frame_size_takes_the_place_of_the_last(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.segment(frame(20, 30))
        live = gpu.live("device")
        for size in ((10, 11), (20, 30), (7, 200)):
            np.testing.assert_array_equal(backend.segment(frame(*size)), expected("fp16", 1, frame(*size))[1])
            assert gpu.live("device") == live


def test_close_frees_everything_and_a_second_close_nothing(imitated):
    gpu = imitated()
    backend = gpu.open()
    backend.segment(frame(20, 30))
    assert gpu.live()
    backend.close()
    backend.close()
    assert gpu.live() == 0
    assert gpu.pushed == 0
    with pytest.raises(ValueError, match="closed"):
        backend.segment(frame(20, 30))


def test_a_mask_belongs_to_the_caller(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        first = backend.segment(np.zeros((20, 30, 3), np.uint8))
        kept = first.copy()
        assert not np.array_equal(backend.segment(np.full((20, 30, 3), 255, np.uint8)), kept)
        np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, kept)


def test_a_view_that_is_not_contiguous_is_a_frame(imitated):
    gpu = imitated()
    flipped = frame(20, 30)[::-1, ::-1, ::-1]
    with gpu.open() as backend:
        np.testing.assert_array_equal(backend.segment(flipped), expected("fp16", 1, flipped.copy())[1])


def test_any_thread_may_segment_and_close(imitated):
    gpu = imitated()
    backend = gpu.open()
    masks = []

    def work():
        masks.append(backend.segment(frame(20, 30)))
        backend.close()
        masks.append(gpu.pushed)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(masks[0], expected("fp16", 1, frame(20, 30))[1])
    assert masks[1] == 0
    assert gpu.live() == 0


def test_while_one_lane_captures_no_other_turns_collection_on_again():
    order, inside = [], threading.Event()

    def capture(name):
        with graph._nothing_collected():
            inside.set()
            time.sleep(0.05)
            order.append((name, gc.isenabled()))

    threads = [threading.Thread(target=capture, args=(name,)) for name in "ab"]
    threads[0].start()
    inside.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert order == [("a", False), ("b", False)] and gc.isenabled()


def test_the_stages_sum_to_the_time_of_the_frame(imitated, monkeypatch):
    gpu = imitated()
    monkeypatch.setattr(graph.Event, "ms_since", lambda *_: 0.25)
    with gpu.open() as backend:
        assert backend.stages_ms == {}
        backend.segment(frame(20, 30))
        assert list(backend.stages_ms) == ["preprocess", "network", "postprocess"]
        assert backend.stages_ms["preprocess"] > backend.stages_ms["network"] == 0.25  # the host's copy is in it
        backend.segment(frame(20, 30))
        assert backend.stages_ms["preprocess"] > backend.stages_ms["network"] == 0.25


def test_what_is_no_frame_is_refused_and_the_context_is_left(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        with pytest.raises(FrameError):
            backend.segment(np.zeros((4, 4), np.uint8))
        assert gpu.pushed == 0


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_that_the_library_refuses_is_one_line_with_its_first_reason(imitated, backend):
    gpu = imitated(backend)
    gpu.engine = b"broken"
    with pytest.raises(EngineError, match=r"refuses the engine of icnet: the plan file is corrupt$"):
        gpu.open()
    assert gpu.pushed == 0


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ("get_tensor_dtype", imitated_tensorrt.DataType.INT8),
        ("get_tensor_shape", (1, 3, 16, 64)),
        ("get_tensor_shape", (2, 3, 16, 32)),
    ],
)
def test_an_engine_of_another_model_is_refused(imitated, asked, wrong):
    gpu = imitated()
    gpu.calls(gpu.trt.ICudaEngine, asked, lambda *_: wrong)
    with pytest.raises(EngineError, match=r"tensor frame is .*, expected fp16 or fp32 \(1, 3, 16, 32\) for icnet"):
        gpu.open()


def test_an_engine_that_does_not_run_says_so_and_closes(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        refuse_frames(gpu)
        with pytest.raises(EngineError, match="cannot run the engine of icnet"):
            backend.segment(frame(20, 30))
        assert gpu.pushed == 0
    assert gpu.live() == 0


def test_a_full_gpu_is_one_line_and_the_next_frame_may_fit(imitated):
    gpu = imitated()
    with gpu.open() as backend:
        backend.segment(frame(20, 30))
        gpu.leave(0)
        with pytest.raises(LibraryError, match="the GPU has no"):
            backend.segment(frame(200, 300))
        backend.segment(frame(20, 30))
    assert gpu.live() == 0


def test_what_tensorrt_rtx_compiles_is_kept_for_the_next_time(imitated, tmp_path):
    gpu = imitated("tensorrt-rtx")
    read = gpu.calls(gpu.trt.IRuntimeCache, "deserialize")
    gpu.open().close()
    assert read == []
    (kept,) = tmp_path.iterdir()
    assert kept.name == f"jit-{'1' * 16}-1.0-NVIDIA-Abacus.bin"
    assert kept.read_bytes() == b"compiled"
    gpu.open().close()
    assert read == [(b"compiled",)]


def test_without_a_gpu_opening_says_so(imitated, monkeypatch):
    gpu = imitated("tensorrt-rtx")
    monkeypatch.undo()
    if _has_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(LibraryError, match="no NVIDIA GPU here"):
        gpu.open()


@pytest.mark.parametrize(
    ("backend", "capability", "compiler", "message"),
    [
        ("tensorrt", "9.0", True, None),
        ("tensorrt-rtx", "8.9", True, None),
        (
            "tensorrt-rtx",
            "9.0",
            True,
            "NVIDIA Abacus has compute capability 9.0; tensorrt-rtx lists SM75, SM89. Build for",
        ),
        ("tensorrt", "9.0", False, "nvcc is not on the PATH"),
    ],
)
def test_a_backend_opens_where_its_library_lists_the_gpu_and_the_kernels_compile(
    imitated, monkeypatch, backend, capability, compiler, message
):
    gpu = imitated(backend)
    gpu.trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM89")
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda *names: "1.7")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU._replace(capability=capability))
    monkeypatch.setattr(nvcc, "_candidates", lambda: ())
    if compiler:
        monkeypatch.setattr(tensorrt, "compiled", lambda arch: b"cubin")
    if message is None:
        tensorrt.check_opens(backend)
        return
    with pytest.raises(LibraryError, match=message):
        tensorrt.check_opens(backend)


def test_a_backend_does_not_open_without_a_pycuda_that_works(imitated, monkeypatch):
    gpu = imitated()
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda *names: "11.4")

    def refuses():
        raise gpu.driver.Error("no device")

    monkeypatch.setattr(gpu.driver, "init", refuses)
    with pytest.raises(LibraryError, match=r"pycuda cannot use the NVIDIA driver \(no device\)"):
        tensorrt.check_opens("tensorrt")
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(LibraryError, match="pycuda cannot be loaded"):
        tensorrt.check_opens("tensorrt")


def test_a_tensorrt_engine_is_for_one_gpu_and_a_tensorrt_rtx_engine_for_any(monkeypatch):
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda *names: "11.4")
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU)
    here = tensorrt.this_target("tensorrt")
    assert here == Target("tensorrt", "11.4", "NVIDIA Abacus", "9.0", this_system())
    monkeypatch.setattr(nvidia, "gpu", lambda: pytest.fail("asked for a GPU"))
    portable = dataclasses.replace(here, library="tensorrt-rtx", device="any", capability="portable")
    assert tensorrt.this_target("tensorrt-rtx") == portable


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_library_that_is_not_installed_is_one_line(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, tensorrt_library.MODULES[backend], None)
    with pytest.raises(LibraryError, match=f"{backend} cannot be loaded"):
        tensorrt_library.library(backend)


def _has_gpu():
    try:
        nvidia.gpu()
    except LibraryError:
        return False
    return True
