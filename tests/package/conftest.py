"""The wheel, built once, and an environment that it is installed in."""

import pytest

from tests.helpers.installed import built_wheel, installed


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of the working tree."""
    return built_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def stranger(wheel, tmp_path_factory):
    """An environment with the wheel and every library, which does not see the checkout."""
    return installed(wheel, tmp_path_factory.mktemp("stranger") / "venv")
