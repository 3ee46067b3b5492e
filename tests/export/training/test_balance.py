import json

import numpy as np
import pytest
import torch

from export.checkpoints.weights import read_weights
from export.registry import find
from export.training import balance
from export.training.balance import Sampled, best_offsets, main, mean_miou, shift
from export.training.batches import Frames
from export.training.checkpoint import metadata_of, save_weights
from export.training.validate import measured_sizes
from runtime.accuracy.metrics import confusion, mean_iou
from runtime.cli import DONE
from runtime.errors import DatasetError, OutputError, WeightsError
from runtime.labels import CAMVID, IGNORED
from tests.helpers.labelled import write_pair


def shifted_sample(offsets, seed=0):
    """Pixels whose true class is the largest logit once these offsets are added, and a few that never are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4000, len(offsets))).astype(np.float32)
    labels = (logits + offsets).argmax(1).astype(np.uint8)
    labels[:50] = 0
    return Sampled(logits, labels)


def test_the_offsets_that_labels_follow_are_found():
    wanted = np.array([0.0, 1.5, -0.75], np.float32)
    sample = shifted_sample(wanted)
    found = best_offsets([sample], 3)
    np.testing.assert_allclose(found - found[0], wanted, atol=0.13)  # the smallest step, and nothing but differences
    assert mean_miou([sample], found) > mean_miou([sample], np.zeros(3, np.float32)) + 0.1


def test_no_offset_is_made_up_where_none_helps():
    assert not best_offsets([shifted_sample(np.zeros(3, np.float32))], 3).any()


def test_two_sizes_weigh_alike_however_many_pixels_they_have():
    first, second = shifted_sample(np.array([0, 1, 0], np.float32)), shifted_sample(np.zeros(3, np.float32), 1)
    few = Sampled(second.logits[:100], second.labels[:100])
    offsets = np.array([0, 0.5, 0], np.float32)
    each = [mean_iou(confusion((s.logits + offsets).argmax(1).astype(np.uint8), s.labels, 3)) for s in (first, few)]
    assert mean_miou([first, few], offsets) == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_shifting_adds_to_every_logit_of_a_class(name):
    torch.manual_seed(0)
    net = find(name).build(3).eval()
    frame = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        before = net(frame)
    shift(net, np.array([0.5, 0, -1], np.float32))
    with torch.inference_mode():
        torch.testing.assert_close(net(frame), before + torch.tensor([0.5, 0, -1]).reshape(1, 3, 1, 1))


def test_a_classifier_without_a_bias_is_refused():
    with pytest.raises(WeightsError, match="no bias"):
        shift(find("enet-davidtvs").build(3), np.zeros(3, np.float32))


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            label = rng.integers(0, 12, (32, 64))
            write_pair(tmp_path / "data", str(i), np.dstack([label * 20] * 3), label, split=split)
    return tmp_path / "data"


def options(weights, data, out, every=1):
    given = (weights, "--model", "enet", "--dataset", "camvid", "--data", data, "--out", out, "--every", every)
    return [str(part) for part in given]


def test_the_command_shifts_the_bias_alone_and_keeps_what_it_added(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", (64, 128))
    torch.manual_seed(0)
    given, out = tmp_path / "given.safetensors", tmp_path / "out.safetensors"
    save_weights(given, find("enet").build(11), {"model": "enet", "dataset": "camvid"})
    assert main(options(given, data, out)) == DONE
    before, after = read_weights(given).tensors, read_weights(out).tensors
    offsets = json.loads(metadata_of(out)["class_offsets"])
    assert {key for key in before if not torch.equal(before[key], after[key])} == {"fullconv.bias"}
    torch.testing.assert_close(after["fullconv.bias"] - before["fullconv.bias"], torch.tensor(offsets))
    printed = capsys.readouterr().out
    assert all(label.name in printed for label in CAMVID) and "val at native: mIoU" in printed


def test_one_training_frame_in_so_many_is_taken(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", (64, 128))
    given = tmp_path / "given.safetensors"
    save_weights(given, find("enet").build(11), {"model": "enet", "dataset": "camvid"})
    assert main(options(given, data, tmp_path / "out.safetensors", every=2)) == DONE
    said = capsys.readouterr()
    assert "on 2 training frames" in said.err and "2 frames" in said.out


def test_frames_of_which_no_pixel_counts_are_refused():
    network = find("enet")
    ignored = Frames([(np.zeros((32, 64, 3), np.uint8), np.full((32, 64), IGNORED, np.uint8))])
    with pytest.raises(DatasetError, match="none of the 1 labels has a pixel that counts"):
        balance.sample(network.build(3).eval(), network, ignored, (32, 64))


def test_of_large_labels_fewer_pixels_are_taken(monkeypatch):
    monkeypatch.setattr(balance, "MOST_PIXELS", 32)
    network = find("enet")
    frames = Frames([(np.zeros((32, 64, 3), np.uint8), np.zeros((32, 64), np.uint8))])
    assert len(balance.sample(network.build(3).eval(), network, frames, (32, 64)).labels) == 4 * 8


def test_a_size_that_is_native_and_deployed_is_measured_once(monkeypatch):
    frame = np.zeros((64, 128, 3), np.uint8)
    assert list(measured_sizes(find("enet"), frame)) == ["native", "1024x2048"]
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", (64, 128))
    assert list(measured_sizes(find("enet"), frame)) == ["native"]


def test_the_weights_that_are_shifted_are_not_overwritten(data, tmp_path):
    given = tmp_path / "given.safetensors"
    save_weights(given, find("enet").build(11), {"dataset": "camvid"})
    with pytest.raises(OutputError, match="is the file that is read"):
        main(options(given, data, given))
    with pytest.raises(OutputError, match="name that ends in"):
        main(options(given, data, tmp_path / "out.pt"))


def test_weights_of_other_classes_than_the_data_are_refused(data, tmp_path):
    given = tmp_path / "given.safetensors"
    save_weights(given, find("enet").build(2), {"classes": '[["a", [0, 0, 0]], ["b", [1, 1, 1]]]'})
    with pytest.raises(DatasetError, match="other classes"):
        main(options(given, data, tmp_path / "out.safetensors"))
