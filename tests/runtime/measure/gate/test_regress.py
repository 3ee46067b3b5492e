"""The gate as a command: its exit codes, what it writes, and that it sees a real slowdown of a real process."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from runtime import cli
from runtime.errors import EngineError, PipelineError
from runtime.measure.gate import regress
from runtime.measure.gate.proxies import Change
from runtime.measure.gate.regress import AMBIGUOUS, SLOWER
from tests.helpers.gate import run


def test_equal_engines_pass_and_everything_is_written(engines, speeds, tmp_path, capsys):
    speeds(10, 10)
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "junit", "markdown")}
    assert run(*engines, *(item for kind, path in outputs.items() for item in (f"--{kind}", path))) == cli.DONE
    document = json.loads(outputs["json"].read_text())
    assert document["outcome"] == "pass" and document["exit_code"] == 0 and document["version"] == 1
    rounds = document["verdict"]["rounds"] * document["verdict"]["frames"] // 3
    assert np.shape(document["base"]["samples_ms"]) == np.shape(document["candidate"]["samples_ms"]) == (rounds, 3)
    assert rounds < 12 and document["candidate"]["runtime"].endswith("runtime/__init__.py")
    assert document["candidate"]["fingerprint"]["engine"]["model"] == "icnet"
    assert document["candidate"]["peak_mib"] == 123.0
    suite = ET.parse(outputs["junit"]).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "1",
        "0",
        "0",
        "0",
    )
    text = outputs["markdown"].read_text()
    assert text.startswith("### Latency: not slower") and "| candidate | 10.0 |" in text and "█" in text
    assert capsys.readouterr().out.startswith("not slower")


def test_a_slower_candidate_fails_with_its_own_code(engines, speeds, tmp_path, capsys):
    speeds(10, 11)
    assert run(*engines, "--junit", tmp_path / "out.xml") == SLOWER == 3
    assert ET.parse(tmp_path / "out.xml").getroot().find("testcase/failure") is not None
    assert re.match(r"slower \(\+(9|10)\.\d%\)", capsys.readouterr().out)


def test_the_margin_is_an_option(engines, speeds):
    speeds(10, 11)
    assert run(*engines, "--margin", "0.2") == cli.DONE


def test_a_result_that_stays_doubtful_is_measured_again_and_then_called_ambiguous(engines, speeds, tmp_path, capsys):
    speeds(10, 10.5, noise=1.0)
    assert run(*engines, "--batches", 2, "--json", tmp_path / "out.json", "--junit", tmp_path / "out.xml") == AMBIGUOUS
    assert AMBIGUOUS == 4
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["verdict"]["rounds"] == 24 and len(document["candidate"]["samples_ms"]) == 24
    assert "still in doubt" in capsys.readouterr().err
    assert ET.parse(tmp_path / "out.xml").getroot().find("testcase/error") is not None


def test_a_budget_is_a_check_of_its_own(engines, speeds, tmp_path, capsys):
    speeds(40, 40)
    assert run(*engines, "--budget-ms", 33.3, "--junit", tmp_path / "out.xml") == SLOWER
    cases = ET.parse(tmp_path / "out.xml").getroot().findall("testcase")
    assert [case.find("failure") is not None for case in cases] == [False, True]
    assert "budget 33.3 ms" in capsys.readouterr().out
    speeds(40, 40)
    assert run(*engines, "--budget-ms", 50) == cli.DONE


def test_a_missing_engine_is_an_error(engines, tmp_path):
    with pytest.raises(EngineError, match="does not exist"):
        run(engines[0], tmp_path / "none.engine")


def test_counts_alone_need_no_clock(engines, monkeypatch, capsys):
    monkeypatch.setattr(regress, "measure", None)
    assert run(*engines, "--counts-alone") == cli.DONE
    assert "nothing was timed" in capsys.readouterr().out


def test_engines_of_which_nothing_but_the_size_is_known_do_not_pass_as_counted(engines, monkeypatch):
    monkeypatch.setattr(regress.proxies, "count", lambda path: {"engine_bytes": 8})
    with pytest.raises(PipelineError, match="told no kernels of it, only its size is known, which judges nothing"):
        run(*engines, "--counts-alone")


def test_a_larger_file_alone_is_no_work():
    assert regress.outcome_of_counts([Change("engine_bytes", 8, 9)]) == "pass"


def test_more_layers_or_bytes_fail_and_a_mixture_is_ambiguous():
    more, fewer = Change("casts", 1, 2), Change("bytes_moved", 9, 8)
    found = [regress.outcome_of_counts(changed) for changed in ([], [more], [fewer], [more, fewer])]
    assert found == ["pass", "slower", "pass", "ambiguous"]
