import dataclasses
import json
import re

import numpy as np
import pytest

from runtime.errors import EngineError, OutputError
from runtime.labels import CAMVID
from runtime.manifest import read_manifest
from runtime.proof import expected_path
from runtime.triton import repository as repository_module
from runtime.triton.command import main
from runtime.triton.golden import read_golden
from runtime.triton.places import ENGINE, config_text, served_lanes, served_version, versions
from runtime.triton.repository import add, serve
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_spec


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def served(repository):
    return served_version(repository / "street"), sorted(versions(repository / "street"))


def test_a_version_holds_the_engine_with_all_that_belongs_to_it(repository, engines):
    version = repository / "street" / "1"
    names = {"model.engine", "model.json", "model.referee.npz", "model.golden.npz", "model.py"}
    assert {path.name for path in version.iterdir()} == names
    assert (version / ENGINE).read_bytes() == engines[0].read_bytes()
    assert read_manifest(version / ENGINE) == read_manifest(engines[0])
    assert [path.name for path in repository.iterdir() if path.is_dir()] == ["street"]


def test_model_py_is_the_installed_model():
    from runtime.triton.model import TritonPythonModel
    from runtime.triton.places import MODEL_PY

    names: dict[str, object] = {}
    exec(MODEL_PY, names)
    assert names["TritonPythonModel"] is TritonPythonModel and len(MODEL_PY.splitlines()) == 3


def test_the_configuration_tells_tensors_lanes_version_classes_and_colours(repository):
    text = (repository / "street" / "config.pbtxt").read_text()
    assert 'name: "street"\nbackend: "python"\n' in text and "count: 2 kind: KIND_CPU" in text
    assert 'input { name: "frame" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }' in text
    assert re.findall(r'output \{ name: "(\w+)" data_type: TYPE_UINT8 dims: \[ -1, -1 \] \}', text) == [
        "mask", "confidence",
    ]  # fmt: skip
    quoted = re.search(r'key: "classes" value \{ string_value: (".*") \} \}', text)
    classes = json.loads(json.loads(quoted[1]))
    assert [each["name"] for each in classes] == [label.name for label in CAMVID]
    assert classes[0]["color"] == list(CAMVID[0].color)


def test_class_ids_alone_have_no_confidence(engines):
    manifest = read_manifest(engines[0])
    ids = dataclasses.replace(manifest, spec=dataclasses.replace(manifest.spec, upsample="nearest"))
    assert "confidence" not in config_text("x", ids, 1, 1)


def test_another_engine_is_the_next_version_and_the_old_one_stays(repository, engines):
    before = files(repository / "street" / "1")
    assert add(repository, "street", engines[1], None) == (repository / "street", 2, True, 1)
    assert served(repository) == (2, [1, 2]) and files(repository / "street" / "1") == before
    assert served_lanes(repository / "street") == 2
    masks = [read_golden(path).mask for path in versions(repository / "street").values()]
    assert not np.array_equal(*masks)


def test_the_same_engine_adds_and_changes_nothing(repository, engines):
    before, times = files(repository), (repository / "street" / "config.pbtxt").stat().st_mtime_ns
    assert add(repository, "street", engines[0], None) == (repository / "street", 1, False, 1)
    assert files(repository) == before
    assert (repository / "street" / "config.pbtxt").stat().st_mtime_ns == times


def test_an_older_version_is_served_again_by_its_engine_or_its_number(repository, engines):
    add(repository, "street", engines[1], None)
    assert add(repository, "street", engines[0], None)[1:] == (1, False, 2) and served(repository) == (1, [1, 2])
    assert serve(repository / "street", 2, 3)[1:] == (2, False, 1) and served(repository) == (2, [1, 2])
    assert served_lanes(repository / "street") == 3


@pytest.mark.parametrize("version", [2, 7])
def test_a_version_that_is_damaged_or_not_there_is_not_served(repository, engines, version):
    add(repository, "street", engines[1], None)
    serve(repository / "street", 1, None)
    (repository / "street" / "2" / ENGINE).write_bytes(b"x")
    with pytest.raises(EngineError, match=r"no version 7, there are 1, 2|is damaged"):
        serve(repository / "street", version, None)
    assert served(repository) == (1, [1, 2])


def test_in_place_of_a_damaged_version_its_engine_is_the_next_one(repository, engines):
    (repository / "street" / "1" / ENGINE).write_bytes(b"x")
    assert add(repository, "street", engines[0], None)[1:] == (2, True, 1)


def test_an_engine_that_is_refused_leaves_nothing_and_changes_nothing(repository, engines, tmp_path, monkeypatch):
    before = files(repository)
    unproven = built_engine(tmp_path / "unproven", seed=1)
    expected_path(unproven).unlink()
    other = built_engine(tmp_path / "other", spec=dataclasses.replace(tiny_spec(), classes=CAMVID[:5]))
    cases = (unproven, "referee.npz is missing"), (other, "give it a name of its own"), (tmp_path, "is a folder")
    for engine, said in cases:
        with pytest.raises(EngineError, match=said):
            add(repository, "street", engine, None)
    monkeypatch.setattr(repository_module, "prove", lambda _: (_ for _ in ()).throw(EngineError("is wrong")))
    with pytest.raises(EngineError, match="is wrong"):
        add(repository, "street", engines[1], None)
    assert files(repository) == before and len(list((repository / "street").iterdir())) == 2


@pytest.fixture
def refused(engines, tmp_path, monkeypatch):
    """Engines that are refused at three places, and one that Ctrl-C refuses."""
    unproven, damaged = (built_engine(tmp_path / name, seed=1) for name in ("unproven", "damaged"))
    expected_path(unproven).unlink()
    damaged.write_bytes(b"x")

    def prove(own):
        raise KeyboardInterrupt if read_manifest(own) == read_manifest(engines[0]) else EngineError("is wrong")

    monkeypatch.setattr(repository_module, "prove", prove)
    return [tmp_path / "none.engine", unproven, damaged, engines[1], engines[0]]


def test_a_first_engine_that_is_refused_leaves_no_model_and_no_repository(refused, tmp_path):
    for engine in refused:
        with pytest.raises((EngineError, KeyboardInterrupt)):
            add(tmp_path / "not" / "there", "new", engine, None)
        assert not (tmp_path / "not").exists()


def test_a_first_engine_that_is_refused_leaves_what_was_there(refused, repository):
    (repository / "own").mkdir()
    before = sorted(repository.rglob("*"))
    for engine in refused:
        for name in ("new", "own"):
            with pytest.raises((EngineError, KeyboardInterrupt)):
                add(repository, name, engine, None)
    assert sorted(path for path in repository.rglob("*") if path.name != ".own.lock") == before


def test_a_model_of_which_a_killed_command_left_a_part_alone_goes_with_it(refused, repository):
    (repository / "new" / ".street-segmentation-00.part").mkdir(parents=True)
    with pytest.raises(EngineError, match="is wrong"):
        add(repository, "new", refused[3], None)
    assert not (repository / "new").exists()


def test_what_a_killed_command_left_is_no_version_and_is_removed(repository, engines):
    left = repository / "street" / ".street-segmentation-00.part"
    left.mkdir()
    (left / "model.engine").write_bytes(b"half")
    assert sorted(versions(repository / "street")) == [1]
    add(repository, "street", engines[1], None)
    assert not left.exists()


def test_the_command_names_a_model_by_its_network_or_as_it_is_told(engines, tmp_path, capsys):
    folder = tmp_path / "models"
    assert main(["--repository", str(folder), "--engine", str(engines[0])]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / tiny_spec().name)]
    assert main(["--repository", str(folder), "--engine", f"own={engines[1]}", "--lanes", "1"]) == 0
    with pytest.raises(EngineError, match="name one of its models"):
        main(["--repository", str(folder), "--serve", "1"])
    assert main(["--repository", str(folder), "--serve", "1", "--name", "own"]) == 0


def test_a_model_is_no_repository(repository):
    with pytest.raises(OutputError, match="expected the folder above it"):
        main(["--repository", str(repository / "street")])
    with pytest.raises(OutputError, match="is a file"):
        main(["--repository", str(repository / "street" / "config.pbtxt")])
