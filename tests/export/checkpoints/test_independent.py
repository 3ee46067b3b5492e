"""Published networks in their own authors' or other people's code: the same tensors in, the same logits out.

Run by `make test-independent`, which makes the environment that has that code. segmentation-models-pytorch is not in
it: its networks are others. Its DeepLabV3+ has nothing between the halves of the head's separable convolutions, one of
these more before the decoder and one less in it; its PSPNet reads the encoder at 1/8 and dilates nothing.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from export.checkpoints.weights import load, read_weights
from export.models.deeplab import deeplab_mobilenetv2
from export.models.mobilenetv2 import MobileNetV2
from export.models.pspnet import MMSEG, SEMSEG, PSPNet
from export.models.xception import XCEPTION_41, XCEPTION_65, XCEPTION_71, Xception
from export.registry import find

pytestmark = pytest.mark.independent

TESTS = Path(__file__).parents[2]
SHARE = 1e-4  # of the logits' span: both sides are float32 and sum in orders of their own
NETWORKS = {
    "ddrnet": "ddrnet23-slim",
    "pidnet": "pidnet-s",
    "fast_scnn": "fast-scnn-mmseg",
    "pspnet": "pspnet50-mmseg",
    "deeplab": "deeplabv3plus-mmseg-r50",
    "icnet18": "icnet-mmseg-r18",
    "icnet50": "icnet-mmseg-r50",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("independent")
    python = Path(f"{sys.prefix}-independent") / "bin/python"
    assert python.exists(), "make test-independent makes its environment"
    subprocess.run([python, TESTS / "helpers/independent_networks.py", made], check=True, timeout=600)
    return made


def case(folder, name):
    """Their tensors, the frame, and what their network makes of it."""
    with np.load(folder / f"{name}.npz") as arrays:
        outputs = {key: torch.from_numpy(arrays[key]) for key in arrays}
    return torch.load(folder / f"{name}.pth")["state_dict"], outputs.pop("frame"), outputs


def assert_same(got, expected):
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < SHARE * (expected.max() - expected.min())


@pytest.mark.parametrize("theirs", NETWORKS)
def test_mmsegmentations_own_network_gives_our_logits_with_its_checkpoint(folder, theirs):
    _, frame, expected = case(folder, theirs)
    weights = read_weights(folder / f"{theirs}.pth")
    assert weights.network == NETWORKS[theirs]
    network = find(weights.network).build(len(weights.classes))
    load(network, weights)
    with torch.inference_mode():
        assert_same(network.eval()(frame), expected["logits"])


def test_pytorchcvs_pspnet_gives_our_logits(folder):
    tensors, frame, expected = case(folder, "pspnet_cv")
    network = PSPNet(19, SEMSEG._replace(first=MMSEG.first))  # its dilation grows a block later than semseg's
    counted = "num_batches_tracked"
    ours = [name for name in network.state_dict() if not name.endswith(counted)]
    theirs = [tensor for name, tensor in tensors.items() if not name.endswith(counted)]
    network.load_state_dict(dict(zip(ours, theirs, strict=True)), strict=False)
    with torch.inference_mode():
        logits = network.eval()(frame)
        size = expected["upsampled"].shape[2:]
        upsampled = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    assert_same(upsampled, expected["upsampled"])


DEPTHS = {41: XCEPTION_41, 65: XCEPTION_65, 71: XCEPTION_71}


@pytest.mark.parametrize(("depth", "stride"), [(41, 16), (41, 8), (65, 16), (65, 8), (71, 16)])
def test_timms_xception_gives_our_maps(folder, depth, stride):
    tensors, frame, expected = case(folder, f"xception{depth}-os{stride}")
    network, ours = Xception(DEPTHS[depth], stride), {}
    modules = [f"entry.{i}" for i in range(len(DEPTHS[depth].entry))]
    modules += [*(f"middle.{i}" for i in range(DEPTHS[depth].middle)), "exit1", "exit2"]
    for name, tensor in tensors.items():
        ours[xception_name(name, modules)] = tensor
    network.load_state_dict(ours)
    with torch.inference_mode():
        low, last = network.eval()(frame)
    assert_same(last, expected["last"])
    assert_same(low, expected["low"])


def test_torchvisions_mobilenet_gives_our_maps(folder):
    tensors, frame, expected = case(folder, "mobilenet")
    network = MobileNetV2(16)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    with torch.inference_mode():
        low, last = network.eval()(frame)
    assert_same(last, expected["last"])
    assert_same(low, expected["low"])


def xception_name(name, modules):
    first, index, *rest = name.split(".")
    if first == "stem":
        return name
    module = modules[int(index)]
    if rest[0] == "shortcut":
        return ".".join((module, *rest))
    conv, (kind, part) = int(rest[1].removeprefix("conv")) - 1, rest[2].split("_")
    return ".".join((module, f"convs.{conv}", {"dw": "depthwise", "pw": "pointwise"}[part], kind, *rest[3:]))


def test_torchvisions_atrous_pyramid_gives_our_maps(folder):
    tensors, frame, expected = case(folder, "aspp")
    with torch.device("meta"):
        pyramid = deeplab_mobilenetv2(19).pyramid
    units = [("convs.0.0", "convs.0.1", "point")]
    units += [(f"convs.{i}.0", f"convs.{i}.1", f"dilated.{i - 1}") for i in (1, 2, 3)]
    units += [("convs.4.1", "convs.4.2", "pooled.conv"), ("project.0", "project.1", "project")]
    names = {conv: f"{ours}.conv" for conv, _, ours in units} | {norm: f"{ours}.bn" for _, norm, ours in units}
    ours = {f"{names[(parts := name.rpartition('.'))[0]]}.{parts[2]}": tensor for name, tensor in tensors.items()}
    pyramid.load_state_dict(ours, assign=True)
    with torch.inference_mode():
        assert_same(pyramid.eval()(frame), expected["out"])
