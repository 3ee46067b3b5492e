"""How long it takes: told beforehand, bounded, settled early; and what is left when it is ended."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from runtime.errors import PipelineError
from runtime.measure.gate import measuring
from runtime.measure.gate.measuring import measure
from runtime.measure.gate.verdict import Rule
from runtime.measure.worker import CODE, ENGINE, Job
from tests.helpers.fake_code import sleeping_code
from tests.helpers.gate import run
from tests.helpers.pictures import gradient


def test_it_says_beforehand_how_long_it_takes(engines, speeds, capsys):
    speeds(10, 10)
    run(*engines)
    told = capsys.readouterr().err
    assert re.search(r"settled after \d+ at the earliest, about \d+ s, after 48 at the latest, about \d+ s", told)
    assert "--minutes bounds it" in told and "silent for 30 s ends it" in told


def test_minutes_end_what_is_still_in_doubt(tmp_path, capsys):
    jobs = [Job(ENGINE, (tmp_path / "any.engine",), code) for code in (sleeping_code(tmp_path, 5), CODE)]
    rule, bounds = Rule(rounds=2000, frames=1, batches=9, margin=1e-9), measuring.Bounds(minutes=0.05)
    start = time.monotonic()
    found = measure([jobs[0], jobs[0]], gradient(), rule, seed=0, bounds=bounds)
    assert time.monotonic() - start < 20
    assert found.stopped is None or found.stopped.startswith("--minutes 0.05 were over after ")
    assert found.samples_ms.shape[1] < 2000
    with pytest.raises(PipelineError, match=r"--minutes holds about \d+ rounds of .* s, and to conclude takes 9"):
        measure([jobs[0], jobs[0]], gradient(), rule, seed=0, bounds=measuring.Bounds(minutes=1e-6))


def test_sigterm_leaves_nothing_and_what_sigkill_leaves_goes_with_the_next_run(engines, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-m", "runtime.regress", *map(str, engines), "--rounds", "100000", "--margin", "1e-9"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(CODE)}
    for number, left in ((signal.SIGKILL, 1), (signal.SIGTERM, 0)):
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for line in child.stderr:
            if line.startswith("rounds of"):
                break
        assert len(list(folder.iterdir())) == 1
        child.send_signal(number)
        child.communicate(timeout=30)
        assert len(list(folder.iterdir())) == left


def test_a_process_that_is_slower_by_ten_percent_fails_and_an_equal_one_passes(tmp_path):
    codes = [sleeping_code(tmp_path, ms) for ms in (20.0, 22.0)]
    jobs = [Job(ENGINE, (tmp_path / "any.engine",), code) for code in codes]
    assert measure(jobs, gradient(), Rule(rounds=12, frames=3), seed=0).verdict.outcome == "slower"
    assert measure([jobs[0], jobs[0]], gradient(), Rule(rounds=12, frames=3), seed=0).verdict.outcome == "pass"
