"""The Python API: the chain from a network to an engine, what it refuses, and what there is."""

import inspect
import json
import os
import re
import time

import pytest

import streetseg
from calib import ranges, thresholds
from export import registry
from runtime import cli as runtime_cli
from runtime.errors import EngineError, GraphError, ModelError, WeightsError
from runtime.labels import CAMVID
from runtime.manifest import manifest_path, read_manifest
from runtime.signature import signature_path, write_keys
from streetseg import cli, completion, list_commands, listing, results, stage_commands, stages
from tests.helpers import fake_backend
from tests.helpers.fake_backend import write_fake_engine
from tests.helpers.graphs import tiny_graph

SMALL = (64, 128)
GMAC = {"icnet": 29.1, "enet": 15.4}  # at 1024x2048; ICNet's is the one that README counts in its exported graph


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def graph(here):
    path = here / "tiny.onnx"
    path.write_bytes(tiny_graph(None, "fp32"))
    return path


def test_every_name_is_offered_and_documented():
    for name in streetseg.__all__:
        assert getattr(streetseg, name).__doc__, name
    assert set(streetseg.__all__) <= set(dir(streetseg))
    with pytest.raises(AttributeError, match="module 'streetseg' has no attribute 'buidl'"):
        streetseg.buidl  # noqa: B018


@pytest.mark.parametrize("name", ["export", "calibrate", "quantize", "build", "open", "evaluate", "train", "models"])
def test_a_contract_names_every_argument(name):
    function = getattr(streetseg, name)
    arguments = inspect.getdoc(function).partition("Args:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^ {4}(\w+): ", arguments, re.M) == list(inspect.signature(function).parameters)
    assert "Raises:" in function.__doc__


@pytest.mark.slow
def test_the_whole_chain_is_one_call_and_one_command_and_the_second_time_nothing_is_made(here, capsys):
    engine = streetseg.build("enet", precision="int8", backend="openvino", size=SMALL, folder="kept")
    manifest = read_manifest(engine)
    at = manifest.spec.preprocess
    assert (manifest.precision, manifest.backend, (at.height, at.width)) == ("int8", "openvino", SMALL)
    capsys.readouterr()
    typed = "engine --model enet --precision int8 --backend openvino --size 64x128 --folder kept"
    assert cli.main(typed.split()) == runtime_cli.DONE
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(engine) and printed.err.count("up to date") == 3
    with streetseg.open(engine) as segmenter:
        mask = segmenter.segment(streetseg.read_frame(streetseg_street()))
    assert mask.max() < len(CAMVID)


def streetseg_street():
    from runtime.samples import STREET

    return STREET


def test_a_graph_is_built_in_its_own_precision(graph, capsys):
    engine = streetseg.build(graph, backend="openvino")
    assert read_manifest(engine).precision == "fp32"
    assert cli.main(["engine", str(graph), "--backend", "openvino"]) == runtime_cli.DONE
    assert capsys.readouterr().out == f"{engine}\n"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"size": SMALL}, ModelError, "size: of a network's name, but a graph was given"),
        ({"weights": "w", "plain": True}, ModelError, "weights and plain: of a network's name"),
        ({"fit": "pad"}, ModelError, "fit: of a network's name"),
        ({"leave": ["x"]}, ModelError, "leave: of precision int8 alone, asked was fp32"),
        ({"precision": "int8"}, GraphError, "is fp32, asked was int8"),
        ({"precision": "int9"}, ModelError, r"unknown precision 'int9'. Did you mean int8\?"),
        ({"backend": "openvin"}, ModelError, r"unknown backend 'openvin'. Did you mean openvino\?"),
    ],
)
def test_options_that_do_not_go_with_a_graph_are_refused(graph, options, error, said):
    with pytest.raises(error, match=said):
        streetseg.build(graph, **{"backend": "openvino", **options})


@pytest.mark.parametrize(
    ("model", "options", "error", "said"),
    [
        ("icnett", {}, ModelError, r"unknown model 'icnett'. Did you mean icnet\?"),
        ("icnet", {"size": (700, 960)}, ModelError, "the nearest is 704x960: --size 704x960"),
        ("icnet", {"batch": 0}, ModelError, "a batch of 0 frames"),
        ("icnet", {"weights": "none.pt"}, WeightsError, "weights none.pt does not exist; .*: --weights path"),
        ("icnet", {"precision": "int8", "plain": True}, ModelError, "plain graphs are fp32 or fp16"),
        ("icnet", {"fit": "crop"}, ModelError, "unknown fit 'crop'. There are: auto, pad, stretch"),
        ("icnet", {"table": "t.json"}, ModelError, "table: of precision int8 alone, asked was fp16"),
    ],
)
def test_what_no_graph_can_be_made_of_is_refused_before_anything_is_made(here, model, options, error, said):
    with pytest.raises(error, match=said):
        streetseg.export(model, **options)
    assert list(here.rglob("*.onnx")) == []


def test_a_graph_that_is_not_there_is_told_with_what_makes_one(here):
    with pytest.raises(GraphError, match=r"none\.onnx does not exist; export one: streetseg export --model icnet"):
        streetseg.build("none.onnx", backend="openvino")


def test_defaults_of_the_commands_are_those_of_the_stages():
    assert stage_commands.METHODS == thresholds.METHODS
    assert inspect.getdoc(streetseg.calibrate).count(f"None: {ranges.FRAMES}") == 1
    assert f"None: {ranges.DEFAULT_METHOD}." in inspect.getdoc(streetseg.calibrate)
    assert completion.DATASETS


def test_calibration_takes_the_graph_and_refuses_too_few_frames(graph, here):
    with pytest.raises(Exception, match="holds no images"):
        streetseg.calibrate(graph, data=here)
    (here / "a.png").write_bytes(fake_backend.PICTURE)
    table = streetseg.calibrate(graph, data=here, few=True, method="minmax")
    assert json.loads(table.read_text())["method"] == "minmax"


def test_training_takes_options_by_name_and_refuses_by_an_error(here):
    assert results.as_argv({"lr": 0.1, "crop": (3, 4), "qat": True, "compile": False, "start": None}) == [
        "--lr", "0.1", "--crop", "3x4", "--qat",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"unrecognized arguments: --epocs 5.*did you mean --epochs"):
        streetseg.train("icnet", dataset="camvid", data=here, out=here / "out", epocs=5)
    with pytest.raises(ModelError, match="unknown model"):
        streetseg.train("icnett", dataset="camvid", data=here, out=here / "out")


def test_engines_are_listed_newest_first_with_why_one_does_not_fit(tmp_path, monkeypatch, capsys):
    here = fake_backend.working_folder(tmp_path, monkeypatch)
    folder = here / "artifacts/engines"
    foreign = fake_backend.TARGET.__class__("fake", "1.0", "slide rule", "beads", "here")
    write_fake_engine(folder, name="other", target=foreign)
    (folder / "broken.engine").write_bytes(b"")
    old = manifest_path(folder / "icnet-fp16.engine")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    first, second, third = streetseg.engines()
    assert [each.name for each in (first, second, third)] == ["other", "icnet-fp16", "broken"]
    assert not first.fits and first.fault == "device: built for slide rule, this machine has abacus"
    assert second.fits and (second.model, second.size, second.precision, second.backend) == (
        "icnet", (64, 128), "fp16", "openvino",
    )  # fmt: skip
    assert 7199 < second.age_s < 7260
    assert third.model is None and "has no manifest" in third.fault
    assert cli.main(["engines"]) == runtime_cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["engine", "network", "size", "precision", "backend", "age", "fits"]
    assert re.split(r"  +", lines[2]) == ["icnet-fp16", "icnet", "64x128", "fp16", "openvino", "2 h", "yes"]
    assert cli.main(["engines", "--json"]) == runtime_cli.DONE
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["other", "icnet-fp16", "broken"]


def test_where_several_engines_fit_the_newest_is_told_and_the_others_named(tmp_path, monkeypatch, capsys):
    here = fake_backend.working_folder(tmp_path, monkeypatch)
    old = manifest_path(here / "artifacts/engines/icnet-fp16.engine")
    os.utime(old, (1, 1))
    newest = write_fake_engine(here / "artifacts/engines", name="newest")
    with streetseg.open():
        pass
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"engine {newest.stem}: icnet, 64x128, fp16 on openvino"
    assert said[1].startswith("warning: 1 more fit this machine (icnet-fp16); ") and len(said) == 2
    assert cli.main(["infer", "a.png", "-o", "out", "--engine", str(newest)]) == runtime_cli.DONE
    assert "warning" not in capsys.readouterr().err


def test_without_an_engine_the_list_says_how_one_is_built(here, capsys):
    assert cli.main(["engines"]) == runtime_cli.DONE
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith("Build one: streetseg engine --model icnet --precision fp16\n")
    with pytest.raises(EngineError, match="no engine for this machine"):
        streetseg.open()


def test_models_are_listed_with_what_they_cost(capsys):
    found = {model.name: model for model in streetseg.models()}
    assert found.keys() == set(registry.names())
    for name, gmac in GMAC.items():
        model = found[name]
        card = model.weights.with_suffix(".md").read_text()
        assert f"{model.parameters:,} parameters" in card and round(model.gmac, 1) == gmac
        assert model.licence.startswith("research and education")
    assert found["icnet-caffe"].size == (1025, 2049) and found["icnet-caffe"].weights is None
    assert cli.main(["models", "icnet", "--size", "704x960", "--json"]) == runtime_cli.DONE
    (row,) = json.loads(capsys.readouterr().out)
    assert row["size"] == [704, 960] and row["gmac"] < GMAC["icnet"] / 2
    assert cli.main(["models", "enet"]) == runtime_cli.DONE
    assert "363,791" in capsys.readouterr().out


@pytest.mark.parametrize(("age_s", "text"), [(None, "-"), (0.2, "0 s"), (61, "1 min"), (7300, "2 h"), (200000, "2 d")])
def test_an_age_is_told_in_its_largest_unit(age_s, text):
    assert list_commands.age_text(age_s) == text


def test_a_missing_library_is_typed_with_its_extra(monkeypatch):
    def fails():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(streetseg.PipelineError, match=r"torch is not installed, .*\[export\]'"):
        stages.naming_extras(fails)()
    assert listing.models.__wrapped__


def test_an_engine_is_signed_by_call_and_by_command(graph, tmp_path, capsys):
    private, public = write_keys(tmp_path / "fleet")
    options = {"precision": "fp32", "backend": "onnxruntime", "prove": False, "folder": "kept"}
    engine = streetseg.build(graph, **options, sign=private)
    with streetseg.open(engine, require_signed=public) as lanes:
        assert lanes.count == 1
    signature_path(engine).unlink()
    words = ["--precision", "fp32", "--backend", "onnxruntime", "--no-proof", "--folder", "kept"]
    assert stage_commands.engine([str(graph), *words, "--sign", str(private)]) == 0
    assert signature_path(engine).is_file()
