import pytest

from tests.helpers import cpp_kernels
from tests.helpers.project import ROOT


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with `segment` and the kernels' library: cmake, g++ and nlohmann-json3-dev have to be there."""
    return cpp_kernels.build(tmp_path_factory.mktemp("cpp"))


@pytest.fixture
def ros_package(monkeypatch):
    """The folder of examples/ros2, whose Python package can then be imported."""
    folder = ROOT / "examples" / "ros2"
    monkeypatch.syspath_prepend(folder)
    return folder
