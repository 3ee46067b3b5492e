"""What asks for the wheels of a Jetson; the index itself is asked by hand."""

import json
from types import SimpleNamespace

import pytest

from tests import aarch64_wheels


@pytest.fixture
def pip(monkeypatch):
    """What pip was asked, and what it answers."""
    asked = SimpleNamespace(commands=[], code=0, out=json.dumps({"install": []}), err="")

    def run(command, **_):
        asked.commands.append(command)
        return SimpleNamespace(returncode=asked.code, stdout=asked.out, stderr=asked.err)

    monkeypatch.setattr(aarch64_wheels.subprocess, "run", run)
    return asked


def test_needs_are_asked_for_from_wheels_of_aarch64_alone_and_torch_is_none(pip, capsys):
    pip.out = json.dumps({"install": [{"metadata": {"name": "numpy", "version": "2.2.6"}}]})
    assert aarch64_wheels.main() == 0
    first, second = pip.commands
    assert {"--dry-run", "--only-binary=:all:", "manylinux_2_35_aarch64", "manylinux2014_aarch64", "3.10"} <= set(first)
    assert "manylinux_2_39_aarch64" in second and "manylinux_2_39_aarch64" not in first
    assert any(word.startswith("openvino") for word in first) and not any(word.startswith("torch") for word in first)
    assert "JetPack 6, CPython 3.10, glibc 2.35: numpy 2.2.6" in capsys.readouterr().out


def test_a_wheel_that_is_missing_is_one_line_and_fails(pip, capsys):
    pip.code, pip.err = 1, "noise\nERROR: No matching distribution found for pycuda\n"
    assert aarch64_wheels.main() == 1
    assert "error: JetPack 7, CPython 3.12, glibc 2.39: ERROR: No matching distribution found for pycuda" in (
        capsys.readouterr().err
    )
