"""An engine that the tests of a file share."""

import pytest

from tests.helpers.engines import built_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return built_engine(tmp_path_factory.mktemp("engines"))
