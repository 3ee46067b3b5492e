"""Like with like: what two engines must have in common, which code runs the base, and what is told of their masks."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from runtime import cli
from runtime.errors import EngineError
from runtime.measure.gate import regress
from runtime.measure.gate.regress import NO_BASELINE
from tests.helpers.engines import built_engine, changed
from tests.helpers.fake_code import sleeping_code
from tests.helpers.gate import run
from tests.helpers.graphs import OWN_CLASSES, tiny_spec

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


@pytest.mark.parametrize(
    ("what", "spec"),
    [
        ("form", replace(tiny_spec(), preprocess=replace(tiny_spec().preprocess, scale=1 / 255))),
        ("batch", tiny_spec(batch=4, batch_free=True)),
    ],
)
def test_a_form_or_a_batch_is_compared_with_another_only_where_that_is_asked(engines, speeds, tmp_path, what, spec):
    other = built_engine(tmp_path)
    changed(other, spec=spec)
    speeds(10, 9)
    assert run(engines[0], other) == NO_BASELINE
    assert run(engines[0], other, "--across", what) == cli.DONE


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
