"""An engine that fits any machine is proven once on each, by itself."""

import json

import numpy as np
import pytest

from engines.build import build_engine
from runtime import first_use, reference
from runtime.backend import open_backend
from runtime.backends import onnxruntime as onnxruntime_backend
from runtime.errors import EngineError
from runtime.lanes import open_lanes
from runtime.manifest import read_manifest
from runtime.proof import expected_path
from tests.helpers.graphs import tiny_graph

OPEN = [open_backend, lambda path: open_lanes(path, 2)]


@pytest.fixture
def engine(tmp_path):
    """An engine for any machine."""
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph())
    return build_engine(tmp_path / "tiny.onnx", "fp32", "onnxruntime", tmp_path / "engines")


@pytest.fixture
def elsewhere(engine, monkeypatch, capsys):
    """The same engine on a machine of another CPU."""
    monkeypatch.setattr(first_use, "cpu_name", lambda: "another CPU")
    capsys.readouterr()
    return engine


def wrong(self, frame, logits=onnxruntime_backend.OnnxRuntimeBackend.logits):
    return np.roll(logits(self, frame), 1, axis=-1)


def mask_of_its_logits(self, frame):
    return reference.segment(self.logits(frame), self.spec, frame.shape)


def test_the_machine_that_built_it_does_not_prove_it_again(engine, capsys):
    capsys.readouterr()
    open_backend(engine).close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("opened", OPEN)
def test_another_machine_proves_it_once_and_says_so(elsewhere, opened, capsys):
    opened(elsewhere).close()
    told = capsys.readouterr().err
    assert "first use on this machine: proven on 1 frame" in told and told.count("\n") == 1
    opened(elsewhere).close()
    assert capsys.readouterr().err == ""
    known = json.loads(elsewhere.with_suffix(".proven.json").read_text())
    assert [machine["cpu"] for machine in known.values()][1] == "another CPU"


def test_units_that_the_library_may_not_use_are_another_machine(engine, monkeypatch, capsys):
    monkeypatch.setattr(first_use, "cpu_features", lambda: ("avx2", "max_cpu_isa=sse41"))
    open_backend(engine).close()
    assert "first use on this machine: proven" in capsys.readouterr().err


@pytest.mark.parametrize("opened", OPEN)
def test_what_computes_something_else_there_is_refused_each_time(elsewhere, opened, monkeypatch):
    monkeypatch.setattr(onnxruntime_backend.OnnxRuntimeBackend, "logits", wrong)
    monkeypatch.setattr(onnxruntime_backend.OnnxRuntimeBackend, "segment", mask_of_its_logits)
    for _ in range(2):
        with pytest.raises(EngineError, match="does not compute on this machine what its graph says: logits are off"):
            opened(elsewhere)


def test_without_the_referees_logits_it_is_said(elsewhere, capsys):
    expected_path(elsewhere).unlink()
    open_backend(elsewhere).close()
    assert "was never proven on this machine: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_damaged_record_proves_it_again(engine, text, capsys):
    engine.with_suffix(".proven.json").write_text(text)
    capsys.readouterr()
    open_backend(engine).close()
    assert "first use on this machine: proven" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(elsewhere, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(first_use, "write_atomically", refuse)
    open_backend(elsewhere).close()
    assert "cannot be kept (Read-only file system); it is proven again at each start" in capsys.readouterr().err


def test_what_was_built_without_proof_is_taken_as_it_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph())
    path = build_engine(tmp_path / "tiny.onnx", "fp32", "onnxruntime", tmp_path, prove=False)
    monkeypatch.setattr(first_use, "cpu_name", lambda: "another CPU")
    capsys.readouterr()
    open_backend(path).close()
    assert capsys.readouterr().err == "" and read_manifest(path).proof.note == "--no-proof"


@pytest.mark.parametrize("opened", [open_backend, open_lanes])
def test_another_fit_is_no_other_engine_and_the_proof_holds_it_all_the_same(elsewhere, opened, capsys, monkeypatch):
    from runtime.proof import compared

    seen = []
    monkeypatch.setattr(first_use, "compared", lambda engine, *rest: seen.append(engine) or compared(engine, *rest))
    with opened(elsewhere, fit="pad") as padded:
        assert padded.spec.preprocess.fit == "pad"
    assert [engine.spec.preprocess.fit for engine in seen] == ["stretch"]
    assert "first use on this machine" in capsys.readouterr().err
    monkeypatch.setattr(onnxruntime_backend.OnnxRuntimeBackend, "logits", wrong)
    elsewhere.with_suffix(".proven.json").unlink()
    with pytest.raises(EngineError, match="another mask than its logits say"):
        opened(elsewhere, fit="pad")
