"""What training programs leave: the same small network in every container, under every prefix."""

import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from export.checkpoints.weights import load, read_weights
from export.training.checkpoint import load_start
from runtime.errors import WeightsError
from runtime.labels import CITYSCAPES, Label
from tests.helpers.networks import seeded


class Small(nn.Module):
    """Tells its classes by its last layer."""

    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, classes, 1)


NET = seeded(Small(19)).state_dict()
OTHER = {name: tensor + 1 for name, tensor in NET.items()}


def under(prefix, tensors=NET):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def taken(path, content, **options):
    torch.save(content, path)
    weights = read_weights(path, Small, **options)
    load(Small(len(weights.classes)), weights)
    return "net" if torch.equal(weights.tensors["conv.weight"], NET["conv.weight"]) else "other"


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net.",
        "model.module.net.",
        "a.b.c.",
    ],
)
@pytest.mark.parametrize("container", [None, "state_dict"])
def test_a_prefix_is_taken_off_in_whatever_order(tmp_path, prefix, container):
    content = {container: under(prefix)} if container else under(prefix)
    assert taken(tmp_path / "a.pth", content) == "net"


@pytest.mark.parametrize(
    "keys",
    ["state_dict", "model", "model_state", "model_state_dict", "net", "network", "weights", "params", "ema",
     "ema_state_dict", "state_dict_ema", "model_ema", "generator", "model.state_dict", "trainer.model.weights"],
)  # fmt: skip
def test_a_network_is_found_in_any_container(tmp_path, keys):
    content = NET
    for key in reversed(keys.split(".")):
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    assert taken(tmp_path / "a.pth", content) == "net"


TWO = (
    {"model": NET, "ema": OTHER},
    {"ema_state_dict": under("module.", OTHER), "state_dict": under("module.")},
    {"state_dict": {**under("model."), **under("model_ema.module.", OTHER)}},
)


@pytest.mark.parametrize("content", TWO)
def test_of_two_the_average_is_taken_where_it_is_asked_and_they_are_told_apart(tmp_path, content):
    assert taken(tmp_path / "a.pth", content) == "net"
    assert taken(tmp_path / "a.pth", content, averaged=True) == "other"
    shas = {read_weights(tmp_path / "a.pth", Small, averaged=averaged).sha256 for averaged in (False, True)}
    assert len(shas) == 2


def test_which_one_was_taken_is_said(tmp_path, capsys):
    taken(tmp_path / "a.pth", {"critic": {"x": torch.zeros(1)}, "generator": NET})
    assert "a.pth: generator is taken, not critic" in capsys.readouterr().err


def test_an_average_that_is_not_there_is_not_made_up(tmp_path):
    with pytest.raises(WeightsError, match=r"hold no average of a training \(--ema\)"):
        taken(tmp_path / "a.pth", {"model": NET}, averaged=True)


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "module"])
def test_what_wraps_a_part_of_a_network_is_taken_out_of_its_names(tmp_path, wrapper):
    content = {name.replace("conv.", f"conv.{wrapper}."): tensor for name, tensor in NET.items()}
    assert taken(tmp_path / "a.pth", {"model": under("module.", content)}) == "net"


def test_a_networks_own_model_is_no_wrapper(tmp_path):
    class Outer(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.model = Small(classes)

    torch.save(under("model."), tmp_path / "a.pth")
    load(Outer(19), read_weights(tmp_path / "a.pth", Outer))


def test_what_is_of_the_training_alone_is_left_out_and_said(tmp_path, capsys):
    content = {**NET, "loss.weight": torch.ones(3), "n_averaged": torch.tensor(5), "conv.total_ops": torch.zeros(1)}
    assert taken(tmp_path / "a.pth", content) == "net"
    assert "3 tensors (conv.total_ops, loss.weight, n_averaged) are no part of the network" in capsys.readouterr().err


def test_a_part_of_a_network_that_is_too_much_still_does_not_fit(tmp_path):
    with pytest.raises(WeightsError, match=r"1 unknown \(head.weight\)"):
        taken(tmp_path / "a.pth", {**NET, "head.weight": torch.ones(3)})


def test_objects_of_a_program_that_is_not_here_stop_nothing(tmp_path, monkeypatch):
    module = types.ModuleType("mmengine_like")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": "mmengine_like"})
    monkeypatch.setitem(sys.modules, "mmengine_like", module)
    content = {"state_dict": NET, "message_hub": {"loss": module.HistoryBuffer()}, "best": np.float64(0.5)}
    torch.save(content, tmp_path / "a.pth")
    monkeypatch.delitem(sys.modules, "mmengine_like")
    load(Small(19), read_weights(tmp_path / "a.pth", Small))


def test_a_file_is_read_by_what_it_is_and_not_by_its_name(tmp_path):
    save_file(NET, tmp_path / "a.pth")
    torch.save(NET, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        load(Small(19), read_weights(tmp_path / name, Small))


NAMES = [f"own {i}" for i in range(19)]
PALETTE = [[i, 2 * i, 3 * i] for i in range(19)]


@pytest.mark.parametrize(
    "notes",
    [
        {"meta": {"CLASSES": NAMES, "PALETTE": PALETTE}},
        {"meta": {"dataset_meta": {"classes": tuple(NAMES), "palette": PALETTE}}},
        {"hyper_parameters": {"class_names": NAMES, "colors": PALETTE}},
    ],
)
def test_names_and_colours_that_a_program_noted_are_the_classes(tmp_path, notes):
    torch.save({"state_dict": NET, **notes}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth", Small).classes == tuple(map(Label, NAMES, map(tuple, PALETTE)))


def test_names_without_colours_get_colours_of_their_own(tmp_path):
    torch.save({"state_dict": NET, "classes": NAMES}, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth", Small).classes
    assert [label.name for label in found] == NAMES and len({label.color for label in found}) == 19


def test_19_classes_that_nobody_named_are_said_to_be_taken_for_cityscapes(tmp_path, capsys):
    torch.save(NET, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth", Small).classes == CITYSCAPES
    assert "a.pth does not name its 19 classes: they are taken for those of cityscapes" in capsys.readouterr().err


def test_given_names_are_taken_and_counted(tmp_path):
    torch.save({"state_dict": NET, "classes": [f"x{i}" for i in range(19)]}, tmp_path / "a.pth")
    own = tuple(Label(name, (1, 2, i)) for i, name in enumerate(NAMES))
    assert read_weights(tmp_path / "a.pth", Small, classes=own).classes == own
    with pytest.raises(WeightsError, match="have 19 classes, but 2 are named"):
        read_weights(tmp_path / "a.pth", Small, classes=own[:2])


def test_a_training_may_start_from_any_number_of_classes_that_nobody_named(tmp_path):
    torch.save(Small(21).state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="have 21 classes and do not name them"):
        read_weights(tmp_path / "a.pth", Small)
    net = Small(2)
    load_start(net, tmp_path / "a.pth", Small)
    assert torch.equal(net.conv.weight, torch.load(tmp_path / "a.pth")["conv.weight"])
