"""The gate as a command: its exit codes, what it writes, and that it sees a real slowdown of a real process."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import cli
from runtime.errors import EngineError, PipelineError
from runtime.measure.gate import regress
from runtime.measure.gate.proxies import Change
from runtime.measure.gate.regress import AMBIGUOUS, NO_BASELINE, SLOWER, main, measure
from runtime.measure.gate.verdict import Rule
from runtime.measure.worker import ENGINE, Job
from tests.helpers.engines import built_engine
from tests.helpers.fake_code import sleeping_code
from tests.helpers.pictures import gradient

QUICK = ["--rounds", "12", "--frames", "3"]
Speeds = Callable[..., None]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("engines")
    return built_engine(folder, seed=0), built_engine(folder, seed=1)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """Makes workers that take these milliseconds, in the order in which they are started, give or take some noise."""

    def install(*milliseconds: float, noise: float = 0.01) -> None:
        random = np.random.default_rng(0)
        left = iter(milliseconds)

        class FakeWorker:
            def __init__(self, job: Job, frame: Path) -> None:
                assert np.load(frame).dtype == np.uint8
                self._ms = next(left)

            def frame_ms(self) -> float:
                return self._ms * float(np.exp(noise * random.standard_normal()))

            def ask(self, **order: Any) -> dict[str, Any]:
                assert order == {"do": "peak"}
                return {"mib": 123.0}

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None: ...

        monkeypatch.setattr(regress, "Worker", FakeWorker)

    return install


def run(*arguments: object) -> int:
    return main([*QUICK, *map(str, arguments)])


def test_equal_engines_pass_and_everything_is_written(engines, speeds, tmp_path, capsys):
    speeds(10, 10)
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "junit", "markdown")}
    assert run(*engines, *(item for kind, path in outputs.items() for item in (f"--{kind}", path))) == cli.DONE
    document = json.loads(outputs["json"].read_text())
    assert document["outcome"] == "pass" and document["exit_code"] == 0 and document["version"] == 1
    assert np.shape(document["base"]["samples_ms"]) == np.shape(document["candidate"]["samples_ms"]) == (12, 3)
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
    assert "slower (+9.8%)" in capsys.readouterr().out


def test_the_margin_is_an_option(engines, speeds):
    speeds(10, 11)
    assert run(*engines, "--margin", "0.2") == cli.DONE


def test_a_result_that_stays_doubtful_is_measured_again_and_then_called_ambiguous(engines, speeds, tmp_path, capsys):
    speeds(10, 10.5, noise=1.0)
    assert run(*engines, "--batches", 2, "--json", tmp_path / "out.json", "--junit", tmp_path / "out.xml") == AMBIGUOUS
    assert AMBIGUOUS == 4
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["verdict"]["rounds"] == 24
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


def test_a_recorded_engine_is_a_baseline_for_the_next(engines, speeds, tmp_path, capsys):
    speeds(10)
    assert run(engines[0], "--record", tmp_path / "base.json") == cli.DONE
    speeds(10)
    assert run(engines[1], "--baseline", tmp_path / "base.json") == cli.DONE
    assert "Mann-Whitney" in capsys.readouterr().out
    speeds(12)
    assert run(engines[1], "--baseline", tmp_path / "base.json") == SLOWER


def test_a_baseline_of_another_machine_is_none(engines, speeds, tmp_path, capsys):
    speeds(10)
    base = tmp_path / "base.json"
    assert run(engines[0], "--record", base) == cli.DONE
    document = json.loads(base.read_text())
    document["candidate"]["fingerprint"]["machine"]["cpu"] = "an abacus"
    base.write_text(json.dumps(document))
    out = tmp_path / "out.xml"
    assert run(engines[0], "--baseline", base, "--junit", out, "--markdown", tmp_path / "out.md") == NO_BASELINE == 5
    assert "machine cpu: stored an abacus, here " in capsys.readouterr().out
    assert ET.parse(out).getroot().find("testcase/skipped") is not None
    assert "no baseline" in (tmp_path / "out.md").read_text()


def test_a_missing_baseline_is_none_and_a_broken_one_an_error(engines, tmp_path, capsys):
    assert run(engines[0], "--baseline", tmp_path / "none.json") == NO_BASELINE
    assert "--record" in capsys.readouterr().out
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(PipelineError, match="no document of"):
        run(engines[0], "--baseline", tmp_path / "broken.json")


def test_a_missing_engine_is_an_error(engines, tmp_path):
    with pytest.raises(EngineError, match="does not exist"):
        run(engines[0], tmp_path / "none.engine")


@pytest.mark.parametrize(
    "arguments",
    [["a.engine"], ["a", "b", "c"], ["a", "b", "--record", "c"], ["a", "--rounds", "0", "--record", "b"],
     ["a", "--baseline", "b", "--record", "c"], ["a", "b", "--counts-alone", "--budget-ms", "3"],
     *(["a", "b", bound, "nan"] for bound in ("--margin", "--alpha", "--budget-ms"))],
)  # fmt: skip
def test_a_wrong_command_line_is_usage(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == cli.USAGE


def test_counts_alone_need_no_clock(engines, monkeypatch, capsys):
    monkeypatch.setattr(regress, "measure", None)
    assert run(*engines, "--counts-alone") == cli.DONE
    assert "nothing was timed" in capsys.readouterr().out


def test_a_larger_file_alone_is_no_work():
    assert regress.outcome_of_counts([Change("engine_bytes", 8, 9)]) == "pass"


def test_more_layers_or_bytes_fail_and_a_mixture_is_ambiguous():
    more, fewer = Change("casts", 1, 2), Change("bytes_moved", 9, 8)
    found = [regress.outcome_of_counts(changed) for changed in ([], [more], [fewer], [more, fewer])]
    assert found == ["pass", "slower", "pass", "ambiguous"]


def test_a_process_that_is_slower_by_ten_percent_fails_and_an_equal_one_passes(tmp_path):
    codes = [sleeping_code(tmp_path, ms) for ms in (20.0, 22.0)]
    jobs = [Job(ENGINE, (tmp_path / "any.engine",), code) for code in codes]
    assert measure(jobs, gradient(), Rule(rounds=12, frames=3), seed=0).verdict.outcome == "slower"
    assert measure([jobs[0], jobs[0]], gradient(), Rule(rounds=12, frames=3), seed=0).verdict.outcome == "pass"
