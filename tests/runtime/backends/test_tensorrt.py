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
from tests.helpers import cuda_on_cpu
from tests.helpers.fake_gpu import GPU, expected, frame, network
from tests.helpers.fake_tensorrt import BROKEN, ENGINE

pytestmark = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")

STEPS = ["htod", "resize_normalize_{}", "network", "coarse_winner_{}", "upsample_argmax_{}", "dtoh"]


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
def test_a_mask_is_the_reference_of_the_logits(fake, backend, precision, block, last):
    _, _, made_of = fake(backend, precision, block, last=last)
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        for size in ((16, 32), (37, 53), (8, 9), (1, 1), (4 * block, 8 * block)):
            logits, mask = expected(precision, block, frame(*size))
            np.testing.assert_array_equal(backend.segment(frame(*size)), mask)
            np.testing.assert_array_equal(backend.logits(frame(*size)), logits.astype(np.float32))
            assert backend.logits(frame(*size)).dtype == np.float32


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
def test_a_frame_with_a_border_has_the_mask_that_the_reference_gives_it(fake, last):
    _, _, made_of = fake(precision="fp32", last=last)
    with tensorrt.open_engine(ENGINE, with_fit(made_of, "pad")) as backend:
        for size in ((16, 32), (37, 20), (8, 90), (1, 1), (4, 8), (4, 4)):
            expected = reference.segment(backend.logits(frame(*size)), backend.spec, size)
            np.testing.assert_array_equal(backend.segment(frame(*size)), expected)
            values = reference.preprocess(frame(*size), backend.spec.preprocess)
            np.testing.assert_array_equal(backend.logits(frame(*size)), network(values))


def test_a_frame_is_two_copies_three_kernels_and_one_wait(fake):
    driver, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        for count in (2, 3, 4):  # the first frame of a size also waits before there are buffers for it
            backend.segment(frame(20, 30))
            assert driver.waits == count
        assert [name for name in driver.done if name != "upload"] == [step.format("fp16") for step in STEPS] * 3


def test_a_frame_of_the_logits_size_needs_no_upsampling(fake):
    driver, _, made_of = fake(block=2)
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        np.testing.assert_array_equal(backend.segment(frame(8, 16)), expected("fp16", 2, frame(8, 16))[1])
    assert [name for name in driver.done if name != "upload"] == [*(s.format("fp16") for s in STEPS[:4]), "dtoh"]


def test_from_the_second_frame_of_a_size_on_one_call_enqueues_all_of_it(fake):
    driver, trt, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        for seed in range(3):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
            # Once by itself, once into the graph.
            assert (driver.library.launched, trt.enqueued) == ((0, 1), (1, 2), (2, 2))[seed]
        backend.segment(frame(10, 11))
        assert (driver.library.launched, trt.enqueued, len(driver.library.graphs)) == (2, 3, 0)
    assert driver.library.graphs == driver.library.events == {}


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_frame_that_cannot_be_captured_is_enqueued_call_by_call_and_said_once(fake, capsys, call):
    driver, _, made_of = fake()
    driver.library.fails = call
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        for seed in range(3):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
    assert capsys.readouterr().err.count(f"refuses {call} (CUDA error 901)") == 1
    assert driver.library.launched == 0 and driver.library.graphs == {}


def test_a_network_that_fails_in_the_capture_leaves_the_stream_as_it_was(fake, capsys):
    driver, trt, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        trt.fails_captured = True
        for seed in range(2):
            image = frame(20, 30, seed)
            np.testing.assert_array_equal(backend.segment(image), expected("fp16", 1, image)[1])
    assert capsys.readouterr().err.count("is no CUDA graph here") == 1
    assert driver.live == driver.library.events == driver.library.graphs == {}


@pytest.mark.parametrize("call", ["cuGraphExecDestroy", "cuEventDestroy_v2"])
def test_a_driver_that_takes_nothing_back_hides_no_other_error_and_keeps_no_memory(fake, call):
    driver, _, made_of = fake()
    with pytest.raises(KeyError), tensorrt.open_engine(ENGINE, made_of) as backend:
        for _ in range(2):
            backend.segment(frame(20, 30))
        driver.library.fails = call
        raise KeyError
    assert driver.live == {}


def test_a_frame_that_is_interrupted_is_waited_for_before_its_memory_goes(fake):
    driver, _, made_of = fake()
    with pytest.raises(KeyboardInterrupt), tensorrt.open_engine(ENGINE, made_of) as backend:
        backend.segment(frame(20, 30))

        (stream,) = driver.streams.values()

        def interrupted():
            del stream.synchronize
            raise KeyboardInterrupt

        stream.synchronize = interrupted
        backend.segment(frame(20, 30))
    assert driver.live == driver.library.graphs == {}


def test_what_was_said_of_a_refused_capture_is_no_reason_of_a_later_error(fake):
    _, trt, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        trt.fails_captured = True
        for _ in range(2):
            backend.segment(frame(20, 30))
        trt.fails = True
        with pytest.raises(EngineError, match="cannot run the engine of icnet: it gives no reason"):
            backend.segment(frame(20, 30))


def test_after_the_first_frame_nothing_is_allocated(fake):
    driver, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        backend.segment(frame(20, 30))
        backend.segment(frame(20, 30))
        before = (driver.made, set(driver.live), set(driver.library.graphs))
        for seed in range(50):
            backend.segment(frame(20, 30, seed))
        assert (driver.made, set(driver.live), set(driver.library.graphs)) == before


def test_another_frame_size_takes_the_place_of_the_last(fake):
    driver, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        backend.segment(frame(20, 30))
        live = len(driver.live)
        for size in ((10, 11), (20, 30), (7, 200)):
            np.testing.assert_array_equal(backend.segment(frame(*size)), expected("fp16", 1, frame(*size))[1])
            assert len(driver.live) == live


def test_close_frees_everything_and_a_second_close_nothing(fake):
    driver, _, made_of = fake()
    backend = tensorrt.open_engine(ENGINE, made_of)
    backend.segment(frame(20, 30))
    assert driver.live
    backend.close()
    backend.close()
    assert driver.live == {} and driver.freed_at == [1]  # the stream too, while the context is current
    assert driver.depth() == 0
    with pytest.raises(ValueError, match="closed"):
        backend.segment(frame(20, 30))


def test_a_mask_belongs_to_the_caller(fake):
    _, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        first = backend.segment(np.zeros((20, 30, 3), np.uint8))
        kept = first.copy()
        assert not np.array_equal(backend.segment(np.full((20, 30, 3), 255, np.uint8)), kept)
        np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, kept)


def test_a_view_that_is_not_contiguous_is_a_frame(fake):
    _, _, made_of = fake()
    flipped = frame(20, 30)[::-1, ::-1, ::-1]
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        np.testing.assert_array_equal(backend.segment(flipped), expected("fp16", 1, flipped.copy())[1])


def test_any_thread_may_segment_and_close(fake):
    driver, _, made_of = fake()
    backend = tensorrt.open_engine(ENGINE, made_of)
    masks = []

    def work():
        masks.append(backend.segment(frame(20, 30)))
        backend.close()
        masks.append(driver.depth())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(masks[0], expected("fp16", 1, frame(20, 30))[1])
    assert masks[1] == 0
    assert driver.live == {}


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


def test_the_stages_sum_to_the_time_of_the_frame(fake):
    _, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        assert backend.stages_ms == {}
        backend.segment(frame(20, 30))
        assert list(backend.stages_ms) == ["preprocess", "network", "postprocess"]
        assert backend.stages_ms["preprocess"] > backend.stages_ms["network"] == 0.25  # the host's copy is in it
        backend.segment(frame(20, 30))
        assert backend.stages_ms["preprocess"] > backend.stages_ms["network"] == 0.25


def test_what_is_no_frame_is_refused_and_the_context_is_left(fake):
    driver, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        with pytest.raises(FrameError):
            backend.segment(np.zeros((4, 4), np.uint8))
        assert driver.depth() == 0


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_that_the_library_refuses_is_one_line_with_its_first_reason(fake, backend):
    driver, _, made_of = fake(backend)
    with pytest.raises(EngineError, match=r"refuses the engine of icnet: the plan file is corrupt$"):
        tensorrt.open_engine(BROKEN, made_of)
    assert driver.depth() == 0


@pytest.mark.parametrize("wrong", [("int8", (1, 3, 16, 32)), ("fp16", (1, 3, 16, 64)), ("fp16", (2, 3, 16, 32))])
def test_an_engine_of_another_model_is_refused(fake, wrong):
    _, trt, made_of = fake()
    trt.tensors["frame"] = wrong
    with pytest.raises(EngineError, match=r"tensor frame is .*, expected fp16 or fp32 \(1, 3, 16, 32\) for icnet"):
        tensorrt.open_engine(ENGINE, made_of)


def test_an_engine_that_does_not_run_says_so_and_closes(fake):
    driver, trt, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        trt.fails = True
        with pytest.raises(EngineError, match="cannot run the engine of icnet"):
            backend.segment(frame(20, 30))
        assert driver.depth() == 0
    assert driver.live == {}


def test_a_full_gpu_is_one_line_and_the_next_frame_may_fit(fake):
    driver, _, made_of = fake()
    with tensorrt.open_engine(ENGINE, made_of) as backend:
        backend.segment(frame(20, 30))
        driver.left = sum(allocation.array.nbytes for allocation in driver.live.values())
        with pytest.raises(LibraryError, match="the GPU has no"):
            backend.segment(frame(200, 300))
        backend.segment(frame(20, 30))
    assert driver.live == {}


def test_what_tensorrt_rtx_compiles_is_kept_for_the_next_time(fake, tmp_path):
    _, trt, made_of = fake("tensorrt-rtx")
    tensorrt.open_engine(ENGINE, made_of).close()
    (kept,) = tmp_path.iterdir()
    assert kept.name == f"jit-{'1' * 16}-1.0-NVIDIA-Abacus.bin"
    assert kept.read_bytes() == b"compiled"
    tensorrt.open_engine(ENGINE, made_of).close()
    assert [cache.given for cache in trt.caches] == [None, b"compiled"]


def test_without_a_gpu_opening_says_so(fake, monkeypatch):
    _, _, made_of = fake("tensorrt-rtx")
    monkeypatch.undo()
    if _has_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(LibraryError, match="no NVIDIA GPU here"):
        tensorrt.open_engine(ENGINE, made_of)


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
    fake, monkeypatch, backend, capability, compiler, message
):
    _, trt, _ = fake(backend)
    trt.ComputeCapability = enum.Enum("ComputeCapability", "NONE CURRENT SM75 SM89")
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


def test_a_backend_does_not_open_without_a_pycuda_that_works(fake, monkeypatch):
    driver, _, _ = fake()
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda *names: "11.4")

    def refuses():
        raise driver.Error("no device")

    monkeypatch.setattr(driver, "init", refuses)
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
