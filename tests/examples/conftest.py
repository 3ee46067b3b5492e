import pytest

from tests.helpers import cpp_kernels


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with `segment` and the kernels' library: cmake, g++ and nlohmann-json3-dev have to be there."""
    return cpp_kernels.build(tmp_path_factory.mktemp("cpp"))
