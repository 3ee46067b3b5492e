"""The steps of `streetseg study`: what each takes from what was kept before."""

import json
from types import SimpleNamespace

import pytest

from streetseg.study import command, networks
from streetseg.study.command import Asked, accuracy

BRANCH = {"series": "ICNet's branches"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    return tmp_path


def test_prepare_does_all_but_the_times(folder, monkeypatch):
    done = []
    monkeypatch.setattr(command, "DO", {step: lambda _, step=step: done.append(step) or {} for step in command.STEPS})
    assert command.main(["--prepare", "--folder", str(folder)]) == 0
    assert done == ["build", "networks", "accuracy", "memory"]


def test_an_engine_is_evaluated_once_and_a_new_one_again(folder, monkeypatch):
    asked = []

    def evaluated(engines, *_):
        asked.append([path.name for path in engines])
        found = [{"frames": 101, "miou": 0.6 + len(asked) / 100} for _ in engines]
        return {"dataset": "camvid", "split": "val", "engines": found}

    def told(*engines):
        points = [{**BRANCH, "name": f"point-{i}", "engine": f"e/{name}"} for i, name in enumerate(engines)]
        (folder / "build.json").write_text(json.dumps({"points": points}))
        found = accuracy(Asked(folder))
        (folder / "accuracy.json").write_text(json.dumps(found))
        return found

    monkeypatch.setattr("runtime.accuracy.evaluate.evaluated", evaluated)
    assert told("a", "b")["miou"] == told("a", "b")["miou"] == {"point-0": 0.61, "point-1": 0.61}
    assert told("a", "c")["miou"] == {"point-0": 0.61, "point-1": 0.62}
    assert asked == [["a", "b"], ["c"]]
    assert accuracy(Asked(None))["frames"] == 101  # without DATA what is known stays


def test_logits_are_taken_of_the_same_engines_alone(monkeypatch, tmp_path):
    made = []
    of = {"path": "a"}
    monkeypatch.setattr(networks, "engine_of", lambda name, kind, *_: tmp_path / f"{of['path']}-{kind}.engine")
    monkeypatch.setattr(networks, "logits_beside_torch", lambda *_: made.append(1) or {"graph": 1.0})

    manifest = SimpleNamespace(spec=SimpleNamespace(weights_sha256="0"), executed={"fp32": 1})
    monkeypatch.setattr(networks, "read_manifest", lambda _: manifest)
    row = networks.built_network("fast-scnn", {})
    assert networks.built_network("fast-scnn", row) == row and len(made) == 1
    of["path"] = "b"
    assert networks.built_network("fast-scnn", row)["logits_of"] != row["logits_of"] and len(made) == 2
