import builtins
import stat

import pytest

from engines.build import build_engine
from engines.keys import main as keys
from runtime.backend import open_backend
from runtime.errors import EngineError, LibraryError, OutputError
from runtime.infer import main as infer
from runtime.lanes import open_lanes
from runtime.manifest import manifest_path, read_manifest
from runtime.prove import prove
from runtime.samples import STREET
from runtime.signature import KeyFileError, sign_engine, signature_path, write_keys
from tests.helpers.engines import built_engine, changed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys") / "fleet")


@pytest.fixture
def signed(tmp_path, pair):
    path = built_engine(tmp_path)
    sign_engine(path, read_manifest(path), pair[0])
    return path


def test_a_pair_of_keys_is_written_once_and_the_private_one_for_its_owner(tmp_path, capsys):
    assert keys([str(tmp_path / "robots.2026")]) == 0
    private, public = (tmp_path / name for name in ("robots.2026.key", "robots.2026.pub"))
    assert capsys.readouterr().out.split() == [str(private), str(public)]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600 and b"PUBLIC KEY" in public.read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        keys([str(tmp_path / "robots.2026")])


def test_a_signed_engine_opens_by_every_way_that_asks(signed, pair):
    open_backend(signed, require_signed=pair[1]).close()
    open_lanes(signed, 1, require_signed=pair[1]).close()
    open_backend(signed).close()


@pytest.mark.parametrize("opens", [open_backend, open_lanes])
def test_an_engine_that_is_not_signed_as_asked_is_refused(opens, signed, pair, tmp_path):
    other = write_keys(tmp_path / "other")[1]
    with pytest.raises(EngineError, match=r"is not signed by .*other.pub, or was changed since"):
        opens(signed, require_signed=other)
    signature = signature_path(signed).read_bytes()
    for wrong in (b"", signature[:-1], bytes(64), signature + b"\0"):
        signature_path(signed).write_bytes(wrong)
        with pytest.raises(EngineError, match="was changed since"):
            opens(signed, require_signed=pair[1])
    signature_path(signed).unlink()
    with pytest.raises(EngineError, match=r"is not signed: there is no .*sig beside it; --sign KEY makes it"):
        opens(signed, require_signed=pair[1])


def test_an_engine_or_a_manifest_that_was_changed_with_its_checksums_is_refused(signed, pair):
    changed(signed, created="another day")
    open_backend(signed).close()
    with pytest.raises(EngineError, match="was changed since"):
        open_backend(signed, require_signed=pair[1])


def test_the_signature_is_that_of_the_manifest_s_bytes(signed, pair):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pair[1].read_bytes())
    key.verify(signature_path(signed).read_bytes(), manifest_path(signed).read_bytes())


def test_a_build_signs_an_engine_that_is_new_or_there_and_a_new_one_loses_the_old_signature(tmp_path, pair):
    path = built_engine(tmp_path)
    graph = tmp_path / "tiny-openvino-fp32-0.onnx"
    assert not signature_path(path).exists()
    assert build_engine(graph, "fp32", "openvino", tmp_path, sign=pair[0]) == path
    open_backend(path, require_signed=pair[1]).close()
    path.write_bytes(b"damaged")
    build_engine(graph, "fp32", "openvino", tmp_path)
    assert not signature_path(path).exists()


@pytest.mark.parametrize("content", [None, b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_one_line_before_anything_is_built(content, tmp_path, signed):
    key = tmp_path / "some.key"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"some.key"):
        build_engine(tmp_path / "tiny-openvino-fp32-0.onnx", "fp32", "openvino", tmp_path, sign=key)
    with pytest.raises(KeyFileError, match=r"some.key"):
        open_backend(signed, require_signed=key)


def test_the_other_key_of_the_pair_is_not_taken(signed, pair):
    with pytest.raises(KeyFileError, match="is no public key"):
        open_backend(signed, require_signed=pair[0])
    with pytest.raises(KeyFileError, match="is no private key"):
        sign_engine(signed, read_manifest(signed), pair[1])


def test_commands_hold_engines_to_the_key(signed, pair, tmp_path):
    signature_path(signed).unlink()
    with pytest.raises(EngineError, match="is not signed"):
        infer([str(STREET), "-o", str(tmp_path / "masks"), "--engine", str(signed), "--require-signed", str(pair[1])])
    with pytest.raises(EngineError, match="is not signed"):
        prove(signed, pair[1])


def test_without_the_library_the_extra_is_named(signed, pair, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("cryptography"):
            raise ImportError("no cryptography here")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LibraryError, match=r"signatures need cryptography.*\[sign\]"):
        open_backend(signed, require_signed=pair[1])
    open_backend(signed).close()
