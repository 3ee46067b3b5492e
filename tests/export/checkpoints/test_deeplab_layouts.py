"""Published DeepLabV3+ files, as synthetic ones of exactly their keys and shapes."""

import numpy as np
import pytest
import torch

from export import registry
from export.checkpoints.frozen_graph import read_frozen_graph
from export.checkpoints.weights import load, read_weights
from runtime.errors import WeightsError
from runtime.labels import CITYSCAPES
from tests.export.checkpoints.test_layouts import ENET_SHARE, ICNET_SHARE, assert_same, loaded, picture
from tests.helpers import published_deeplab
from tests.helpers.networks import parameters, seeded
from tests.helpers.published_deeplab import MmsegDeepLab, VainfDeepLab, Variables, frozen_graph, tensorflow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "stride"),
    [
        ("deeplabv3plus-xception65", 65, 16),
        ("deeplabv3plus-xception65-os8", 65, 8),
        ("deeplabv3plus-xception41", 41, 16),
        ("deeplabv3plus-xception41-os8", 41, 8),
        ("deeplabv3plus-xception71", 71, 16),
        ("deeplabv3plus-xception71-os8", 71, 8),
    ],
)
def test_the_authors_frozen_graph_gives_its_logits(name, depth, stride, tmp_path):
    variables, frame = Variables(19), picture(97, 65)
    with torch.inference_mode():
        expected = tensorflow(variables, frame, depth, stride)
        (tmp_path / "frozen.pb").write_bytes(frozen_graph(variables.arrays, listed={"logits/semantic/biases"}))
        weights = read_weights(tmp_path / "frozen.pb")
        network = registry.find(name).build(19)
        load(network, weights)
        assert_same(network.eval().double()(frame), expected, ENET_SHARE)
    assert weights.network == f"deeplabv3plus-xception{depth}"


def test_what_belongs_to_training_is_left_out_of_a_frozen_graph(tmp_path):
    names = {
        "xception_65/entry_flow/conv1_1/weights": (3, 3, 3, 32),
        "global_step": (1,),
        "aspp0/weights/Momentum": (2,),
    }
    arrays = {name: np.ones(shape, np.float32) for name, shape in names.items()}
    (tmp_path / "frozen.pb").write_bytes(frozen_graph(arrays))
    assert read_frozen_graph(tmp_path / "frozen.pb").keys() == names.keys()
    assert read_weights(tmp_path / "frozen.pb", classes=CITYSCAPES).tensors.keys() == {"backbone.stem.0.conv.weight"}


def test_a_checkpoints_names_are_those_of_its_frozen_graph(tmp_path):
    variables = Variables(19)
    tensorflow(variables, picture(33, 33), 65, 16)
    of_training = {"global_step": np.int64(9), "aspp0/weights/Momentum": np.ones(2, np.float32),
                   "aspp0/weights/ExponentialMovingAverage": np.ones(2, np.float32)}  # fmt: skip
    np.savez(tmp_path / "model.npz", **variables.arrays, **of_training)
    (tmp_path / "frozen.pb").write_bytes(frozen_graph(variables.arrays))
    saved, frozen = (read_weights(tmp_path / name, classes=CITYSCAPES) for name in ("model.npz", "frozen.pb"))
    assert saved.network == frozen.network == "deeplabv3plus-xception65"
    assert saved.tensors.keys() == frozen.tensors.keys()
    assert all(torch.equal(saved.tensors[name], frozen.tensors[name]) for name in frozen.tensors)


def test_another_frozen_graph_says_what_to_do_with_it(tmp_path):
    (tmp_path / "ssd.pb").write_bytes(frozen_graph({"FeatureExtractor/weights": np.ones((3, 3, 3, 8), np.float32)}))
    with pytest.raises(WeightsError, match="no network that is known here; convert it to ONNX"):
        read_weights(tmp_path / "ssd.pb")


@pytest.mark.parametrize("cut", [1, 40, 300])
def test_a_frozen_graph_that_is_cut_is_refused_in_a_line(cut, tmp_path):
    whole = frozen_graph({"aspp0/weights": np.ones((1, 1, 8, 8), np.float32)})
    (tmp_path / "cut.pb").write_bytes(whole[:-cut])
    with pytest.raises(ValueError, match=r"protobuf|values of|no constants"):
        read_frozen_graph(tmp_path / "cut.pb")


def test_nineteen_classes_of_one_knows_not_whom_are_told_to_be_taken_for_cityscapes(tmp_path, capsys):
    torch.save({"model_state": VainfDeepLab(19).state_dict()}, tmp_path / "mine.pth")
    assert read_weights(tmp_path / "mine.pth").classes == CITYSCAPES
    assert "does not name its 19 classes" in capsys.readouterr().err


def test_vainfs_file_gives_its_logits(tmp_path):
    theirs = seeded(VainfDeepLab(19))
    torch.save({"cur_itrs": 30000, "model_state": theirs.state_dict(), "best_score": 0.72}, tmp_path / "best.pth")
    ours, _ = loaded("deeplabv3plus-mobilenetv2", tmp_path / "best.pth")
    with torch.inference_mode():
        assert_same(ours(picture(80, 112)), theirs.double()(picture(80, 112)), ENET_SHARE)


@pytest.mark.slow
def test_mmsegmentations_file_gives_its_logits(tmp_path):
    theirs = seeded(MmsegDeepLab(19))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "deeplab.pth")
    ours, _ = loaded("deeplabv3plus-mmseg-r50", tmp_path / "deeplab.pth")
    frame = picture(72, 120).float()
    with torch.inference_mode():
        assert_same(ours.float()(frame).double(), theirs(frame)[0].double(), 50 * ICNET_SHARE)  # both are float32


def test_the_published_networks_have_the_numbers_and_keys_that_are_told():
    with torch.device("meta"):
        mmseg, vainf = MmsegDeepLab(19), VainfDeepLab(19)
    assert f"{parameters(mmseg) / 1e6:.2f}" == "43.59" and len(mmseg.state_dict()) == 424
    assert f"{parameters(vainf) / 1e6:.2f}" == "5.23"
    assert published_deeplab.ENTRY[65] == ((128, 2), (256, 2), (728, 2))
