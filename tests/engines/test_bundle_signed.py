"""A signed bundle: its script goes on only for who signed it; up to where Python is asked for, so in no time."""

import shutil
import subprocess

import pytest

from engines import bundle
from runtime.signature import KeyFileError, write_keys
from tests.helpers.graphs import tiny_graph

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
PASSED = "error: there is no no-such-python; name one: --python PYTHON"


@pytest.fixture
def pair(tmp_path):
    return write_keys(tmp_path / "fleet")


@pytest.fixture
def signed(tmp_path, pair):
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph(None, "fp32"))
    (tmp_path / "a.whl").write_bytes(b"wheel")
    source = bundle.Source(tmp_path / "tiny.onnx", tmp_path / "a.whl", key=pair[0])
    return bundle.make_bundle(source, tmp_path / "robot")


def said(folder, public, cwd=None):
    asked = [str(folder / "install.sh"), "--python", "no-such-python", "--require-signed", str(public)]
    return subprocess.run(asked, capture_output=True, text=True, cwd=cwd).stderr.splitlines()[-1]


def test_a_signed_bundle_goes_on_and_makes_everything_in_it_again(signed, pair):
    (signed / "venv").mkdir()
    assert said(signed, pair[1]) == PASSED and not (signed / "venv").exists()
    assert said(signed, "fleet.pub", cwd=pair[1].parent) == PASSED


def test_a_bundle_of_someone_else_or_that_was_changed_does_not(signed, pair, tmp_path):
    other = write_keys(tmp_path / "other")[1]
    assert "is not signed by" in said(signed, other)
    (signed / "a.whl").write_bytes(b"other")
    assert said(signed, pair[1]) == "error: this bundle is not whole; copy it again"
    subprocess.run("sha256sum *.onnx *.whl *.md *.sh > SHA256SUMS", shell=True, cwd=signed, check=True)
    assert "was changed since" in said(signed, pair[1])
    (signed / "SHA256SUMS.sig").unlink()
    assert "is not signed: there is no SHA256SUMS.sig" in said(signed, pair[1])
    assert "--require-signed names no file" in said(signed, tmp_path / "none.pub")


def test_a_key_that_is_none_is_said_before_anything_is_written(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph(None, "fp32"))
    (tmp_path / "a.whl").write_bytes(b"wheel")
    with pytest.raises(KeyFileError):
        bundle.make_bundle(
            bundle.Source(tmp_path / "tiny.onnx", tmp_path / "a.whl", key=tmp_path / "no"), tmp_path / "r"
        )
    assert not (tmp_path / "r").exists()
