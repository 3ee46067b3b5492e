"""A baseline on file: what is one, and that anything else is one line before anything is measured."""

import json
import xml.etree.ElementTree as ET
from functools import reduce
from typing import Any

import pytest

from runtime import cli
from runtime.errors import PipelineError
from runtime.measure.gate import regress
from runtime.measure.gate.regress import NO_BASELINE, SLOWER, main
from tests.helpers.gate import run


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


@pytest.mark.parametrize(
    "text",
    [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"version": 1e999}', b"{} x"],
    ids=["empty", "lists", "objects", "no text", "too large", "more"],
)
def test_a_baseline_that_is_no_json_is_one_line(engines, tmp_path, text):
    (tmp_path / "base.json").write_bytes(text)
    with pytest.raises(PipelineError, match=r"no document of runtime\.regress \(.+\); record one: python -m "):
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
