"""Paths in turns: one that fails says why and is left out, the others go on."""

import math
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import EngineError
from runtime.measure import roof
from runtime.measure.peer_turns import ROOF, Turn, measure
from runtime.measure.worker import ENGINE, Job
from tests.helpers.engines import built_engine
from tests.helpers.pictures import gradient


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(roof, "SHAPES", ((8, 8, 16, 3),))


def test_a_peer_that_does_not_open_is_told_and_the_others_are_measured(tmp_path):
    engine = built_engine(tmp_path)
    plain = built_engine(tmp_path / "plain", backend="onnxruntime")
    paths = {
        ENGINE: Job(ENGINE, (engine,)), "onnxruntime": Job("onnxruntime", (plain,)),
        "torch": Job("torch", (tmp_path / "none.pt2",)), "mnn": Job("mnn", (plain,)),
    }  # fmt: skip
    found, samples = measure(paths, np.ascontiguousarray(gradient()), 2, 1, None)
    assert found["torch"].failed.startswith("torch program ") and "none.pt2 does not exist" in found["torch"].failed
    assert "library does not load" in found["mnn"].failed
    assert samples.shape == (4, 2) and np.isnan(samples[2:]).all() and (samples[:2] > 0).all()
    assert found[ENGINE].mask.shape == gradient().shape[:2] and found[ENGINE].peak_mib > 10
    assert len(found[ENGINE].stages_ms) == 2 and not found[ENGINE].failed


class Broken:
    """A worker that answers so often."""

    def __init__(self, answers):
        self.answers = answers

    def timed(self):
        if not self.answers:
            raise EngineError("it died")
        return self.answers.pop()


class Answer:
    ms, stages_ms = 5.0, {"network": 4.0}


def turn(name, answers):
    made = Turn(name, Job(name, (Path("x"),)))
    made._worker = Broken(answers)
    return made


def test_a_peer_that_dies_takes_no_further_turn_and_says_why():
    peer = turn("mnn", [Answer()])
    assert peer.ms() == 5.0 and math.isnan(peer.ms()) and peer.failed == "it died"
    peer._worker.answers = [Answer()]
    assert math.isnan(peer.ms()) and len(peer.stages_ms) == 1


@pytest.mark.parametrize("name", [ENGINE, ROOF])
def test_what_the_others_are_compared_with_must_not_fail(name):
    with pytest.raises(EngineError, match="it died"):
        turn(name, []).ms()
