import dataclasses
import hashlib
import json

import pytest

from runtime.backends.layer import Layer
from runtime.backends.tensorrt_layers import keep_layers, kept_layers, layers_path
from runtime.errors import EngineError, PipelineError
from runtime.manifest import write_engine
from runtime.measure.gate.proxies import changes, count, refuse_uncounted
from tests.helpers.imitated_gpu import manifest

LAYERS = (Layer("work", 10), Layer("reorder", 4), Layer("work", 2**40))
BYTES = b"an engine"


@pytest.fixture
def engine(tmp_path):
    """An engine of TensorRT-RTX on disk, of its layers; and its manifest."""

    def made(layers, name="a"):
        sha256 = hashlib.sha256(BYTES).hexdigest()
        of = dataclasses.replace(manifest("tensorrt-rtx", "fp16", 1), engine_sha256=sha256)
        path = tmp_path / f"{name}.engine"
        write_engine(path, BYTES, of)
        keep_layers(path, layers, sha256)
        return path, of

    return made


def test_what_the_build_was_told_is_read_again(engine):
    assert kept_layers(*engine(LAYERS)) == list(LAYERS)


def test_an_engine_whose_build_was_told_nothing_has_no_layers_nor_those_of_an_earlier_one(engine):
    engine(LAYERS)
    path, of = engine(())
    assert kept_layers(path, of) == [] and not layers_path(path).exists()


def test_the_gate_compares_the_plans_of_two_engines(engine):
    base, candidate = count(engine(LAYERS)[0]), count(engine((*LAYERS, Layer("cast", 6)), "b")[0])
    assert base == {
        "nodes": 3, "kernels": 3, "casts": 0, "reorders": 1, "quantizers": 0, "bytes_moved": 2**40 + 14,
        "engine_bytes": len(BYTES),
    }  # fmt: skip
    assert [change.name for change in changes(base, candidate)] == ["nodes", "kernels", "casts", "bytes_moved"]
    assert count(engine((), "c")[0]) == {"engine_bytes": len(BYTES)}


@pytest.mark.parametrize("installed", [True, False])
def test_an_engine_of_which_only_the_size_is_known_is_no_count_and_the_proxy_is_named(engine, monkeypatch, installed):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if installed else None)
    path, _ = engine(())
    with pytest.raises(PipelineError) as error:
        refuse_uncounted(path, count(path))
    said = str(error.value)
    assert said.startswith("a.engine: tensorrt-rtx told no kernels of it, only its size is known")
    assert "BACKEND=tensorrt-rtx REGRESS_OPTIONS=--counts-alone" in said and "\n" not in said
    assert ("it is installed" in said) == installed and ("pip install" in said) != installed
    counted, _ = engine(LAYERS, "b")
    refuse_uncounted(counted, count(counted))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", '{"layers": [["work", 1]]}', '{"layers": 3, "engine_sha256": "SHA"}',
        '{"layers": [["work"]], "engine_sha256": "SHA"}', '{"layers": [["work", -1]], "engine_sha256": "SHA"}',
        '{"layers": [["work", 1.5]], "engine_sha256": "SHA"}', '{"layers": [["play", 1]], "engine_sha256": "SHA"}',
        '{"layers": [[["work"], 1]], "engine_sha256": "SHA"}', '{"layers": [["work", true]], "engine_sha256": "SHA"}',
        '{"layers": [["work", 1]], "engine_sha256": "other"}',
    ],
)  # fmt: skip
def test_what_is_damaged_or_of_another_engine_is_refused_with_the_command_that_builds_it(engine, text):
    path, of = engine(LAYERS)
    layers_path(path).write_text(text.replace("SHA", of.engine_sha256))
    with pytest.raises(EngineError, match="build it again: make engine MODEL=icnet") as error:
        kept_layers(path, of)
    assert "\n" not in str(error.value)


def test_the_file_is_json_of_roles_and_bytes(engine):
    path, of = engine(LAYERS)
    assert json.loads(layers_path(path).read_text()) == {
        "engine_sha256": of.engine_sha256,
        "layers": [["work", 10], ["reorder", 4], ["work", 2**40]],
    }
