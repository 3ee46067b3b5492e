"""Published networks as people have them: under a training's names, of a sibling, of other classes, or half of them."""

import numpy as np
import pytest
import torch

from export import registry
from export.checkpoints.published import place_of
from export.checkpoints.weights import load, read_weights
from runtime.errors import WeightsError
from tests.helpers import caffe_bytes
from tests.helpers.networks import every_network, seeded
from tests.helpers.published_deeplab import frozen_graph
from tests.helpers.published_dual import PublishedDDRNet

SLIM = "ddrnet23-slim"
ONE = torch.ones(1)


@pytest.fixture(scope="module")
def ddrnet():
    return seeded(PublishedDDRNet(19)).state_dict()


@pytest.fixture(scope="module")
def average(ddrnet):
    return {name: tensor + 1 for name, tensor in ddrnet.items()}


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def loads(name, path, **options):
    """The registered network's tensors after it took the file."""
    weights = read_weights(path, registry.find(name).build, **options)
    network = registry.find(name).build(len(weights.classes))
    load(network, weights)
    return network.state_dict()


def refused(name, path, **options):
    with pytest.raises(WeightsError) as caught:
        loads(name, path, **options)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return message


# The authors of DDRNet and PIDNet keep a loss with the network, MMEngine and torch a counter with an average.
FORMS = {
    "its loss": lambda net: {**under("model.", net), "loss.criterion.weight": torch.ones(19)},
    "two losses": lambda net: {
        "state_dict": {**under("module.model.", net), "module.sem_loss.criterion.weight": ONE, "module.bd_loss.w": ONE}
    },
    "a counter": lambda net: {"ema_state_dict": {**under("module.", net), "steps": torch.tensor(5)}},
    "compiled": lambda net: {"model": {**under("_orig_mod.module.", net), "n_averaged": torch.tensor(5)}},
    "nothing": lambda net: under("a.b.c.", net),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_published_network_is_found_under_what_a_training_puts_around_it(form, ddrnet, tmp_path):
    torch.save(form(ddrnet), tmp_path / "best.pth")
    assert torch.equal(loads(SLIM, tmp_path / "best.pth")["conv1.0.0.weight"], ddrnet["conv1.0.weight"])


TWO = {
    "dictionaries": lambda net, other: {"state_dict": net, "ema_state_dict": {**under("module.", other), "steps": ONE}},
    "prefixes": lambda net, other: {"state_dict": {**under("model.", net), **under("model_ema.module.", other)}},
    "a bare one": lambda net, other: {**net, **under("ema.", other)},
}


@pytest.mark.parametrize("form", TWO.values(), ids=TWO)
def test_of_a_published_network_the_average_is_taken_where_it_is_asked(form, ddrnet, average, tmp_path):
    torch.save(form(ddrnet, average), tmp_path / "two.pth")
    for asked, wanted in ((False, ddrnet), (True, average)):
        got = loads(SLIM, tmp_path / "two.pth", averaged=asked)
        assert torch.equal(got["conv1.0.0.weight"], wanted["conv1.0.weight"]), asked
    shas = {read_weights(tmp_path / "two.pth", registry.find(SLIM).build, averaged=asked).sha256 for asked in (0, 1)}
    assert len(shas) == 2


def test_an_average_that_a_published_file_does_not_have_is_not_made_up(ddrnet, tmp_path):
    torch.save({"state_dict": ddrnet}, tmp_path / "one.pth")
    assert "hold no average of a training (--ema)" in refused(SLIM, tmp_path / "one.pth", averaged=True)


def test_a_network_of_ones_own_keeps_its_names_though_they_are_a_published_ones(ddrnet, tmp_path):
    torch.save(under("module.", ddrnet), tmp_path / "mine.pth")
    weights = read_weights(tmp_path / "mine.pth", PublishedDDRNet)
    load(PublishedDDRNet(19), weights)
    assert weights.network == "" and len(weights.classes) == 19


@pytest.mark.parametrize("name", every_network())
def test_no_network_of_ours_is_taken_for_a_published_one(name):
    with torch.device("meta"):
        names = list(registry.find(name).build(19).state_dict())
    assert place_of(names, set()) is None


SIBLINGS = (
    ("DDRNet-39", SLIM, {"model.layer3_1.0.conv1.weight": ONE, "model.spp.scale0.0.bias": ONE}),
    ("DDRNet-23", SLIM, {"conv1.0.weight": torch.ones(64, 3, 3, 3), "spp.scale0.0.bias": ONE}),
    ("DDRNet-23", SLIM, {"backbone.stem.0.conv.weight": torch.ones(64, 3, 3, 3),
                         "backbone.context_branch_layers.0.0.conv1.conv.weight": ONE}),
    ("PIDNet-L", "pidnet-s", {"layer1.2.conv1.weight": ONE, "pag3.f_x.0.weight": ONE}),
    ("PIDNet-L", "pidnet-s", {"backbone.stem.2.2.conv1.conv.weight": ONE, "backbone.pag_1.f_i.conv.weight": ONE}),
    ("PIDNet-M", "pidnet-s", {"conv1.0.weight": torch.ones(64, 3, 3, 3), "pag3.f_x.0.weight": ONE}),
    ("a network on ResNet-101", "pspnet50",
     {"module.layer3.22.conv1.weight": ONE, "module.ppm.features.0.1.weight": ONE}),
    ("a network on ResNet-152", "pspnet50", {"layer3.35.bn1.bias": ONE, "layer3.22.bn1.bias": ONE,
                                             "ppm.features.0.1.weight": ONE}),
    ("a network on ResNet-101", "pspnet50-mmseg",
     {"backbone.layer3.22.bn1.bias": ONE, "decode_head.psp_modules.0.1.bn.bias": ONE}),
    ("a network on ResNet-101", "deeplabv3plus-mmseg-r50",
     {"backbone.layer3.22.bn1.bias": ONE, "decode_head.sep_bottleneck.0.depthwise_conv.bn.bias": ONE}),
    ("a network on ResNet-101", "icnet-mmseg-r50",
     {"backbone.backbone.layer3.22.bn1.bias": ONE, "backbone.backbone.layer1.0.conv3.weight": ONE}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sibling", "name", "tensors"), SIBLINGS, ids=lambda value: value if type(value) is str else ""
)
def test_another_network_of_the_family_is_named(sibling, name, tensors, tmp_path):
    torch.save({"state_dict": tensors}, tmp_path / "other.pth")
    assert refused(name, tmp_path / "other.pth") == (
        f"weights other.pth are those of {sibling}, which is not among the networks here; the one with such keys is "
        f"MODEL={name}"
    )


def test_the_layers_of_a_deeper_caffemodel_are_no_training_that_is_left_out(tmp_path):
    arrays = {f"conv4_{i}_1x1_reduce": {"weights": np.zeros((1, 1, 4, 4), np.float32)} for i in (1, 7, 23)}
    arrays["conv5_3_pool1_conv"] = {"weights": np.zeros((1, 1, 4, 4), np.float32)}
    arrays["conv6"] = {"weights": np.zeros((1, 1, 4, 19), np.float32), "biases": np.zeros(19, np.float32)}
    (tmp_path / "pspnet101.caffemodel").write_bytes(caffe_bytes.published(arrays))
    assert "those of a network on ResNet-101" in refused("pspnet50-caffe", tmp_path / "pspnet101.caffemodel")


def graph(depth, classes):
    first = {f"xception_{depth}/entry_flow/conv1_1/weights": np.ones((3, 3, 3, 32), np.float32)}
    return frozen_graph({**first, "logits/semantic/biases": np.ones(classes, np.float32)})


def test_the_deeper_xception_is_told_by_the_network_that_it_is(tmp_path):
    (tmp_path / "xception71.pb").write_bytes(graph(71, 19))
    message = refused("deeplabv3plus-xception65", tmp_path / "xception71.pb")
    assert message.endswith("Their layout is that of MODEL=deeplabv3plus-xception71")


@pytest.mark.parametrize("classes", [21, 150])
def test_classes_of_another_data_set_are_told_by_their_number(classes, ddrnet, tmp_path):
    (tmp_path / "voc.pb").write_bytes(graph(65, classes))
    last = {"final_layer.conv2.weight": torch.ones(classes, 64, 1, 1), "final_layer.conv2.bias": torch.ones(classes)}
    torch.save({**ddrnet, **last}, tmp_path / "voc.pth")
    for name, file in (("deeplabv3plus-xception65", "voc.pb"), (SLIM, "voc.pth")):
        said = f"have {classes} classes and do not name them; known are [11, 19]; name your own: CLASSES=path"
        assert refused(name, tmp_path / file).endswith(said)


def test_what_is_missing_of_a_published_network_is_listed_without_naming_its_own_layout(ddrnet, tmp_path):
    torch.save({name: tensor for name, tensor in ddrnet.items() if "layer4" not in name}, tmp_path / "half.pth")
    message = refused(SLIM, tmp_path / "half.pth")
    assert "missing (high4.0.conv1.bn.bias, " in message and "layout" not in message


@pytest.mark.parametrize("name", [SLIM, "fast-scnn", "pspnet50", "deeplabv3plus-mmseg-r50", "icnet"])
def test_an_image_classifier_is_told_to_be_of_another_network(name, tmp_path):
    torch.save({"c.weight": ONE, "layer1.0.bn1.running_mean": ONE, "fc.weight": ONE}, tmp_path / "resnet.pth")
    assert refused(name, tmp_path / "resnet.pth") == (
        "weights resnet.pth are of another network, or in a layout that is not known: of their 3 tensors (c.weight, "
        "fc.weight, layer1.0.bn1.running_mean) none has a name of the network"
    )


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_half_a_published_file_is_damaged(share, ddrnet, tmp_path):
    whole = {
        "cut.pb": graph(65, 19),
        "cut.caffemodel": caffe_bytes.published({"conv6": {"weights": np.ones((1, 1, 4, 19))}}),
    }
    torch.save({"conv1.0.weight": ddrnet["conv1.0.weight"], "spp.scale0.0.bias": ONE}, tmp_path / "whole.pth")
    whole["cut.pth"] = (tmp_path / "whole.pth").read_bytes()
    for file, content in whole.items():
        (tmp_path / file).write_bytes(content[: int(share * len(content))])
        assert "are damaged, or " in refused(SLIM, tmp_path / file), file
