"""Published PSPNet50 files, as synthetic ones of exactly their keys and shapes: 49 million parameters each."""

import pytest
import torch

from tests.export.checkpoints.test_layouts import ICNET_SHARE, assert_same, loaded, picture
from tests.helpers import caffe_bytes
from tests.helpers.networks import parameters, seeded
from tests.helpers.published_psp import PublishedPSPNet, caffe_arrays, mmseg_names

SIZE = 73, 121  # maps of 10x16: no level but the first divides both sides


def same_logits(ours, theirs, size=SIZE):
    frame = picture(*size).float()
    with torch.inference_mode():
        assert_same(ours.float()(frame).double(), theirs(frame)[0].double(), 50 * ICNET_SHARE)  # both are float32


@pytest.mark.slow
def test_semsegs_file_gives_its_logits(tmp_path):
    theirs = seeded(PublishedPSPNet(19))
    torch.save({"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "train.pth")
    same_logits(loaded("pspnet50", tmp_path / "train.pth")[0], theirs)


@pytest.mark.slow
def test_mmsegmentations_file_gives_its_logits(tmp_path):
    theirs = seeded(PublishedPSPNet(19, stem=(32, 32, 64), contract=True, align_corners=False))
    torch.save({"state_dict": mmseg_names(theirs.state_dict())}, tmp_path / "psp.pth")
    same_logits(loaded("pspnet50-mmseg", tmp_path / "psp.pth")[0], theirs, (72, 120))


@pytest.mark.slow
def test_caffes_file_gives_its_logits_with_the_pyramid_in_its_order(tmp_path):
    theirs = seeded(PublishedPSPNet(19, caffe=True))
    arrays = caffe_arrays(theirs.state_dict())
    (tmp_path / "psp.caffemodel").write_bytes(caffe_bytes.published(arrays))
    same_logits(loaded("pspnet50-caffe", tmp_path / "psp.caffemodel")[0], theirs)


def test_the_published_networks_have_the_numbers_and_keys_that_are_told():
    with torch.device("meta"):
        semseg = PublishedPSPNet(19)
        mmseg = PublishedPSPNet(19, stem=(32, 32, 64))
    assert f"{parameters(semseg) / 1e6:.3f}" == "49.080" and f"{parameters(mmseg) / 1e6:.2f}" == "48.98"
    assert len(semseg.state_dict()) == len(mmseg_names(mmseg.state_dict())) == 370
