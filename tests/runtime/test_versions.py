"""Versions by the names of folders are those that `importlib.metadata` reads."""

import subprocess
import sys
from importlib import metadata

import pytest

from runtime.versions import version_of


def test_of_every_installed_package_it_is_the_same():
    names = {found.metadata["Name"] for found in metadata.distributions()}
    assert len(names) > 20 and {name: version_of(name) for name in names} == {n: metadata.version(n) for n in names}


@pytest.mark.parametrize("written", ["of-two.words", "Of_Two_Words", "OF.TWO-WORDS"])
def test_a_name_is_the_same_however_it_is_written(tmp_path, monkeypatch, written):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "none"), str(tmp_path)])
    assert version_of(written) is None
    for name in ("of_two_words-1.2+cpu.dist-info", "of_two_words_more-3.dist-info", "of_two-4.dist-info"):
        (tmp_path / name).mkdir()
    assert version_of(written) == "1.2+cpu"


def test_where_folders_do_not_tell_their_content_does(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for version in ("1", "2"):
        (tmp_path / f"thing-{version}.dist-info").mkdir()
    (tmp_path / "thing-2.dist-info" / "METADATA").write_text("Name: thing\nVersion: 2\n")
    (tmp_path / "egg-7.egg-info").write_text("Name: egg\nVersion: 7\n")
    assert version_of("egg") == "7" and version_of("thing") in (None, "2")


def test_an_installed_package_is_found_without_reading_metadata():
    code = "import sys; from runtime.versions import version_of; assert version_of('numpy'); "
    code += "assert 'importlib.metadata' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
