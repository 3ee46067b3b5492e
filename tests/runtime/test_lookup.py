import dataclasses
import re

import pytest

import runtime
from runtime import lookup, manifest
from runtime.errors import EngineError, LibraryError
from runtime.lookup import described, newest_engine
from runtime.manifest import manifest_path, read_manifest
from streetseg import listing
from tests.helpers.engines import built_engine, changed


def test_the_newest_engine_is_the_one_of_this_machine_that_was_built_last(tmp_path):
    old, new = built_engine(tmp_path, seed=1), built_engine(tmp_path, seed=2)
    foreign, broken = built_engine(tmp_path, seed=3), built_engine(tmp_path, seed=4)
    changed(foreign, target=dataclasses.replace(read_manifest(foreign).target, device="another"))
    manifest_path(broken).write_text("")
    assert newest_engine(tmp_path) == new
    assert built_engine(tmp_path, seed=1) == old  # a cache hit: it was asked for last
    assert newest_engine(tmp_path) == old
    changed(old, spec=dataclasses.replace(read_manifest(old).spec, batch=4))
    assert newest_engine(tmp_path) == new
    changed(old, spec=dataclasses.replace(read_manifest(old).spec, batch=4, batch_free=True))
    manifest_path(new).unlink()
    assert newest_engine(tmp_path) == old  # a frame alone costs it no more than a frame
    assert described(read_manifest(old)) == "icnet, 32x64, 1-4 frames at once, fp32 on openvino"


def test_without_an_engine_the_command_that_builds_one_is_named(tmp_path):
    with pytest.raises(EngineError, match="Build one: make engine MODEL=icnet PRECISION=fp16"):
        newest_engine(tmp_path)


def test_why_the_newest_engine_is_none_of_this_machine_is_said(tmp_path, monkeypatch):
    older, newer = built_engine(tmp_path, seed=1), built_engine(tmp_path, seed=2)
    assert newest_engine(tmp_path) == newer

    def not_installed(backend):
        raise LibraryError("OpenVINO is not installed: pip install openvino")

    monkeypatch.setattr(lookup, "backend_module", not_installed)
    told = f"in {tmp_path}; {newer.stem}: OpenVINO is not installed: pip install openvino. Build one: make engine"
    with pytest.raises(EngineError, match=re.escape(told)):
        newest_engine(tmp_path)
    manifest_path(newer).write_text("")
    with pytest.raises(EngineError, match=re.escape(f"in {tmp_path}; {older.stem}: OpenVINO")):
        newest_engine(tmp_path)


def test_the_lookup_is_offered_where_programs_import_it():
    assert runtime.newest_engine is manifest.newest_engine is newest_engine
    with pytest.raises(AttributeError, match=r"runtime\.manifest.*oldest_engine"):
        manifest.oldest_engine  # noqa: B018


DEEP = "[" * 100_000


BROKEN = [DEEP, "{", "NaN", '{"a": 1, "a": 2}', "\udcff", '{"version": ' + DEEP, "[]", '"x"']


def test_a_broken_manifest_beside_others_is_passed_over_with_one_warning(tmp_path, capsys):
    good, broken = built_engine(tmp_path, seed=1), built_engine(tmp_path, seed=2)
    for text in BROKEN:
        manifest_path(broken).write_bytes(text.encode("utf-8", "surrogateescape"))
        capsys.readouterr()
        assert newest_engine(tmp_path) == good
        warned = capsys.readouterr().err
        assert warned.startswith("warning: passed over: manifest ") and warned.count("\n") == 1
        assert [each.name for each in listing.engines(tmp_path)] == [good.stem, broken.stem]
        with pytest.raises(EngineError, match="is not readable"):
            read_manifest(broken)
