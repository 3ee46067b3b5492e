import io
import os
import pickle
import random
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch

from export.checkpoints.npy import read_npy
from export.checkpoints.weights import read_weights
from runtime.errors import WeightsError

PROTOCOLS = (2, 3, 4)  # Python 2's, and those that numpy.save has used since


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(path):
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    message = str(raised.value)
    assert str(path) in message and "\n" not in message
    return message


def npy(pickled):
    """The bytes of a .npy file of one object that is pickled so."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + pickled


@pytest.mark.parametrize("container", [dict, OrderedDict])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_arrays_come_back_as_float32(container, dtype, tmp_path):
    values = np.arange(6).reshape(2, 3) / 4
    np.save(tmp_path / "a.npy", container(layer=container(weights=values.astype(dtype), scale=np.float64(2))))
    tensors = read_npy(tmp_path / "a.npy")
    assert tensors.keys() == {"layer.weights", "layer.scale"} and tensors["layer.scale"] == 2
    assert tensors["layer.weights"].dtype == torch.float32
    np.testing.assert_array_equal(tensors["layer.weights"], values)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("numpy_1", [False, True])
def test_every_protocol_and_numpy_is_read(protocol, numpy_1, tmp_path):
    content = pickle.dumps(np.array({"layer": {"biases": np.float32([1, -2, 250])}}, object), protocol)
    if numpy_1 and protocol < 4:  # texts before that have no length that the change would break
        assert b"numpy._core" in content
        content = content.replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.npy").write_bytes(npy(content))
    assert read_npy(tmp_path / "a.npy")["layer.biases"].tolist() == [1, -2, 250]


def test_a_file_of_python_2_is_read(tmp_path):
    # Python 2 pickled texts and the arrays' bytes as its `str`.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1(K\2tcnumpy\ndtype\n(U\2f4K\0K\1tR"
        b"(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x08" + np.float32([1, -250]).tobytes() + b"tb"
    )
    (tmp_path / "a.npy").write_bytes(npy(b"\x80\2}U\5layer}U\6biases" + array + b"ss."))
    assert read_npy(tmp_path / "a.npy")["layer.biases"].tolist() == [1, -250]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "place", [lambda x: x, lambda x: {"layer": x}, lambda x: {"layer": {"weights": np.array(x, object)}}]
)
def test_a_pickle_that_wants_to_run_code_is_refused_and_its_code_is_not_run(place, protocol, tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "a.npy"
    content = np.empty((), object)
    content[()] = place(Trap(trap))
    path.write_bytes(npy(pickle.dumps(content, protocol)))
    message = refused(path)
    assert ".mkdir" in message and "runs their code" in message and not trap.exists()
    np.load(path, allow_pickle=True)
    assert trap.exists(), "the trap itself is broken"


@pytest.mark.parametrize(
    "name", ["builtins eval", "os system", "numpy load", "builtins getattr", "numpy.core.multiarray add"]
)
def test_no_function_of_python_is_reached(name, tmp_path):
    module, function = name.split()
    (tmp_path / "a.npy").write_bytes(npy(f"c{module}\n{function}\n(V1\ntR.".encode()))
    assert f"{module}.{function}" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "content", [np.zeros(3), np.array([{}, {}], object), np.array("text", object), np.array({"a": np.zeros(2)}, object)]
)
def test_what_is_no_dictionary_of_layers_is_refused(content, tmp_path):
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    assert "not a checkpoint" in refused(tmp_path / "a.npy")


def test_an_array_of_no_numbers_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", {"layer": {"weights": np.array(["a", "b"])}})
    refused(tmp_path / "a.npy")


def test_whatever_byte_is_damaged_ends_in_an_error_or_in_tensors(tmp_path):
    path, rng = tmp_path / "a.npy", random.Random(0)
    np.save(path, {"layer": {"weights": np.zeros((2, 2), np.float32), "biases": np.zeros(2)}})
    whole, outcomes = path.read_bytes(), set()
    for _ in range(1500):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([None, rng.randrange(len(whole))])])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would be a second line to the user
            try:
                outcomes.add(type(read_weights(path)))
            except WeightsError:
                outcomes.add(WeightsError)
    assert len(outcomes) == 2


def array_pickle(shape, data, code=b"f4"):
    """A pickle of {"layer": {"w": array}} whose shape and bytes need not fit."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR"
    state = (
        b"(K\1" + shape + b"cnumpy\ndtype\n(U\2" + code + b"K\0K\1tR(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    return b"\x80\2}U\5layer}U\1w" + made + state + b"\x89" + data + b"tbss."


@pytest.mark.parametrize("shape", [b"(J\xff\xff\xff\x7ft", b"(J\xff\xff\xff\xfft", b"(K\2K\3t", b"(Nt", b"K\2"])
def test_an_array_whose_shape_is_not_that_of_its_bytes_is_refused(shape, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(array_pickle(shape, b"U\x08" + bytes(8))))
    assert "are damaged" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize("code", [b"O8", b"V8", b"M8", b"c8", b"S8"])
def test_an_array_of_another_type_is_refused(code, tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(array_pickle(b"(K\1t", b"U\x08" + bytes(8), code)))
    assert "another type than" in refused(tmp_path / "a.npy")


def test_arrays_that_share_their_bytes_are_summed_before_they_are_made(tmp_path):
    shared = np.zeros(1000, np.float32)
    np.save(tmp_path / "a.npy", {"layer": {str(i): shared for i in range(2)}})
    assert len(read_npy(tmp_path / "a.npy")) == 2
    content = pickle.dumps({"layer": {str(i): shared for i in range(50)}}, 2)
    assert len(content) < 10_000
    (tmp_path / "a.npy").write_bytes(npy(content))
    assert "views of one memory" in refused(tmp_path / "a.npy")


def test_an_archive_of_arrays_is_read_and_a_compressed_one_is_not(tmp_path):
    arrays = {"conv.weight": np.ones((2, 3), np.float16), "conv.bias": np.arange(3), "f": np.asfortranarray(np.eye(3))}
    np.savez(tmp_path / "a.npz", **arrays)
    tensors = read_weights(tmp_path / "a.npz").tensors
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {k: v.tolist() for k, v in arrays.items()}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert "compressed" in refused(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.array({}, object))
    assert "another type than" in refused(tmp_path / "a.npz")
