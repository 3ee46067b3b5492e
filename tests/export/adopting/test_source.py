import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.adopting.source import read_source
from runtime.errors import GraphError
from tests.helpers.foreign import Foreign


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (b"PK\x03\x04" + bytes(60), "a ZIP archive, as PyTorch's checkpoints are"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (bytes(4) + b"TFL3" + bytes(60), "TensorFlow Lite's"),
        (b"layer conv1 3x3\n", "not an ONNX file but text"),
        (b"", "not an ONNX file but empty"),
        (b"\xff\xfe\x00" * 50, "is not an ONNX file"),
    ],
    ids=["lfs", "html", "zip", "hdf5", "tflite", "text", "empty", "noise"],
)
def test_what_is_no_onnx_is_called_what_it_is(tmp_path, content, words):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(GraphError, match=words):
        read_source(tmp_path / "net.onnx")


def test_a_missing_file_and_a_folder_are_said_to_be_so(tmp_path):
    with pytest.raises(GraphError, match="does not exist"):
        read_source(tmp_path / "net.onnx")
    with pytest.raises(GraphError, match="is a folder"):
        read_source(tmp_path)


def test_operators_that_are_not_onnxs_own_are_named(tmp_path):
    made = Foreign().body()
    made.add("CustomArgMax")
    made.add("DCNv2", domain="mmdeploy")
    with pytest.raises(GraphError, match=r"not ONNX's own: CustomArgMax, mmdeploy\.DCNv2"):
        read_source(made.give().save(tmp_path / "net.onnx"))


def test_a_quantized_file_an_old_one_and_one_of_ours_are_refused(tmp_path):
    made = Foreign()
    made.add("QuantizeLinear", np.array(0.1, np.float32), np.array(0, np.int8))
    with pytest.raises(GraphError, match="quantized already"):
        read_source(made.give(TensorProto.INT8).save(tmp_path / "q.onnx"))
    with pytest.raises(GraphError, match="of opset 10, taken is 11"):
        read_source(Foreign().body().give().save(tmp_path / "old.onnx", opset=10))
    with pytest.raises(GraphError, match="ours already"):
        read_source(Foreign().body().give().save(tmp_path / "ours.onnx", metadata={"model_spec": "{}"}))


def test_data_in_other_files_are_read_and_are_part_of_the_key(tmp_path):
    model = Foreign().body().give().model()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    first = read_source(tmp_path / "net.onnx")
    assert all(tensor.raw_data for tensor in first.model.graph.initializer)
    data = bytearray((tmp_path / "net.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "net.data").write_bytes(data)
    assert read_source(tmp_path / "net.onnx").sha256 != first.sha256
    (tmp_path / "net.data").unlink()
    with pytest.raises(GraphError, match=r"keeps its data in 'net\.data', which is not beside it"):
        read_source(tmp_path / "net.onnx")


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "link/secret", ""])
def test_data_outside_the_files_own_folder_are_not_read(tmp_path, place):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (folder / "link").symlink_to(tmp_path)
    model = Foreign().body().give().model()
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    told = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in told.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = place
    (folder / "net.onnx").write_bytes(told.SerializeToString())
    with pytest.raises(GraphError, match="outside its own folder"):
        read_source(folder / "net.onnx")
