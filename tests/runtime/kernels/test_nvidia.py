import ctypes

import pytest

from runtime.errors import LibraryError
from runtime.kernels import nvidia
from tests.helpers import cuda_driver
from tests.helpers.children import in_child


@pytest.fixture
def driver(monkeypatch):
    """The imitated driver's library, of which this process asks first."""
    if cuda_driver.missing():
        pytest.skip(cuda_driver.missing())
    monkeypatch.setattr(nvidia, "_used_by", None)
    return str(cuda_driver.driver_file())


def test_a_gpu_is_described_by_its_driver(driver, monkeypatch):
    monkeypatch.setenv("IMITATED_CUDA_NAME", "NVIDIA Abacus")
    monkeypatch.setenv("IMITATED_CUDA_CAPABILITY", "12.1")
    assert nvidia.gpu(driver) == nvidia.Gpu("NVIDIA Abacus", "12.1", "13.2")


def test_a_driver_without_a_gpu_says_so(driver, monkeypatch):
    monkeypatch.setenv("IMITATED_CUDA_GPUS", "0")
    with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver shows 0 of them \(CUDA error 0\)"):
        nvidia.gpu(driver)


def test_a_driver_that_does_not_start_says_so(driver):
    library = ctypes.CDLL(driver)
    library.imitated_fail(b"cuInit", 100)
    try:
        with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver shows 0 of them \(CUDA error 100\)"):
            nvidia.gpu(driver)
    finally:
        library.imitated_fail(b"cuInit", 0)


def test_no_driver_at_all_says_so():
    with pytest.raises(LibraryError, match=r"no NVIDIA GPU here: the driver's library libnothing\.so is not installed"):
        nvidia.gpu("libnothing.so")


@pytest.mark.parametrize("ours", [True, False], ids=["ours used it before the fork", "another library did"])
def test_a_process_that_was_forked_from_one_that_used_cuda_says_so(driver, ours):
    # In such a child the driver answers 3 to whatever it is asked; what ours used, it knows without asking.
    if ours:
        nvidia.gpu(driver)
    else:
        ctypes.CDLL(driver).cuInit(0)
    with pytest.raises(LibraryError, match=r"CUDA cannot be used in this process: it was forked"):
        in_child(lambda: nvidia.gpu(driver))
