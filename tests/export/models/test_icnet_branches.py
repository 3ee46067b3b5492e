"""ICNet's branches: each is what the network guides in training, with its weights, and computes no other's part."""

import pytest
import torch

from export import registry
from export.checkpoints.sources import default_weights
from export.checkpoints.weights import Weights, load
from export.models.icnet import ICNet
from export.models.icnet_branches import ICNetSub4, ICNetSub24
from export.to_onnx import Request, loaded_network
from runtime.errors import WeightsError
from tests.helpers.networks import multiply_accumulates, seeded

CLASSES, WIDTH = 5, 4
BRANCHES = {"sub4": ICNetSub4, "sub24": ICNetSub24}


def weights_of(network, **extra):
    return Weights(dict(network.state_dict()) | extra, (), "", "the whole")


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_gives_the_logits_that_guide_the_whole_in_training(name):
    whole = seeded(ICNet(CLASSES, width=WIDTH))
    branch = BRANCHES[name](CLASSES, width=WIDTH).eval()
    load(branch, weights_of(whole))
    frame = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    whole.training = True  # of this module alone: its normalisations stay as they are deployed
    with torch.inference_mode():
        torch.testing.assert_close(branch(frame), getattr(whole(frame), name), rtol=0, atol=0)


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_passes_over_the_wholes_tensors_alone(name):
    whole, branch = seeded(ICNet(CLASSES, width=WIDTH)), BRANCHES[name](CLASSES, width=WIDTH)
    with pytest.raises(WeightsError, match=r"do not fit: 1 unknown \(conv7\.weight\)"):
        load(branch, weights_of(whole, **{"conv7.weight": torch.zeros(1)}))
    tensors = weights_of(whole)
    del tensors.tensors["conv5_4.bn.weight"]
    with pytest.raises(WeightsError, match=r"1 missing \(conv5_4\.bn\.weight\)"):
        load(branch, tensors)


def test_the_second_branch_adds_its_fusion_and_its_finer_classifier():
    first, second = (multiply_accumulates(build(19), 1024, 2048) for build in (ICNetSub4, ICNetSub24))
    fusion = (9 * 256 + 256) * 128 * 64 * 128  # the 3x3 and the projection, at 1/16
    classifiers = 128 * 19 * 128 * 256 - 256 * 19 * 64 * 128  # at 1/8, and at 1/16
    assert second - first == fusion + classifiers


def test_a_branch_has_what_it_computes_with_and_no_more():
    whole = dict(ICNet(CLASSES, width=WIDTH).named_parameters())
    only_of_the_third = ("conv1_sub1", "conv2_sub1", "conv3_sub1", "fusion_12", "conv6_cls")
    without = {"sub4": (*only_of_the_third, "fusion_24", "conv6_sub2"), "sub24": (*only_of_the_third, "conv6_sub4")}
    for name, build in BRANCHES.items():
        left = {key for key in whole if key.split(".")[0] not in without[name]}
        assert {key for key, _ in build(CLASSES, width=WIDTH).named_parameters()} == left


@pytest.mark.parametrize("name", BRANCHES)
def test_the_shipped_weights_of_the_whole_are_the_branchs(name):
    shipped = default_weights(f"icnet-{name}")
    assert shipped == default_weights("icnet") and shipped is not None
    _, network, spec = loaded_network(Request(f"icnet-{name}", "fp32", 64, 128), shipped)
    assert isinstance(network, BRANCHES[name]) and spec.name == f"icnet-{name}" and len(spec.classes) == 11
    _, whole, of_whole = loaded_network(Request("icnet", "fp32", 64, 128), shipped)
    assert spec.weights_sha256 == of_whole.weights_sha256
    assert all(torch.equal(tensor, whole.state_dict()[key]) for key, tensor in network.state_dict().items())


def test_branches_are_registered_with_their_stride():
    assert [registry.find(f"icnet-{name}").output_stride for name in BRANCHES] == [16, 8]
