import io
import tarfile
import zipfile

import onnx
import pytest
import torch

from export.checkpoints.weights import read_weights
from runtime.errors import WeightsError
from tests.helpers.stored_labels import write


def archive(*names):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return data.getvalue()


def tar():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.pth"))
    return data.getvalue()


def graph():
    empty = onnx.helper.make_graph([], "g", [], [])
    return onnx.helper.make_model(empty, producer_name="pytorch").SerializeToString()


def script():
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 3, 1)), data)
    return data.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
        (lambda: b"\n<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (lambda: b"<?xml version='1.0'?><Error/>", "an XML document"),
        (graph, "an ONNX graph and no checkpoint"),
        (lambda: archive("word/document.xml"), r'a ZIP archive of other files \("word/document.xml"\)'),
        (lambda: archive("a.npy"), r"are arrays of NumPy; name the file .npz"),
        (script, "a TorchScript program"),
        (
            lambda: archive("net/archive_format", "net/data/weights/weight_0"),
            "a program of torch.export; keep its tensors",
        ),
        (lambda: b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        (tar, "a tar archive"),
        (lambda: b"\x1f\x8b\x08\0", "a compressed archive"),
        (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (lambda: b"", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, content, said, name):
    path = write(tmp_path / name, content())
    with pytest.raises(WeightsError, match=said) as raised:
        read_weights(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("saved_model.pb", "a TensorFlow graph"),
        ("model.safetensors.index.json", "one of the parts of a checkpoint, or list them; join them"),
        ("model-00001-of-00002.safetensors", "one of the parts of a checkpoint"),
        ("model.ckpt.index", "a part of TensorFlow's checkpoint; give the frozen graph beside it"),
        ("model.ckpt-90000.data-00000-of-00001", "or its arrays, saved by TensorFlow: r = tf.train.load_checkpoint"),
    ],
)
def test_some_are_told_by_their_names(tmp_path, name, said):
    with pytest.raises(WeightsError, match=said):
        read_weights(write(tmp_path / name, b"\x08\x01\x12\0"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".metadata", "is a distributed checkpoint .FSDP.; join it"),
        ("global_step5", "is a checkpoint of DeepSpeed; join it"),
        ("pytorch_model.bin.index.json", "is a checkpoint in parts; join them"),
        ("saved_model.pb", "is a SavedModel of TensorFlow"),
        ("model.ckpt.meta", "has TensorFlow's checkpoint; give the frozen graph"),
        ("a.txt", "is a folder; give the checkpoint's file"),
    ],
)
def test_a_folder_is_called_what_it_is(tmp_path, name, said):
    write(tmp_path / name, b"x")
    with pytest.raises(WeightsError, match=said) as raised:
        read_weights(tmp_path)
    assert "\n" not in str(raised.value)
