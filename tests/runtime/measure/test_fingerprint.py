"""On what a figure was measured: what is read, and which differences make two figures incomparable."""

import copy
import subprocess
from pathlib import Path

import pytest

from runtime.manifest import read_manifest
from runtime.measure import fingerprint as module
from runtime.measure.fingerprint import command_line, differences, fingerprint, load, machine, revision, software
from tests.helpers.engines import built_engine

SMI = """#!/bin/sh
case "$1" in
  --query-gpu=driver_version) echo "575.57" ;;
  *) echo "1980, 2619, 0x0000000000000004, 41, 120.5" ;;
esac
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    engine = built_engine(tmp_path_factory.mktemp("engine"))
    return fingerprint(engine, read_manifest(engine), (64, 128), command_line("runtime.bench", ["--engine", "a b"]))


def test_the_engine_is_named_by_its_bytes_and_what_it_executes(found):
    engine = found["engine"]
    assert engine["model"] == "icnet" and engine["executed"] == {"fp32": 2} and engine["network_size"] == [32, 64]
    assert engine["engine_mib"] > 0 and len(engine["engine_sha256"]) == 64
    assert found["command"].endswith("-m runtime.bench --engine 'a b'") and found["frame_size"] == [64, 128]


def test_the_machine_is_this_one():
    here = machine()
    assert here["cpu"] and here["threads"] >= 1 and here["system"].count("-") >= 1
    assert software()["numpy"].count(".") == 2


def test_equal_fingerprints_do_not_differ(found):
    assert differences(found, copy.deepcopy(found)) == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("machine", "cpu"), "machine cpu: stored other"),
        (("machine", "threads"), "machine threads: stored other"),
        (("software", "openvino"), "openvino: stored other"),
        (("engine", "weights_sha256"), "engine weights_sha256: stored other"),
        (("engine", "precision"), "engine precision: stored other"),
        (("frame_size",), "frame size: stored other"),
    ],
)
def test_what_decides_a_time_makes_a_difference(found, path, told):
    stored = copy.deepcopy(found)
    place = stored
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "other"
    (line,) = differences(stored, found)
    assert line.startswith(told) and ", here " in line


def test_another_build_of_the_same_model_is_what_is_compared(found):
    stored = copy.deepcopy(found)
    stored["engine"] |= {"engine_sha256": "other", "onnx_sha256": "other", "engine_mib": 1.0}
    stored |= {"revision": "other", "command": "other"}
    assert differences(stored, found) == []


def test_the_gpus_clocks_and_throttling_are_read(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    gpu = load()["gpu"]
    assert gpu["clocks.sm"] == "1980" and gpu["clocks_event_reasons.active"] == "0x0000000000000004"


def test_without_a_gpu_there_are_no_clocks(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load()["gpu"] is None


def test_a_changed_tree_is_marked(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    monkeypatch.chdir(tmp_path)
    assert revision() is None
    git("init", "--quiet")
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "a")
    clean = revision()
    assert clean is not None and len(clean) == 40
    Path("a").write_text("2")
    assert revision() == clean + "+"


def test_a_command_that_fails_tells_nothing():
    assert module._output(["false"]) is None and module._output(["no-such-program"]) is None
