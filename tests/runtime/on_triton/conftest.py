"""Of `runtime.triton`; not in a folder of that name, which torch would find on the path of tests."""

import shutil
import sys
from pathlib import Path

import pytest

from runtime.triton.repository import add
from tests.helpers import triton_stand_in
from tests.helpers.engines import built_engine


@pytest.fixture
def pb(monkeypatch):
    """The module that Triton gives to a model."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton_stand_in)
    monkeypatch.setitem(triton_stand_in.SENT, "broken", None)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    return triton_stand_in


@pytest.fixture(scope="session")
def engines(tmp_path_factory) -> list[Path]:
    """Two of the same classes that give other masks."""
    return [built_engine(tmp_path_factory.mktemp(f"engine-{seed}"), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="session")
def written(tmp_path_factory, engines) -> Path:
    folder = tmp_path_factory.mktemp("written") / "repository"
    add(folder, "street", engines[0], 2)
    return folder


@pytest.fixture
def repository(tmp_path, written) -> Path:
    """A model repository of one model, street, of one version, of two lanes."""
    return Path(shutil.copytree(written, tmp_path / "repository"))
