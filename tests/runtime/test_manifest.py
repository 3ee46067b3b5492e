import dataclasses

import pytest

from runtime.backend import open_backend
from runtime.errors import EngineError
from runtime.manifest import manifest_path, read_manifest, write_engine
from tests.helpers.engines import built_engine, changed


def test_a_truncated_engine_is_refused_with_the_command_that_rebuilds_it(tmp_path):
    path = built_engine(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        EngineError, match=r"damaged or edited.*make engine MODEL=icnet PRECISION=fp32 BACKEND=openvino"
    ):
        open_backend(path)


def test_an_edited_engine_is_refused(tmp_path):
    path = built_engine(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match="damaged or edited"):
        open_backend(path)


@pytest.mark.parametrize("field", ["library_version", "device", "capability", "system"])
def test_an_engine_of_another_machine_is_refused_with_what_differs(tmp_path, field):
    path = built_engine(tmp_path)
    changed(path, target=dataclasses.replace(read_manifest(path).target, **{field: "other"}))
    with pytest.raises(
        EngineError, match=f"does not match this machine .{field}: built for other, this machine has .*make"
    ):
        open_backend(path)


def test_an_engine_without_manifest_a_missing_one_and_a_folder_are_named(tmp_path):
    path = built_engine(tmp_path)
    manifest_path(path).unlink()
    with pytest.raises(EngineError, match="has no manifest"):
        open_backend(path)
    with pytest.raises(EngineError, match="does not exist"):
        open_backend(tmp_path / "none.engine")
    with pytest.raises(EngineError, match="is a folder"):
        open_backend(tmp_path)


def test_a_manifest_that_is_no_manifest_is_refused(tmp_path):
    path = built_engine(tmp_path)
    manifest_path(path).write_text("{")
    with pytest.raises(EngineError, match="is not readable"):
        open_backend(path)


@pytest.mark.parametrize(
    "edit",
    [
        ('"block": 1', '"block": 2'),
        ('"fp32": 2', '"bf16": 2'),
        ('"height": 32', '"height": 96'),
        ('"version": 3', '"version": 4'),
    ],
    ids=lambda edit: edit[1],
)
def test_an_edited_manifest_is_refused_and_the_named_command_mends_it(tmp_path, edit):
    path = built_engine(tmp_path)
    text = manifest_path(path).read_text()
    assert edit[0] in text
    manifest_path(path).write_text(text.replace(*edit))
    with pytest.raises(EngineError, match=r"is edited or of another version. Rebuild it: make engine MODEL=icnet"):
        open_backend(path)
    assert built_engine(tmp_path) == path
    open_backend(path).close()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_engine_of_another_batch_than_its_manifest_says_is_refused(tmp_path, backend):
    path = built_engine(tmp_path, backend=backend)
    changed(path, spec=dataclasses.replace(read_manifest(path).spec, batch=4))
    with pytest.raises(EngineError, match="takes 1 frames at once, its manifest says 4"):
        open_backend(path)


def test_what_is_no_engine_of_the_library_is_refused_in_one_line(tmp_path):
    for backend in ("openvino", "onnxruntime"):
        path = built_engine(tmp_path, backend=backend)
        manifest = read_manifest(path)
        import hashlib

        data = b"this is not an engine"
        write_engine(path, data, dataclasses.replace(manifest, engine_sha256=hashlib.sha256(data).hexdigest()))
        with pytest.raises(EngineError) as refused:
            open_backend(path)
        assert "\n" not in str(refused.value)
