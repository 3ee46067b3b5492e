import json
import os
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from export import registry
from export.checkpoints.weights import load, random_weights, read_weights
from runtime.artifacts import sha256_of
from runtime.errors import WeightsError
from runtime.labels import CAMVID, CITYSCAPES, Label
from tests.helpers.networks import every_network, seeded


class Tiny(nn.Module):
    """Tensors of every kind: weights, biases, statistics, and a counter that does not count."""

    def __init__(self, classes=11):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fullconv = nn.ConvTranspose2d(4, classes, 2, stride=2)


def tensors(network, *but):
    return {
        name: tensor.clone()
        for name, tensor in network.state_dict().items()
        if not name.endswith(("num_batches_tracked", *but))
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refused(path):
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    message = str(raised.value)
    assert str(path) in message and "\n" not in message
    return message


WRITERS = {
    "weights.safetensors": save_file,
    "bare.pth": torch.save,
    "legacy.pt": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "ENet": lambda content, path: torch.save({"epoch": 3, "miou": 0.5, "state_dict": content, "optimizer": {}}, path),
    "parallel.pth": lambda content, path: torch.save({f"module.{name}": v for name, v in content.items()}, path),
    "parallel.safetensors": lambda content, path: save_file({f"module.{name}": v for name, v in content.items()}, path),
}


@pytest.mark.parametrize("file", WRITERS)
def test_what_was_saved_is_loaded(file, tmp_path):
    saved, network = seeded(Tiny()), Tiny()
    WRITERS[file](tensors(saved), tmp_path / file)
    weights = read_weights(tmp_path / file)
    load(network, weights)
    assert same(tensors(network), tensors(saved))
    assert weights.sha256 == sha256_of(tmp_path / file) and weights.source == file


def test_a_networks_data_parallel_form_is_loaded(tmp_path):
    saved, network = seeded(Tiny()), Tiny()
    torch.save(nn.DataParallel(saved).state_dict(), tmp_path / "a.pth")
    load(network, read_weights(tmp_path / "a.pth"))
    assert same(tensors(network), tensors(saved))


@pytest.mark.parametrize("name", every_network())
def test_every_networks_weights_come_back(name, tmp_path):
    saved, network = seeded(registry.find(name).build(11)), registry.find(name).build(11)
    save_file(saved.state_dict(), tmp_path / "a.safetensors", {"source": "there"})
    weights = read_weights(tmp_path / "a.safetensors", registry.find(name).build)
    load(network, weights)
    assert same(tensors(network), tensors(saved))
    assert weights.source == "there" and weights.classes == CAMVID


def change(content, missing=(), extra=(), misshapen=()):
    kept = {name: tensor for name, tensor in content.items() if name not in missing}
    kept.update({name: torch.zeros(1) for name in extra})
    kept.update({name: torch.zeros(9, 9) for name in misshapen})
    return kept


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"missing": ["conv.bias"]}, "1 missing (conv.bias)"),
        ({"missing": ["conv.bias", "bn.running_var"]}, "2 missing (bn.running_var, conv.bias)"),
        ({"extra": ["head.weight"]}, "1 unknown (head.weight)"),
        ({"misshapen": ["conv.weight"]}, "1 of another shape (conv.weight (9, 9) instead of (4, 3, 3, 3))"),
        ({"extra": list("abcdefg")}, "7 unknown (a, b, c, d, e and 2 more)"),
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_are_listed_and_nothing_is_loaded(what, said, tmp_path):
    network = Tiny()
    before = tensors(network)
    save_file(change(tensors(seeded(Tiny())), **what), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError) as raised:
        load(network, read_weights(tmp_path / "a.safetensors"))
    assert said in str(raised.value) and "a.safetensors do not fit" in str(raised.value)
    assert same(tensors(network), before)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    content = change(tensors(Tiny()), missing=["conv.bias"], extra=["x"], misshapen=["bn.weight"])
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing \(conv.bias\); 1 unknown \(x\); 1 of another shape \(bn.weight"):
        load(Tiny(), read_weights(tmp_path / "a.safetensors"))


def test_weights_of_another_number_of_classes_do_not_fit(tmp_path):
    save_file(tensors(Tiny(19)), tmp_path / "a.safetensors", {"dataset": "camvid"})
    weights = read_weights(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"fullconv.bias \(19,\) instead of \(11,\)"):
        load(Tiny(len(weights.classes)), weights)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_a_pickle_that_wants_to_run_code_is_refused_and_its_code_is_not_run(write, nested, tmp_path):
    trap, path = tmp_path / "sprung", tmp_path / "a.pth"
    content = {**tensors(Tiny()), "x": Trap(trap)} if write is torch.save else {"x": Trap(trap)}
    write({"state_dict": content} if nested else content, path)
    message = refused(path)
    assert "mkdir" in message and "runs their code" in message and "safetensors.torch.save_file" in message
    assert not trap.exists()
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert trap.exists(), "the trap itself is broken"


@pytest.mark.parametrize("file", ["weights.safetensors", "bare.pth", "legacy.pt"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(file, kept, tmp_path):
    path = tmp_path / file
    WRITERS[file](tensors(Tiny()), path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "weights_only" not in refused(path)


@pytest.mark.parametrize("content", [b"hello world", b"\0" * 64, b"\x80\x04.", b"PK\x03\x04"])
@pytest.mark.parametrize("file", ["a.pth", "a.safetensors"])
def test_a_file_of_something_else_is_refused(content, file, tmp_path):
    (tmp_path / file).write_bytes(content)
    refused(tmp_path / file)


@pytest.mark.parametrize("file", ["bare.pth", "legacy.pt"])
def test_whatever_byte_is_damaged_ends_in_an_error_or_in_tensors(file, tmp_path):
    path, rng = tmp_path / file, random.Random(0)
    WRITERS[file]({"a": torch.zeros(2), "b": torch.zeros(2)}, path)
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.randrange(min(len(whole), 400))] = rng.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning would be a second line to the user
            try:
                outcomes.add(type(read_weights(path)))
            except WeightsError:
                outcomes.add(WeightsError)
    assert len(outcomes) == 2


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"a": 1}, {"state_dict": {"a": "b"}}, torch.zeros(3), {"state_dict": {}}]
)
def test_what_is_no_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    assert "not a state_dict" in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("file", ["a.pth", "a.safetensors"])
def test_a_missing_file_and_a_folder_are_refused(file, tmp_path):
    assert "does not exist" in refused(tmp_path / file)
    (tmp_path / file).mkdir()
    assert "is a folder" in refused(tmp_path / file)


@pytest.mark.parametrize("head", ["fullconv", "conv6_cls"])
@pytest.mark.parametrize(("count", "classes"), [(11, CAMVID), (19, CITYSCAPES)])
def test_the_number_of_classes_names_them(head, count, classes, tmp_path):
    save_file({f"{head}.bias": torch.zeros(count)}, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors").classes == classes


def test_a_number_of_classes_that_nobody_named_is_refused(tmp_path):
    torch.save({"fullconv.bias": torch.zeros(7)}, tmp_path / "a.pth")
    assert "7 classes and do not name them; known are [11, 19]" in refused(tmp_path / "a.pth")


@pytest.mark.parametrize(("dataset", "classes"), [("camvid", CAMVID), ("cityscapes", CITYSCAPES)])
def test_the_data_set_in_the_metadata_names_the_classes(dataset, classes, tmp_path):
    save_file(tensors(Tiny()), tmp_path / "a.safetensors", {"dataset": dataset})
    assert read_weights(tmp_path / "a.safetensors").classes == classes


@pytest.mark.parametrize("dataset", ["mine", "camvid"])  # a user's folder may have any name
def test_classes_in_the_metadata_have_their_own_names_and_colours(dataset, tmp_path):
    classes = (Label("sky", (1, 2, 3)), Label("not sky", (255, 0, 7)))
    save_file(tensors(Tiny(2)), tmp_path / "a.safetensors", {"classes": json.dumps(classes), "dataset": dataset})
    read = read_weights(tmp_path / "a.safetensors").classes
    assert read == classes and all(type(label) is Label and type(label.color) is tuple for label in read)


@pytest.mark.parametrize(
    "classes",
    [
        "", "{", "5", '["sky"]', '[["sky"]]', '[["sky", 5]]', '[["sky", [1, 2]]]', '[["sky", [1, 2, 3, 4]]]',
        '[["sky", [1, 2, 256]]]', '[["sky", [-1, 2, 3]]]', '[["sky", ["1", 2, 3]]]', "[[5, [1, 2, 3]]]",
    ],
)  # fmt: skip
def test_classes_in_another_form_are_refused(classes, tmp_path):
    save_file(tensors(Tiny(1)), tmp_path / "a.safetensors", {"classes": classes})
    assert "name their classes in a form that is not read" in refused(tmp_path / "a.safetensors")


def test_random_weights_say_so():
    network = Tiny(19)
    weights = random_weights(network, CITYSCAPES)
    assert weights.source == "random weights" and weights.sha256 == "random-seed-0" and weights.classes == CITYSCAPES
    assert same(tensors(network), {name: weights.tensors[name] for name in tensors(network)})


def test_tensors_of_another_type_are_read_as_float32(tmp_path):
    saved, network = seeded(Tiny()), Tiny()
    save_file({name: tensor.double() for name, tensor in tensors(saved).items()}, tmp_path / "a.safetensors")
    load(network, read_weights(tmp_path / "a.safetensors"))
    assert network.conv.weight.dtype == torch.float32
    np.testing.assert_array_equal(network.conv.weight.detach(), saved.conv.weight.detach())


class Headed(nn.Module):
    """A network whose last layer has a name that nobody knows, and of each class two outputs and one bias."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Conv2d(3, 12, 1)
        self.last = nn.Conv2d(12, 2 * classes, 1)


@pytest.mark.parametrize(("count", "classes"), [(11, CAMVID), (19, CITYSCAPES)])
def test_a_network_of_ones_own_tells_its_classes_by_its_last_layer(tmp_path, count, classes):
    torch.save(Headed(count).state_dict(), tmp_path / "own.pth")
    assert read_weights(tmp_path / "own.pth", Headed).classes == classes


def test_a_number_of_classes_that_no_data_set_has_is_one_line(tmp_path):
    torch.save(Headed(5).state_dict(), tmp_path / "own.pth")
    with pytest.raises(WeightsError, match="have 5 classes and do not name them"):
        read_weights(tmp_path / "own.pth", Headed)


def test_classes_that_are_guessed_are_said(tmp_path, capsys):
    torch.save({"a": torch.zeros(3)}, tmp_path / "own.pth")
    assert read_weights(tmp_path / "own.pth").classes == CITYSCAPES
    assert "does not tell its classes: they are taken for Cityscapes' 19" in capsys.readouterr().err
