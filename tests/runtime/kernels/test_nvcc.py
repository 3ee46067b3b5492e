import os

import pytest

from runtime.errors import LibraryError
from runtime.kernels import nvcc


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No compiler anywhere; the folder that stands for site-packages."""
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    for name in nvcc.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(nvcc, "PREFIXES", ((str(tmp_path), "cuda"), (str(tmp_path), "cuda-*")))
    monkeypatch.setattr(nvcc, "_site_packages", lambda: [str(tmp_path / "packages")])
    return tmp_path


def installed(path, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_each_place_is_found_and_the_one_named_first_wins(bare, monkeypatch):
    places = [
        bare / "packages/nvidia/cuda_nvcc/bin/nvcc",
        bare / "packages/nvidia/cu13/bin/nvcc",
        bare / "cuda-9.2/bin/nvcc",
        bare / "cuda-12.9/bin/nvcc",
        bare / "cuda-13.0/bin/nvcc",
        bare / "cuda/bin/nvcc",
    ]
    for place in places:
        made = installed(place)
        assert nvcc.nvcc() == made
    for variable, folder in (("CUDA_PATH", "named"), ("CUDA_HOME", "home")):
        monkeypatch.setenv(variable, str(bare / folder))
        made = installed(bare / folder / "bin/nvcc")
        assert nvcc.nvcc() == made
    monkeypatch.setenv("PATH", os.pathsep.join([str(bare / "none"), str(bare / "path")]))
    made = installed(bare / "path/nvcc")
    assert nvcc.nvcc() == made


def test_none_is_one_line_that_says_where_it_was_sought_and_what_to_install(bare, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    with pytest.raises(
        LibraryError, match=r"not on the PATH, in CUDA_HOME=/nowhere.*pip install nvidia-cuda-nvcc"
    ) as told:
        nvcc.nvcc()
    assert "\n" not in str(told.value)


def test_the_wheel_of_cuda_12_which_has_no_compiler_is_named(bare):
    installed(bare / "packages/nvidia/cuda_nvcc/bin/ptxas")
    with pytest.raises(LibraryError, match="the wheel of CUDA 12 that is installed holds no nvcc"):
        nvcc.nvcc()


def test_a_file_that_may_not_be_run_is_passed_over(bare):
    installed(bare / "cuda-13.0/bin/nvcc", mode=0o644)
    right = installed(bare / "cuda-12.9/bin/nvcc")
    assert nvcc.nvcc() == right
