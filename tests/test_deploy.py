"""The files in deploy/: what they start is a command that is there, and linters have nothing against them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.serve.options import options_of

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile*"))
UNIT = ROOT / "deploy/streetseg.service"


def entry(dockerfile: Path) -> list[str]:
    """What a container runs."""
    words = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", dockerfile.read_text(), re.M))
    return json.loads(words["ENTRYPOINT"]) + json.loads(words["CMD"])


def settings() -> dict[str, str]:
    """What the unit sets."""
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.M))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_a_container_serves_by_options_that_are_there(dockerfile):
    python, dash_m, module, *options = entry(dockerfile)
    assert (python, dash_m, module) == ("python", "-m", "runtime.serve")
    found = options_of(options)
    assert found.host == "0.0.0.0" and f"EXPOSE {found.port}\n" in dockerfile.read_text()
    assert f":{found.port}/v2/health/ready" in dockerfile.read_text() and "USER 10001\n" in dockerfile.read_text()


def test_the_unit_serves_by_options_that_are_there_on_loopback_and_comes_back():
    found = settings()
    _, dash_m, module, *options = found["ExecStart"].split()
    given = options_of(options)
    assert (dash_m, module, given.host) == ("-m", "runtime.serve", "127.0.0.1")
    assert found["Restart"] == "always" and "-HUP" in found["ExecReload"]
    assert int(found["TimeoutStopSec"]) > given.grace_seconds


def test_an_image_is_given_what_the_package_is_made_of():
    taken = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert taken == packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}


@pytest.mark.serve
@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_against_a_dockerfile(dockerfile):
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.is_file():
        pytest.skip("no hadolint beside Python: make test-serve installs it")
    done = subprocess.run([linter, dockerfile], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.serve
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on the PATH")
def test_systemd_has_nothing_against_the_unit(tmp_path):
    # Of a program that is not there it would complain.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/streetseg/venv/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
