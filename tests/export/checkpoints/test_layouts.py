"""Published checkpoints, as synthetic files of exactly their keys and shapes; none of the real files is needed."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from export import registry
from export.checkpoints.layouts import recognised
from export.checkpoints.weights import load, read_weights
from runtime.errors import WeightsError
from runtime.labels import CAMVID, CITYSCAPES
from tests.helpers import published_caffe
from tests.helpers.networks import every_network, seeded
from tests.helpers.published_enet import PublishedENet
from tests.helpers.published_mmseg import PublishedICNet

# Both sides are float64: what is left is the order of sums. ICNet's averages have weights that are kept in float32,
# as is the identity that stands for a merged normalisation.
ENET_SHARE, ICNET_SHARE = 1e-10, 1e-6
DEPTHS = {"icnet-mmseg-r18": 18, "icnet-mmseg-r50": 50}


def picture(height, width):
    return torch.from_numpy(np.random.default_rng(5).normal(size=(1, 3, height, width)))


def loaded(name, path):
    """The registered network with the file's weights, in float64; its weights."""
    weights = read_weights(path)
    network = registry.find(name).build(len(weights.classes))
    load(network, weights)
    assert weights.network == name
    return network.eval().double(), weights


def assert_same(got, expected, share=ICNET_SHARE):
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < share * (expected.max() - expected.min())


def save_davidtvs(path, classes, **changes):
    """As PyTorch-ENet's utils.save_checkpoint does; its mIoU is one of NumPy's numbers."""
    network = seeded(PublishedENet(classes))
    content = {**network.state_dict(), **changes}
    content = OrderedDict((name, tensor) for name, tensor in content.items() if tensor is not None)
    optimizer = {
        "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 5e-4, "betas": (0.9, 0.999)}],
    }
    torch.save({"epoch": 3, "miou": np.float64(0.5), "state_dict": content, "optimizer": optimizer}, path)
    return network.double()


def save_mmseg(path, depth, **changes):
    network = seeded(PublishedICNet(19, depth))
    content = {name: tensor for name, tensor in {**network.state_dict(), **changes}.items() if tensor is not None}
    meta = {"epoch": 1, "config": "model = dict()", "CLASSES": ("road", "sidewalk"), "PALETTE": [[128, 64, 128]]}
    torch.save({"meta": meta, "state_dict": OrderedDict(content), "optimizer": {}}, path)
    return network.double()


def save_caffe(path, arrays):
    np.save(path, arrays, allow_pickle=True)
    return arrays


@pytest.mark.parametrize(
    ("count", "classes", "unlabeled"), [(20, CITYSCAPES, 0), (12, CAMVID, 11)], ids=["cityscapes", "camvid"]
)
def test_pytorch_enet_gives_its_logits_without_the_class_unlabeled(count, classes, unlabeled, tmp_path):
    theirs = save_davidtvs(tmp_path / "ENet", count)
    ours, weights = loaded("enet-davidtvs", tmp_path / "ENet")
    assert weights.classes == classes
    frame = picture(64, 96)
    with torch.inference_mode():
        expected = theirs(frame)
        kept = [i for i in range(count) if i != unlabeled]
        assert_same(ours(frame), expected[:, kept], ENET_SHARE)


def test_pytorch_enets_file_has_622_keys():
    assert len(PublishedENet(20).state_dict()) == 622


@pytest.mark.parametrize("name", ["icnet-mmseg-r18", pytest.param("icnet-mmseg-r50", marks=pytest.mark.slow)])
def test_mmsegmentation_gives_its_logits_and_its_auxiliary_ones(name, tmp_path):
    theirs = save_mmseg(tmp_path / "icnet.pth", DEPTHS[name])
    ours, weights = loaded(name, tmp_path / "icnet.pth")
    assert weights.classes == CITYSCAPES
    frame = picture(64, 96)
    with torch.inference_mode():
        logits, sub4, sub24 = theirs(frame)
        assert_same(ours(frame), logits)
        ours.training = True  # of the network alone: its normalisations keep their statistics
        guided = ours(frame)
    for got, expected in zip((guided.sub124, guided.sub24, guided.sub4), (logits, sub24, sub4), strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize("merged", [True, False])
def test_the_released_icnet_gives_its_logits(merged, tmp_path):
    arrays = save_caffe(tmp_path / "icnet.npy", published_caffe.published(merged=merged))
    ours, weights = loaded("icnet-caffe", tmp_path / "icnet.npy")
    assert weights.classes == CITYSCAPES
    frame = picture(193, 257)
    with torch.inference_mode():
        assert_same(published_caffe.resized(ours(frame), 4), published_caffe.run(arrays, frame))


def test_the_released_icnet_holds_as_many_numbers_as_published():
    layers = published_caffe.published(merged=True).values()
    assert sum(layer["biases"].size for layer in layers) == 14_291
    assert f"{sum(array.size for layer in layers for array in layer.values()) / 1e6:.3f}" == "6.686"


def rotated(arrays):
    """As the first .npy files: each statistic under another's name, with the dimensions that caffe gave it."""
    names = {"scale": "mean", "offset": "variance", "mean": "scale", "variance": "offset"}
    return {
        layer: {names[key]: array.reshape(1, 1, 1, -1) for key, array in content.items()}
        if layer.endswith("_bn") else content
        for layer, content in arrays.items()
    }  # fmt: skip


def test_statistics_under_each_others_names_are_put_right(tmp_path):
    arrays = published_caffe.published(merged=False)
    save_caffe(tmp_path / "right.npy", arrays)
    save_caffe(tmp_path / "rotated.npy", rotated(arrays))
    right, wrong = (read_weights(tmp_path / name).tensors for name in ("right.npy", "rotated.npy"))
    assert right.keys() == wrong.keys() and all(torch.equal(right[name], wrong[name]) for name in right)


def refused(name, path, classes=19):
    with pytest.raises(WeightsError) as raised:
        load(registry.find(name).build(classes), read_weights(path))
    message = str(raised.value)
    assert path.name in message and "\n" not in message
    return message


ZERO = torch.zeros(1)


def test_keys_of_pytorch_enet_that_do_not_fit_are_listed(tmp_path):
    changes = {
        "regular3_0.ext_conv2.0.weight": None,
        "transposed_conv.weight": None,
        "regular3_8.ext_conv2.0.weight": ZERO,
        "regular4_1.out_activation.weight": ZERO,
        "upsample5_0.ext_tconv1.weight": ZERO,
    }
    save_davidtvs(tmp_path / "ENet", 20, **changes)
    message = refused("enet-davidtvs", tmp_path / "ENet")
    assert "2 missing (bottleneck3_1.conv.weight, fullconv.weight)" in message
    assert "2 unknown (bottleneck4_1.activation.weight, regular3_8.ext_conv2.0.weight)" in message
    assert "1 of another shape (bottleneck5_0.conv.weight (1,) instead of (16, 16, 2, 2))" in message


def test_keys_of_mmsegmentation_that_do_not_fit_are_listed(tmp_path):
    changes = {
        "backbone.psp_modules.3.1.bn.bias": None,
        "auxiliary_head.1.conv_seg.bias": None,
        "auxiliary_head.2.conv_seg.bias": ZERO,
        "backbone.backbone.layer3.2.conv1.weight": ZERO,
        "decode_head.conv_seg.weight": ZERO,
    }
    save_mmseg(tmp_path / "icnet.pth", 18, **changes)
    message = refused("icnet-mmseg-r18", tmp_path / "icnet.pth")
    assert "2 missing (auxiliary_sub24.classifier.bias, pyramid.3.bn.bias)" in message
    assert "2 unknown (auxiliary_head.2.conv_seg.bias, layer3.2.conv1.conv.weight)" in message
    assert "1 of another shape (head.classifier.weight (1,) instead of (19, 128, 1, 1))" in message


def test_layers_of_the_released_icnet_that_do_not_fit_are_listed(tmp_path):
    arrays = published_caffe.published(merged=False)
    del arrays["conv5_4_k1"]["weights"], arrays["conv_sub4_bn"]["variance"]
    arrays["conv6_sub4"] = {"weights": np.zeros((1, 1, 256, 19))}
    arrays["conv_sub4"]["biases"] = arrays["conv_sub4_bn"]["momentum"] = np.zeros(1)
    arrays["conv2_1_3x3"]["weights"] = np.zeros((32, 32, 3, 3))
    save_caffe(tmp_path / "icnet.npy", arrays)
    message = refused("icnet-caffe", tmp_path / "icnet.npy")
    assert "2 missing (conv5_4.conv.weight, fusion_24.conv.bn.running_var)" in message
    assert "3 unknown (conv6_sub4.weights, conv_sub4.biases, conv_sub4_bn.momentum)" in message
    assert "1 of another shape (conv2_1.conv.conv.weight (3, 3, 32, 32) instead of (32, 32, 3, 3))" in message


def test_another_number_of_classes_is_refused_where_nobody_knows_which_to_drop(tmp_path):
    save_davidtvs(tmp_path / "ENet", 21)
    with pytest.raises(WeightsError, match=r"with 21 classes; expected 20 \(Cityscapes\) or 12 \(CamVid\)"):
        read_weights(tmp_path / "ENet")


def test_the_network_of_a_layout_is_named_where_another_was_asked(tmp_path):
    save_davidtvs(tmp_path / "ENet", 20)
    assert refused("enet", tmp_path / "ENet").endswith("Their layout is that of MODEL=enet-davidtvs")


@pytest.mark.parametrize("name", every_network())
def test_our_own_names_are_no_published_layout(name):
    with torch.device("meta"):
        assert recognised(registry.find(name).build(19).state_dict()) is None
