"""The gate as a command: its exit codes, what it writes, and that it sees a real slowdown of a real process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import cli
from runtime.errors import EngineError, PipelineError
from runtime.measure.gate import measuring, regress
from runtime.measure.gate.measuring import measure
from runtime.measure.gate.proxies import Change
from runtime.measure.gate.regress import AMBIGUOUS, NO_BASELINE, SLOWER, main
from runtime.measure.gate.verdict import Rule
from runtime.measure.worker import CODE, ENGINE, Job, Peak
from tests.helpers.engines import built_engine, changed
from tests.helpers.fake_code import sleeping_code
from tests.helpers.graphs import OWN_CLASSES, tiny_spec
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

    def install(*milliseconds: float, noise: float = 0.01, changed_px: int = 0) -> None:
        random = np.random.default_rng(0)
        left = iter(enumerate(milliseconds))

        class FakeWorker:
            def __init__(self, job: Job, frame: Path, patience_s: float) -> None:
                self._shape = np.load(frame).shape[:2]
                self._number, self._ms = next(left)
                self.runtime, self.patience_s = job.code / "runtime" / "__init__.py", patience_s

            def frame_ms(self) -> float:
                return self._ms * float(np.exp(noise * random.standard_normal()))

            def ask(self, *, do: str, file: str = "") -> Any:
                if do == "mask":
                    mask = np.zeros(self._shape, np.uint8)
                    mask.flat[: changed_px * self._number] = 1
                    return np.save(file, mask)
                assert do == "peak"
                return Peak(123.0)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None: ...

        monkeypatch.setattr(measuring, "Worker", FakeWorker)

    return install


def run(*arguments: object) -> int:
    return main([*QUICK, *map(str, arguments)])


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


def test_a_recorded_engine_is_a_baseline_for_the_next(engines, speeds, tmp_path, capsys):
    speeds(10)
    assert run(engines[0], "--record", tmp_path / "base.json") == cli.DONE
    speeds(10)
    assert run(engines[1], "--baseline", tmp_path / "base.json") == cli.DONE
    told = capsys.readouterr().out
    assert "Mann-Whitney" in told and "the same mask in both: 2048 pixels" in told
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
     *(["a", "b", bound, wrong] for bound in ("--margin", "--alpha", "--budget-ms", "--minutes", "--patience")
       for wrong in ("nan", "-1", "0", "x")),
     ["a", "b", "--seed", "-1"], ["a", "b", "--alpha", "60%"], ["a", "--record", "b", "--base-code", "c"],
     ["a", "--baseline", "b", "--across", "precision"], ["a", "b", "--counts-alone", "--minutes", "1"]],
)  # fmt: skip
def test_a_wrong_command_line_is_usage(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == cli.USAGE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b", "--rounds", "8", "--batches", "1"], "--rounds times --batches must be 9 or more"),
        (["a", "b", "--rounds", "4", "--batches", "2", "--frames", "99"], "must be 9 or more"),
        (["a", "b", "--rounds", "12", "--batches", "1", "--alpha", "1e-6"], "must be 20 or more"),
        (["a", "--record", "b", "--rounds", "9"], "--rounds must be 12 or more"),
        (["a", "b", "--margin", "5"], "5 is 500 %: did you mean 0.05? If not, write 500%"),
        (["a", "b", "--margin", "1.5"], "did you mean 0.015?"),
        (["a", "b", "--alpha", "2"], "did you mean 0.02?"),
    ],
)
def test_what_can_never_conclude_or_is_hardly_meant_is_refused_with_what_to_give(arguments, told, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == cli.USAGE and told in capsys.readouterr().err.splitlines()[-1]


def test_a_margin_in_percent_is_taken_as_it_is_written(engines, speeds):
    speeds(10, 40)
    assert run(*engines, "--margin", "500%") == cli.DONE
    speeds(10, 11)
    assert run(*engines, "--margin", "5%") == SLOWER


def test_few_rounds_that_can_conclude_are_taken(engines, speeds):
    speeds(10, 10)
    assert main([*map(str, engines), "--rounds", "9", "--batches", "1", "--frames", "1"]) == cli.DONE


UNLIKE = {
    "size": ({"height": 64, "width": 64}, {}, "engine network_size: base [32, 64], candidate [64, 64]"),
    "network": ({"name": "enet"}, {}, "engine model: base icnet, candidate enet"),
    "precision": ({}, {"precision": "fp16"}, "engine precision: base fp32, candidate fp16"),
    "backend": ({}, {"backend": "onnxruntime"}, "engine backend: base openvino, candidate onnxruntime"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_a_pair_that_is_unlike_is_no_baseline_and_says_in_what(engines, tmp_path, monkeypatch, capsys, kind):
    monkeypatch.setattr(regress, "measure", None)
    spec, settings, told = UNLIKE[kind]
    other = built_engine(tmp_path, spec=tiny_spec(**spec), **settings)
    outputs = ("--json", tmp_path / "out.json", "--junit", tmp_path / "out.xml", "--markdown", tmp_path / "out.md")
    assert run(engines[0], other, *outputs) == NO_BASELINE
    assert told in capsys.readouterr().out
    assert told in json.loads((tmp_path / "out.json").read_text())["reasons"]
    assert told in (tmp_path / "out.md").read_text() and told in (tmp_path / "out.xml").read_text()
    assert run(engines[0], other, "--counts-alone") == NO_BASELINE


@pytest.mark.parametrize("kind", ["classes", "mean", "batch", "weights", "target"])
def test_a_pair_of_one_name_that_is_unlike_in_its_spec_or_target_is_no_baseline(engines, tmp_path, capsys, kind):
    other = built_engine(tmp_path)
    manifest = changed(other)
    spec, target = manifest.spec, manifest.target
    fields = {
        "classes": {"spec": replace(spec, classes=OWN_CLASSES)},
        "mean": {"spec": replace(spec, preprocess=replace(spec.preprocess, mean=(1.0, 2.0, 3.0)))},
        "batch": {"spec": replace(spec, batch=2)},
        "weights": {"spec": replace(spec, weights_sha256="1" * 64)},
        "target": {"target": replace(target, library_version="1999.1")},
    }
    changed(other, **fields[kind])
    assert run(engines[0], other) == NO_BASELINE
    assert kind in capsys.readouterr().out


def test_what_is_let_differ_is_compared_and_told(engines, speeds, tmp_path, capsys):
    other = built_engine(tmp_path, precision="fp16")
    speeds(10, 9)
    assert run(engines[0], other, "--across", "precision", "--json", tmp_path / "out.json") == cli.DONE
    assert "compared although engine precision: base fp32, candidate fp16" in capsys.readouterr().out
    assert run(engines[0], other, "--across", "weights") == NO_BASELINE


def test_the_share_of_the_mask_that_changed_is_told_everywhere(engines, speeds, tmp_path, capsys):
    outputs = ("--json", tmp_path / "out.json", "--junit", tmp_path / "out.xml", "--markdown", tmp_path / "out.md")
    speeds(10, 10, changed_px=5)
    assert run(*engines, *outputs) == cli.DONE
    told = "the mask differs on 0.2441% of pixels: 5 of 2048"
    assert told in capsys.readouterr().out and told in (tmp_path / "out.md").read_text()
    assert json.loads((tmp_path / "out.json").read_text())["masks"]["changed"] == 5 / 2048
    suite = ET.parse(tmp_path / "out.xml").getroot()
    assert told in str(suite.findtext("system-out"))
    assert suite.find("properties/property[@name='masks_changed']").get("value") == str(5 / 2048)
    speeds(10, 10)
    assert run(*engines) == cli.DONE
    assert "the same mask in both: 2048 pixels" in capsys.readouterr().out


def test_the_mask_of_a_baseline_is_kept_and_compared(engines, speeds, tmp_path, capsys):
    base = tmp_path / "base.json"
    speeds(10)
    run(engines[0], "--record", base)
    speeds(1, 10, changed_px=0)
    document = json.loads(base.read_text())
    for mask, told in (("AAAA", "the baseline's mask is damaged"), ("?", "the baseline's mask is damaged")):
        base.write_text(json.dumps(document | {"candidate": document["candidate"] | {"mask": mask}}))
        with pytest.raises(PipelineError, match=told):
            run(engines[0], "--baseline", base)
    del document["candidate"]["mask"]
    base.write_text(json.dumps(document))
    speeds(10)
    assert run(engines[0], "--baseline", base) == cli.DONE
    assert "masks are not compared: the baseline holds none" in capsys.readouterr().out


def without(document: Any, *path: str) -> Any:
    del reduce(lambda place, key: place[key], path[:-1], document)[path[-1]]
    return document


def with_value(document: Any, value: Any, *path: str) -> Any:
    reduce(lambda place, key: place[key], path[:-1], document)[path[-1]] = value
    return document


ODD = {
    "null": lambda d: with_value(d, None, "candidate"),
    "no counts": lambda d: without(d, "candidate", "counts"),
    "no samples": lambda d: without(d, "candidate", "samples_ms"),
    "no peak": lambda d: without(d, "candidate", "peak_mib"),
    "no percentiles": lambda d: without(d, "candidate", "percentiles_ms"),
    "no p99": lambda d: without(d, "candidate", "percentiles_ms", "p99"),
    "no fingerprint": lambda d: without(d, "candidate", "fingerprint"),
    "no machine": lambda d: without(d, "candidate", "fingerprint", "machine"),
    "no samples in it": lambda d: with_value(d, [], "candidate", "samples_ms"),
    "empty rounds": lambda d: with_value(d, [[]] * 12, "candidate", "samples_ms"),
    "text": lambda d: with_value(d, "x", "candidate", "samples_ms"),
    "texts": lambda d: with_value(d, [["1", "2", "3"]] * 12, "candidate", "samples_ms"),
    "ragged": lambda d: with_value(d, [[1.0], [1.0, 2.0]], "candidate", "samples_ms"),
    "zeros": lambda d: with_value(d, [[0.0] * 3] * 12, "candidate", "samples_ms"),
    "negative": lambda d: with_value(d, [[-1.0] * 3] * 12, "candidate", "samples_ms"),
    "other times": lambda d: with_value(d, [[1.0] * 3] * 12, "candidate", "samples_ms"),
    "other frames": lambda d: with_value(d, 5, "candidate", "frames"),
    "truth": lambda d: with_value(d, True, "candidate", "frames"),
    "line break": lambda d: with_value(d, "a\nb", "candidate", "fingerprint", "machine", "cpu"),
    "version": lambda d: with_value(d, 7, "version"),
    "list": lambda d: [d],
}


@pytest.mark.parametrize("kind", ODD)
def test_a_baseline_with_missing_or_odd_fields_is_one_line_before_anything_is_measured(
    engines, speeds, tmp_path, monkeypatch, kind
):
    base = tmp_path / "base.json"
    speeds(10)
    run(engines[0], "--record", base)
    base.write_text(json.dumps(ODD[kind](json.loads(base.read_text()))))
    monkeypatch.setattr(regress, "measure", None)
    with pytest.raises(PipelineError, match=r"no document of runtime\.regress \(") as error:
        run(engines[0], "--baseline", base)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"version": 1e999}', b"{} x"])
def test_a_baseline_that_is_no_json_is_one_line(engines, tmp_path, text):
    (tmp_path / "base.json").write_bytes(text)
    with pytest.raises(PipelineError, match=r"no document of runtime\.regress \(.+\); measure it again"):
        run(engines[0], "--baseline", tmp_path / "base.json")
    with pytest.raises(PipelineError, match="it is no file"):
        run(engines[0], "--baseline", tmp_path)


def test_counts_alone_are_no_baseline_and_few_or_other_rounds_are_none_either(engines, speeds, tmp_path, monkeypatch):
    base = tmp_path / "base.json"
    assert run(*engines, "--counts-alone", "--json", base) == cli.DONE
    with pytest.raises(PipelineError, match=r"holds no times: it was written with --counts-alone; record one: "):
        run(engines[0], "--baseline", base)
    speeds(10)
    assert run(engines[0], "--record", base) == cli.DONE
    with pytest.raises(PipelineError, match=r"holds rounds of 3 frames, not of 9: give --frames 3"):
        main([str(engines[0]), "--baseline", str(base)])
    with pytest.raises(PipelineError, match=r"holds 12 rounds and proves nothing: 22 or more are needed"):
        run(engines[0], "--baseline", base, "--alpha", "0.000002")


def test_it_says_beforehand_how_long_it_takes(engines, speeds, capsys):
    speeds(10, 10)
    run(*engines)
    told = capsys.readouterr().err
    assert re.search(r"settled after \d+ at the earliest, about \d+ s, after 48 at the latest, about \d+ s", told)
    assert "--minutes bounds it" in told and "silent for 30 s ends it" in told


def test_minutes_end_what_is_still_in_doubt(tmp_path, capsys):
    jobs = [Job(ENGINE, (tmp_path / "any.engine",), code) for code in (sleeping_code(tmp_path, 5), CODE)]
    rule, bounds = Rule(rounds=200, frames=1, batches=9, margin=1e-9), measuring.Bounds(minutes=0.02)
    start = time.monotonic()
    found = measure([jobs[0], jobs[0]], gradient(), rule, seed=0, bounds=bounds)
    assert time.monotonic() - start < 5
    assert found.stopped is None or found.stopped.startswith("--minutes 0.02 were over after ")
    assert found.samples_ms.shape[1] < 200
    with pytest.raises(PipelineError, match=r"--minutes holds about \d+ rounds of .* s, and to conclude takes 9"):
        measure([jobs[0], jobs[0]], gradient(), rule, seed=0, bounds=measuring.Bounds(minutes=1e-6))


def test_a_base_code_without_a_runtime_is_refused_in_one_line(engines, tmp_path):
    with pytest.raises(EngineError, match="there is no folder runtime in it"):
        run(*engines, "--base-code", tmp_path)
    (tmp_path / "runtime").mkdir()  # a folder that Python takes for no package: ours would run in its place
    with pytest.raises(EngineError, match=r"holds no package runtime of its own: .*\.py would have run in its place"):
        run(*engines, "--base-code", tmp_path)


def test_a_base_whose_manifest_only_its_own_code_reads_is_compared_by_what_that_says(engines, tmp_path, capsys):
    code, base = sleeping_code(tmp_path, 1), tmp_path / "base.engine"
    base.write_bytes(b"of an older version")
    assert run(base, engines[1], "--base-code", code) == NO_BASELINE
    assert "its own code does not tell what it is" in capsys.readouterr().out
    (code / "runtime" / "manifest.py").write_text(OLDER_MANIFEST)
    assert run(base, engines[1], "--base-code", code) == NO_BASELINE
    assert "engine precision: base int8, candidate fp32" in capsys.readouterr().out
    assert run(base, engines[1], "--base-code", code, "--counts-alone") == NO_BASELINE


OLDER_MANIFEST = """
from types import SimpleNamespace as Some

def read_manifest(path):
    spec = Some(name="icnet", weights_sha256="0" * 64, preprocess=Some(height=32, width=64))
    return Some(spec=spec, precision="int8", backend="openvino")
"""


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
