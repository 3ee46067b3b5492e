"""A GPU's clocks while it is measured, as an imitated nvidia-smi tells them."""

import json
import os
import time

import numpy as np
import pytest

from runtime import cli
from runtime.errors import LibraryError
from runtime.measure import clocks, serving
from runtime.measure.bench.latency import main
from runtime.measure.bench.tables import as_text, read_document
from tests.helpers.engines import built_engine

SMI = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  *lock-gpu-clocks=9*|*reset*) ;;
  *lock-gpu-clocks*) echo "The current user does not have permission to change clocks for GPU 0"; exit 4 ;;
  *driver_version*) echo "575.57" ;;
  *) echo "{sm}, 2619, {reasons}, 41, 120.5" ;;
esac
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put an nvidia-smi first; it gives the file of what it was asked."""

    def install(sm="1980", reasons="0x0000000000000000"):
        (folder := tmp_path / "bin").mkdir(exist_ok=True)
        program, log = folder / "nvidia-smi", tmp_path / "asked"
        program.write_text(SMI.format(log=log, sm=sm, reasons=reasons))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return log

    return install


def test_clocks_are_read_while_the_work_runs(smi):
    smi(reasons="0x0000000000000004")
    found = clocks.under_load(lambda: time.sleep(0.3))
    assert found["sm_mhz"] == [1980, 1980, 1980] and found["temperature"] == 41 and found["readings"] >= 1
    assert found["throttling"] == ["0x0000000000000004"]
    smi()
    assert clocks.under_load(lambda: time.sleep(0.3))["throttling"] == []


def test_work_that_fails_while_clocks_are_read_raises_what_it_raised(smi):
    smi()
    with pytest.raises(KeyError):
        clocks.under_load(lambda: {}["no such"])


def test_a_gpu_that_tells_no_clocks_has_none(smi, monkeypatch):
    smi(sm="[N/A]")
    assert clocks.under_load(lambda: time.sleep(0.1)) is None
    monkeypatch.setenv("PATH", "")
    assert clocks.under_load(lambda: pytest.fail("it was run")) is None


def test_clocks_are_locked_and_freed_whatever_happens_between(smi):
    log = smi()
    with pytest.raises(KeyError), clocks.locked(900):
        raise KeyError
    assert log.read_text().splitlines() == ["-i 0 --lock-gpu-clocks=900,900", "-i 0 --reset-gpu-clocks"]
    with clocks.locked(None):
        assert len(log.read_text().splitlines()) == 2


def test_a_lock_that_is_refused_is_one_line(smi, monkeypatch):
    smi()
    with pytest.raises(LibraryError, match=r"does not have permission .* run it as root, or without the lock$"):
        clocks.locked(1500).__enter__()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LibraryError, match="nvidia-smi does not run"):
        clocks.locked(900).__enter__()


def test_a_timed_frame_is_the_last_of_a_burst():
    class Path:
        frames = 0

        def segment(self, frame):
            self.frames += 1
            time.sleep(0.01)

    path = Path()
    serving._timed(path, np.zeros(1), 0.0)
    assert path.frames == 1
    serving._timed(path, np.zeros(1), 50.0)
    assert path.frames >= 3


def test_a_benchmark_of_a_gpu_says_how_its_clocks_were(tmp_path, smi, monkeypatch):
    log = smi()
    monkeypatch.setattr(clocks, "GPU_BACKENDS", ("openvino",))
    monkeypatch.setattr(clocks, "LEAD_MS", 5.0)
    monkeypatch.setattr(clocks, "LOAD_S", 0.1)
    engine, out = built_engine(tmp_path), tmp_path / "out.json"
    options = ["--rounds", "2", "--frame-size", "64x128", "--json", str(out), "--lock-clocks", "900"]
    assert main(["--engine", str(engine), *options]) == cli.DONE
    found = read_document(out)
    assert found["clocks"]["lead_ms"] == 5 and found["clocks"]["locked_mhz"] == 900
    assert found["clocks"]["under_load"]["sm_mhz"] == [1980, 1980, 1980]
    said = "GPU clocks locked at 900 MHz, 1980 MHz under load (1980 to 1980), reasons to throttle: none; 5 ms of frames"
    assert said in as_text(found)
    assert "--reset-gpu-clocks" in log.read_text()


def test_on_a_cpu_nothing_is_said_of_clocks_and_older_documents_are_read():
    assert clocks.as_line(clocks.document("onnxruntime", None, None)) is None
    assert clocks.as_line(None) is None
    assert "not read" in clocks.as_line(clocks.document("tensorrt", None, None))
    assert json.loads(json.dumps(clocks.document("tensorrt", None, None)))["lead_ms"] == clocks.LEAD_MS
