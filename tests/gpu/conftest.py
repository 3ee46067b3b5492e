"""What needs an NVIDIA GPU. Asked for without one, these tests fail: they never pass or are skipped for want of it."""

import gc
import importlib
import importlib.util
import sys

import pytest

from runtime.backends import tensorrt, tensorrt_library
from runtime.errors import LibraryError
from runtime.kernels import nvidia
from tests.helpers import stand_in

BACKENDS = [name for name, module in tensorrt_library.MODULES.items() if importlib.util.find_spec(module)]


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """The GPU and its driver's CUDA version; without it the run ends here, as a failure."""
    gc.collect()
    gc.freeze()  # what was imported: `gc.collect` before memory is counted then looks at what tests made
    try:
        return nvidia.gpu()
    except LibraryError as error:
        pytest.exit(f"{error}; make test-gpu needs one", returncode=1)


@pytest.fixture(scope="session")
def driver(gpu):
    """`pycuda.driver`, with the primary context current for the whole session."""
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    context = tensorrt.primary_context(driver)
    context.push()
    yield driver
    driver.Context.pop()


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def library(request):
    """Each of the libraries that is installed, one of which must be; of several those that list the GPU."""
    return _installed(request.param)


@pytest.fixture(params=["stand-in", "tensorrt", "tensorrt-rtx"])
def backend(request, monkeypatch):
    """As `library`, and before them a network of plain convolutions under TensorRT's name, which any GPU takes."""
    if request.param != "stand-in":
        return _installed(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in.module())
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda *_: "stand-in")
    return "tensorrt"


def _installed(name):
    if not BACKENDS:
        pytest.fail("neither tensorrt nor tensorrt_rtx is installed: pip install tensorrt", pytrace=False)
    if name not in BACKENDS:
        pytest.skip(f"{name} is not installed")
    if len(BACKENDS) > 1:
        try:
            tensorrt_library.supported_gpu(name)
        except LibraryError as error:
            pytest.skip(str(error))
    return name
