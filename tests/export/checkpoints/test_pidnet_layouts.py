"""Published PIDNet-S files, as synthetic ones of exactly their keys and shapes; see test_independent.py, too."""

import re

import torch

from tests.export.checkpoints.test_dual_layouts import check_every_logit
from tests.export.checkpoints.test_layouts import loaded, refused
from tests.helpers.networks import seeded
from tests.helpers.published_pidnet import PublishedPIDNet

# What mmsegmentation calls the authors' modules; of several the first that matches counts.
PART, BEFORE = {"0": "conv", "1": "bn"}, {"0": "bn", "2": "conv", "1": "bn", "3": "conv"}
BRANCH = {"": "i", "_": "p", "_d": "d"}
MMSEG = (
    (r"conv1\.([03])\.(.*)", lambda m: f"backbone.stem.{int(m[1]) // 3}.conv.{m[2]}"),
    (r"conv1\.([14])\.(.*)", lambda m: f"backbone.stem.{int(m[1]) // 3}.bn.{m[2]}"),
    (r"layer([12])\.(.*)", lambda m: f"backbone.stem.{2 * int(m[1])}.{m[2]}"),
    (r"layer(\d)(_d?|)\.(.*)", lambda m: f"backbone.{BRANCH[m[2]]}_branch_layers.{int(m[1]) - 3}.{m[3]}"),
    (r"(compression|diff)(\d)\.([01])\.(.*)", lambda m: f"backbone.{m[1]}_{int(m[2]) - 2}.{PART[m[3]]}.{m[4]}"),
    (r"pag(\d)\.f_x\.([01])\.(.*)", lambda m: f"backbone.pag_{int(m[1]) - 2}.f_p.{PART[m[2]]}.{m[3]}"),
    (r"pag(\d)\.f_y\.([01])\.(.*)", lambda m: f"backbone.pag_{int(m[1]) - 2}.f_i.{PART[m[2]]}.{m[3]}"),
    (r"dfm\.conv_([pi])\.([01])\.(.*)", lambda m: f"backbone.dfm.f_{m[1]}.{PART[m[2]]}.{m[3]}"),
    (r"spp\.scale0\.(\d)\.(.*)", lambda m: f"backbone.spp.scales.0.{BEFORE[m[1]]}.{m[2]}"),
    (r"spp\.scale(\d)\.(\d)\.(.*)", lambda m: f"backbone.spp.scales.{m[1]}.1.{BEFORE[m[2]]}.{m[3]}"),
    (r"spp\.scale_process\.(\d)\.(.*)", lambda m: f"backbone.spp.processes.{BEFORE[m[1]]}.{m[2]}"),
    (r"spp\.(\w+)\.(\d)\.(.*)", lambda m: f"backbone.spp.{m[1]}.{BEFORE[m[2]]}.{m[3]}"),
    (r"(final_layer|seghead_[pd])\.(bn|conv)1\.(.*)", lambda m: f"decode_head.{HEAD[m[1]]}_head.conv.{m[2]}.{m[3]}"),
    (r"(final_layer|seghead_[pd])\.bn2\.(.*)", lambda m: f"decode_head.{HEAD[m[1]]}_head.norm.{m[2]}"),
    (r"(final_layer|seghead_[pd])\.conv2\.(.*)", lambda m: f"decode_head.{CLASSIFIER[m[1]]}.{m[2]}"),
)
HEAD = {"final_layer": "i", "seghead_p": "p", "seghead_d": "d"}
CLASSIFIER = {"final_layer": "conv_seg", "seghead_p": "p_cls_seg", "seghead_d": "d_cls_seg"}


def mmseg_names(tensors):
    """The authors' tensors as mmsegmentation has them, whose stem has no biases."""
    found = {}
    for name, tensor in tensors.items():
        if re.fullmatch(r"conv1\.[03]\.bias", name):
            continue
        pattern, new = next((p, n) for p, n in MMSEG if re.fullmatch(p, name))
        named = re.sub(pattern, new, name)
        if re.search(r"(layers\.\d|stem\.[24])\.", named):
            named = re.sub(r"\.downsample\.([01])\.", lambda m: f".downsample.{PART[m[1]]}.", named)
            named = re.sub(r"\.(conv|bn)(\d)\.", r".conv\2.\1.", named)
        found[named] = tensor
    return found


def test_the_authors_pidnet_gives_its_logits_and_its_auxiliary_ones(tmp_path):
    theirs = seeded(PublishedPIDNet(19))
    torch.save({f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "pidnet.pt")
    check_every_logit(loaded("pidnet-s", tmp_path / "pidnet.pt")[0], theirs.double())


def test_mmsegmentations_pidnet_is_the_authors_without_biases_in_its_stem(tmp_path):
    theirs = seeded(PublishedPIDNet(19))
    with torch.no_grad():
        theirs.conv1[0].bias.zero_(), theirs.conv1[3].bias.zero_()
    torch.save({"state_dict": mmseg_names(theirs.state_dict())}, tmp_path / "pidnet.pth")
    check_every_logit(loaded("pidnet-s", tmp_path / "pidnet.pth")[0], theirs.double())


def test_a_key_of_pidnet_that_is_missing_is_named(tmp_path):
    tensors = PublishedPIDNet(19).state_dict()
    del tensors["dfm.conv_i.0.weight"]
    torch.save(tensors, tmp_path / "pidnet.pth")
    assert "fusion.of_context.conv.weight" in refused("pidnet-s", tmp_path / "pidnet.pth")
