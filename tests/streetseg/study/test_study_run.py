"""One run of all times, which goes on where it was stopped, with times that only say which call took them."""

import copy

import pytest

from runtime.errors import EngineError
from streetseg.study import run
from streetseg.study.run import Column, Wanted, timed_run, units_of

IDLE = {"running_processes": 0.1, "gpu": None}
FRAME = (1024, 2048)


def point(engine, plain=None, frame=FRAME):
    return {"engine": f"e/{engine}", "plain": plain and f"e/{plain}", "frame": list(frame), "gmac": 20.0}


def network(name, gmac=20.0):
    engines = {kind: f"e/{name}-{kind}" for kind in ("fp16", "int8")}
    return {"name": name, "gmac": gmac, "engines": engines, "plain": f"e/{name}-plain"}


POINTS = [
    point("icnet-fp16", "icnet-plain"),
    point("icnet-fp16", frame=(352, 480)),
    point("pspnet-fp16", "pspnet-plain"),
]
NETWORKS = [network("enet"), network("icnet"), network("pspnet", 900.0), network("huge", 500.0), network("fast")]
UNITS = units_of(POINTS, NETWORKS)


@pytest.fixture
def here(monkeypatch, tmp_path):
    """`timed_run` of all, with what is known; `groups` are the measured ones, of which `stop_at` fails."""

    class Here:
        groups, stop_at, kept = [], None, {}

        def run(self, known=None, units=UNITS, only=(), before=IDLE):
            wanted = Wanted(units, [Column("icnet", FRAME, tmp_path / "g.onnx")] * (not only), before, only)
            return timed_run(wanted, known or {}, lambda found: self.kept.update(copy.deepcopy(found)))

        def measure(self, group):
            if len(self.groups) == self.stop_at:
                raise EngineError("stopped")
            self.groups.append([timed.name for timed in group])
            return {timed.name: {"p50_ms": float(len(self.groups))} for timed in group}

    here = Here()
    here.groups, here.kept = [], {}
    monkeypatch.setattr(run, "measure", here.measure)
    monkeypatch.setattr(run, "stages_of", lambda graph: {"stem": 1.0})
    return here


def test_an_engine_of_both_tables_is_timed_once_beside_all_that_it_is_compared_with(here):
    here.run()
    study, small, huge = here.groups
    assert len(study) == len(set(study)) == 7 and study.count("icnet-fp16 on 1024x2048") == 1
    assert {"icnet-plain on 1024x2048", "icnet-int8 on 1024x2048", "pspnet-int8 on 1024x2048"} < set(study)
    assert "icnet-fp16 on 352x480" in study
    of = [[name.partition(" ")[0] for name in group] for group in (small, huge)]
    assert of[0] == ["enet-fp16", "enet-int8", "enet-plain", "fast-fp16", "fast-int8", "fast-plain"]
    assert of[1] == ["huge-fp16", "huge-int8", "huge-plain"]


def test_one_call_is_one_run(here):
    found = here.run()
    assert len(found["runs"]) == 1 and {told["run"] for told in found["times"].values()} == {0}
    assert found["stages"]["g.onnx"] == {"run": 0, "model": "icnet", "size": [1024, 2048], "ms": {"stem": 1.0}}
    assert found["runs"][0]["load"]["before"] == IDLE and "after" in found["runs"][0]["load"]


def test_what_was_stopped_goes_on_and_is_told_apart(here):
    here.stop_at = 1
    with pytest.raises(EngineError):
        here.run()
    here.stop_at, before = None, list(here.groups)
    found = here.run(here.kept)
    assert [len(group) for group in here.groups[len(before) :]] == [6, 3]  # not the study's again
    assert (
        found["times"]["icnet-int8 on 1024x2048"]["run"] == 0 and found["times"]["huge-int8 on 1024x2048"]["run"] == 1
    )
    assert len(found["runs"]) == 2


def test_all_is_timed_anew_where_nothing_is_left(here):
    found = here.run(here.run())
    assert len(found["runs"]) == 1 and len(here.groups) == 6


def test_a_changed_engine_takes_what_it_is_compared_with_into_its_run(here):
    known = here.run()
    changed = units_of([point("icnet-new", "icnet-plain"), *POINTS[1:]], [network("enet"), *NETWORKS[2:]])
    found = here.run(known, changed)
    assert sorted(here.groups[-1]) == ["icnet-new on 1024x2048", "icnet-plain on 1024x2048"]
    assert "icnet-fp16 on 1024x2048" not in found["times"] and "icnet-int8 on 1024x2048" not in found["times"]


def test_one_network_alone_is_timed_again_and_the_others_stay(here):
    known = here.run()
    found = here.run(known, only=[UNITS[-1]])
    assert here.groups[-1] == [f"fast-{kind} on 1024x2048" for kind in ("fp16", "int8", "plain")]
    assert {key: told["run"] for key, told in found["times"].items() if told["run"]} == dict.fromkeys(
        here.groups[-1], 1
    )
    assert set(found["times"]) == set(known["times"]) and found["stages"] == known["stages"]


def test_a_busy_machine_is_warned_of(here, capsys):
    here.run()
    assert "warning" not in capsys.readouterr().err
    here.run(before={"running_processes": 1.25, "gpu": None})
    assert "warning: 1.2 processes ran on the machine in the last minute" in capsys.readouterr().err
