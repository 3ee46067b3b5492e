import pytest

from tests.helpers import cuda_driver


@pytest.fixture
def imitated(monkeypatch, tmp_path):
    """A function that puts an imitated GPU in place: (backend, precision, block) -> `imitated_gpu.Imitated`."""
    if cuda_driver.missing():
        pytest.skip(cuda_driver.missing())
    from tests.helpers import imitated_gpu  # onnx, which few of these tests want

    with imitated_gpu.installed(monkeypatch, tmp_path) as install:
        yield install
