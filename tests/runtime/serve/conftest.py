"""A server that several files of tests start."""

import pytest

from tests.helpers.fake_backend import write_fake_engine
from tests.helpers.fake_server import server


@pytest.fixture
def slow(tmp_path):
    """A server of one lane in which a frame takes two seconds, with one place beside it."""
    engine = write_fake_engine(tmp_path, delay_s=2.0)
    with server("--engine", engine, "--lanes", 1, "--queue", 1, folder=tmp_path) as found:
        yield found
