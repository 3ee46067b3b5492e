import pytest

from tests.helpers import fake_gpu


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A function that puts a GPU's fakes in place: (backend, precision, block) -> driver, module, manifest."""
    return fake_gpu.installer(monkeypatch, tmp_path)
