"""The doctor on this machine, on one that is broken in every way, and on a GPU that is made up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime import cli, doctor
from runtime.backends import tensorrt, tensorrt_library
from runtime.errors import LibraryError
from runtime.health import on_cpu, on_gpu
from runtime.health.on_gpu import GpuTrial
from runtime.health.steps import Step, in_turn
from runtime.kernels import cuda, nvcc, nvidia
from runtime.lanes import Lanes
from tests.helpers.imitated_gpu import GPU

ROOT = Path(__file__).parents[2]
GPU_STEPS = [step.name for step in GpuTrial(None).steps()]


@pytest.fixture
def cpu_alone(monkeypatch):
    """A machine without a GPU whose libraries are not tried."""

    def none():
        raise LibraryError("no NVIDIA GPU here: a test says so")

    monkeypatch.setattr(nvidia, "gpu", none)
    monkeypatch.setattr(on_cpu, "child", lambda *_, **__: "1.0")


def broken(monkeypatch, word, told):
    def child(code, remedy, *arguments):
        if word in code:
            raise LibraryError(f"{told}. {remedy}")
        return "1.0"

    monkeypatch.setattr(on_cpu, "child", child)


def test_this_machine_is_examined_for_real_and_its_engines_run():
    outcomes, works = doctor.examined(gpu=False)
    assert [outcome for outcome in outcomes if outcome.state == "failed"] == []
    assert "openvino" in works and "onnxruntime" in works
    assert next(each for each in outcomes if each.name == "CPU kernels").told.endswith("compiled by numba")


def test_without_a_gpu_it_says_what_works_and_the_exit_code_is_0(cpu_alone, capsys):
    assert doctor.main([]) == cli.DONE
    printed = capsys.readouterr().out
    assert "no NVIDIA GPU here" in printed and "Engines run here on openvino, onnxruntime" in printed
    assert "Mend first" not in printed


def test_json_holds_every_step(cpu_alone, capsys):
    assert doctor.main(["--json"]) == cli.DONE
    document = json.loads(capsys.readouterr().out)
    assert document["backends"] == ["openvino", "onnxruntime"]
    assert {"name": "GPU", "state": "note", "told": "no NVIDIA GPU here: a test says so"} in document["steps"]


def test_one_inference_library_is_enough(cpu_alone, monkeypatch, capsys):
    broken(monkeypatch, "openvino", "ModuleNotFoundError: No module named 'openvino'")
    assert doctor.main([]) == cli.DONE
    printed = capsys.readouterr().out
    assert "note    OpenVINO        ModuleNotFoundError" in printed and "run here on onnxruntime;" in printed


@pytest.mark.parametrize(("word", "name"), [("numpy; print", "NumPy"), ("cv2", "OpenCV"), ("numba", "numba")])
def test_a_broken_library_that_all_need_is_named_first_with_its_remedy(cpu_alone, monkeypatch, capsys, word, name):
    broken(monkeypatch, word, "its files are damaged")
    assert doctor.main([]) == cli.FAILED
    printed = capsys.readouterr().out
    assert "No engine runs here." in printed
    assert f"Mend first: {name}: its files are damaged. Install it again: pip install --force-reinstall" in printed


def test_a_cache_that_cannot_be_written_and_a_cpu_without_avx2_are_notes(cpu_alone, monkeypatch, capsys):
    monkeypatch.setattr(on_cpu, "_can_write", lambda folder: False)
    monkeypatch.setattr(on_cpu, "cpu_features", lambda: ("amx_int8",))
    monkeypatch.setattr(on_cpu.platform, "machine", lambda: "x86_64")
    assert doctor.main([]) == cli.DONE
    printed = capsys.readouterr().out
    assert "NUMBA_CACHE_DIR may name a folder" in printed and "Without AVX2 OpenVINO is slow" in printed


def test_loops_that_make_another_mask_are_found(monkeypatch):
    from runtime.kernels.cpu import Segmenter

    assert "to the last bit" in on_cpu.loops_agree()
    real = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda *a: np.maximum(real(*a), 1))
    with pytest.raises(AssertionError, match="mask is not the reference's"):
        on_cpu.loops_agree()


def test_without_numpy_it_still_tells_what_to_mend(tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('libgfortran is damaged')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "runtime.doctor", "--no-gpu"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == cli.FAILED, done.stderr
    assert "Mend first: NumPy: ImportError: libgfortran is damaged" in done.stdout


@pytest.fixture
def gpu_trial(imitated, monkeypatch, tmp_path):
    """A function that tries all steps on an imitated GPU: what it is, and outcomes by name."""
    path = tmp_path / "made-up.engine"

    def run(spoil=lambda gpu: None):
        gpu = imitated()
        gpu.trt.__version__ = "11.4"
        monkeypatch.setattr(tensorrt_library, "installed_version", lambda *names: "11.4")
        monkeypatch.setattr(nvcc, "_candidates", lambda: [Path(sys.executable)])
        monkeypatch.setattr(
            "runtime.lanes.open_lanes", lambda _, count: Lanes(tensorrt.open_lanes(gpu.engine, gpu.manifest, count))
        )
        spoil(gpu)
        trial = GpuTrial(path)
        try:
            outcomes = {outcome.name: outcome for outcome in in_turn(trial.steps())}
        finally:
            trial.close()
        return gpu, outcomes

    return run


def test_on_a_gpu_each_step_is_tried_and_nothing_is_left(gpu_trial):
    gpu, outcomes = gpu_trial()
    assert {name: each.state for name, each in outcomes.items()} == dict.fromkeys(GPU_STEPS, "ok"), outcomes
    assert gpu.live() == gpu.pushed == 0
    assert GPU.name in outcomes["GPU"].told


def no_memory(gpu):
    gpu.leave(0)


def no_capture(gpu):
    gpu.fails("cuStreamBeginCapture_v2")


def no_engine(gpu):
    gpu.calls(gpu.trt.ICudaEngine, "get_tensor_shape", lambda *_: (1, 7, 4, 8))


def no_run(gpu):
    gpu.calls(gpu.trt.IExecutionContext, "execute_async_v3", lambda *_: False)


def other_memory(gpu):
    def spoilt(dest, src, stream):
        copy(dest, src, stream)
        stream.synchronize()
        dest.reshape(-1)[0] ^= 1

    copy = gpu.driver.memcpy_dtoh_async
    gpu.calls(gpu.driver, "memcpy_dtoh_async", spoilt)


@pytest.mark.parametrize(
    ("spoil", "name", "told"),
    [
        (no_memory, "allocate", "the GPU has no"),
        (other_memory, "copy", "not what was sent"),
        (no_capture, "capture", "refuses cuStreamBeginCapture_v2"),
        (no_engine, "deserialise", "expected fp16 or fp32"),
        (no_run, "enqueue", "cannot run"),
    ],
)
def test_the_first_step_that_fails_is_told_and_none_after_it_is_tried(gpu_trial, spoil, name, told):
    gpu, outcomes = gpu_trial(spoil)
    states = [outcomes[each].state for each in GPU_STEPS]
    at = GPU_STEPS.index(name)
    assert states == ["ok"] * at + ["failed"] + ["skipped"] * (len(states) - at - 1), outcomes
    assert told in outcomes[name].told
    assert gpu.live() == gpu.pushed == 0


def test_a_kernel_that_makes_another_mask_is_found(gpu_trial, monkeypatch):
    from runtime import reference

    real = reference.postprocess
    monkeypatch.setattr(reference, "postprocess", lambda *a, **k: np.minimum(real(*a, **k), 9))
    _, outcomes = gpu_trial()
    assert outcomes["kernels"].state == "failed" and "the GPU's mask is the reference's in" in outcomes["kernels"].told


def test_with_a_gpu_whose_library_is_missing_the_remedy_is_named_and_the_code_is_1(monkeypatch, capsys):
    monkeypatch.setattr(nvidia, "gpu", lambda: GPU)
    monkeypatch.setattr(on_cpu, "child", lambda *_, **__: "1.0")
    monkeypatch.setattr(tensorrt_library, "installed_version", _not_installed)
    assert doctor.main([]) == cli.FAILED
    printed = capsys.readouterr().out
    assert "Mend first: TensorRT: tensorrt: made up is not installed" in printed
    assert "Engines run here on openvino, onnxruntime" in printed


def _not_installed(*names):
    raise LibraryError("made up is not installed")


def test_no_engine_yet_names_the_command_that_builds_one(monkeypatch):
    monkeypatch.setattr("runtime.lookup.found_engines", lambda: [])
    with pytest.raises(
        Exception, match=r"no engine for TensorRT is here yet: make engine MODEL=icnet .*BACKEND=tensorrt"
    ):
        on_gpu._newest()
    assert in_turn([Step("deserialise", on_gpu._newest)])[0].state == "failed"


def test_the_steps_compile_the_kernels(gpu_trial, monkeypatch):
    def refuse(capability):
        raise LibraryError("nvcc cannot compile segment.cu")

    monkeypatch.setattr(cuda, "compiled", refuse)
    _, outcomes = gpu_trial(lambda *_: monkeypatch.setattr(cuda, "compiled", refuse))
    assert outcomes["nvcc"].told == "nvcc cannot compile segment.cu"
