import subprocess
from pathlib import Path

import pytest

from runtime.errors import LibraryError
from runtime.kernels import nvidia
from tests.helpers import cuda_on_cpu
from tests.helpers.children import in_child

SOURCE = Path(__file__).parents[2] / "helpers" / "fake_libcuda.cpp"
needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler")


def driver(folder, *, gpus=1, error=0):
    out = folder / f"libcuda-{gpus}-{error}.so"
    command = [cuda_on_cpu.compiler(), "-shared", "-fPIC", f"-DGPUS={gpus}", f"-DERROR={error}", SOURCE, "-o", out]
    subprocess.run(command, check=True)
    return str(out)


@needs_compiler
def test_a_gpu_is_described_by_its_driver(tmp_path):
    assert nvidia.gpu(driver(tmp_path)) == nvidia.Gpu("NVIDIA Abacus", "12.1", "13.2")


@needs_compiler
def test_a_driver_without_a_gpu_says_so(tmp_path):
    with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver shows 0 of them \(CUDA error 0\)"):
        nvidia.gpu(driver(tmp_path, gpus=0))


@needs_compiler
def test_a_driver_that_does_not_start_says_so(tmp_path):
    with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver shows 0 of them \(CUDA error 100\)"):
        nvidia.gpu(driver(tmp_path, error=100))


def test_no_driver_at_all_says_so():
    with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver's library libnothing\.so is not installed"):
        nvidia.gpu("libnothing.so")


@needs_compiler
@pytest.mark.parametrize("error", [0, 3], ids=["ours used it before the fork", "another library did"])
def test_a_process_that_was_forked_from_one_that_used_cuda_says_so(tmp_path, error, monkeypatch):
    # In such a child the driver answers 3 to whatever it is asked; what ours used, it knows without asking.
    monkeypatch.setattr(nvidia, "_used_by", None)
    if not error:
        nvidia.gpu(driver(tmp_path))
    with pytest.raises(LibraryError, match=r"CUDA cannot be used in this process: it was forked"):
        in_child(lambda: nvidia.gpu(driver(tmp_path, error=error)))
