"""Published DDRNet-23-slim and Fast-SCNN files, as synthetic ones of exactly their keys and shapes."""

import torch

from tests.export.checkpoints.test_layouts import ENET_SHARE, ICNET_SHARE, assert_same, loaded, picture, refused
from tests.helpers.networks import parameters, seeded
from tests.helpers.published_dual import PublishedDDRNet, PublishedFastSCNN, mmseg_names

# Odd maps at every depth: 45, 23, 12 and 6 rows of 1/8 to 1/64.
SIZE = 360, 200


def check_every_logit(ours, theirs, share=ENET_SHARE):
    frame = picture(*SIZE)
    batch_of_two = torch.cat((frame, frame.flip(3)))
    with torch.inference_mode():
        for got, expected in zip(ours.train()(batch_of_two), theirs.train()(batch_of_two), strict=True):
            assert_same(got, expected, share)


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def test_the_authors_ddrnet_gives_its_logits_and_its_auxiliary_ones(tmp_path):
    theirs = seeded(PublishedDDRNet(19))
    torch.save({f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "ddrnet.pth")
    ours, _ = loaded("ddrnet23-slim", tmp_path / "ddrnet.pth")
    with torch.inference_mode():
        assert_same(ours(picture(*SIZE)), theirs.double()(picture(*SIZE))[0], ENET_SHARE)
    check_every_logit(ours, theirs)


def test_mmsegmentations_ddrnet_is_the_authors_without_biases_in_its_stem(tmp_path):
    theirs = seeded(PublishedDDRNet(19))
    with torch.no_grad():
        theirs.conv1[0].bias.zero_(), theirs.conv1[3].bias.zero_()
    torch.save({"state_dict": mmseg_names(theirs.state_dict())}, tmp_path / "ddrnet.pth")
    ours, _ = loaded("ddrnet23-slim", tmp_path / "ddrnet.pth")
    check_every_logit(ours, theirs.double())


def test_mmsegmentations_fast_scnn_gives_its_logits_and_its_auxiliary_ones(tmp_path):
    theirs = seeded(PublishedFastSCNN(19))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "fast_scnn.pth")
    ours, _ = loaded("fast-scnn-mmseg", tmp_path / "fast_scnn.pth")
    check_every_logit(without_dropout(ours), theirs.double(), ICNET_SHARE)


def test_the_authors_ddrnet_has_the_numbers_that_are_published():
    assert round(parameters(PublishedDDRNet(19), "seghead_extra") / 1e6, 1) == 5.7


def test_a_key_of_ddrnet_that_is_missing_is_named(tmp_path):
    tensors = PublishedDDRNet(19).state_dict()
    del tensors["spp.scale3.3.weight"]
    torch.save(tensors, tmp_path / "ddrnet.pth")
    assert "pyramid.scale.3.conv.weight" in refused("ddrnet23-slim", tmp_path / "ddrnet.pth")


def test_another_of_the_family_is_not_taken_for_the_slim_one(tmp_path):
    tensors = {name: torch.cat((t, t)) if t.dim() == 4 else t for name, t in PublishedDDRNet(19).state_dict().items()}
    torch.save(tensors, tmp_path / "ddrnet23.pth")
    message = refused("ddrnet23-slim", tmp_path / "ddrnet23.pth")
    assert "are those of DDRNet-23, which is not among the networks here" in message
