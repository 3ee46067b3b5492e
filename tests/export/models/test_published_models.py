"""The networks of published checkpoints: what they cost, and the release's own windows; test_layouts.py runs them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export import registry
from export.models.enet_davidtvs import ENetDavidtvs
from export.models.icnet_caffe import ICNetCaffe, window
from export.models.icnet_mmseg import icnet_mmseg_r18, icnet_mmseg_r50
from runtime.errors import ModelError
from runtime.reference import axis_table
from tests.helpers.networks import multiply_accumulates, parameters
from tests.helpers.published_caffe import POOLS

AUXILIARY = ("auxiliary_sub4", "auxiliary_sub24")
# Averages of up to 2145 cells, in float32 on both sides.
AVERAGES = 1e-5


@pytest.mark.parametrize(("classes", "count"), [(20, 351_804), (12, 350_652)])
def test_pytorch_enet_has_the_parameters_that_are_published(classes, count):
    assert parameters(ENetDavidtvs(classes)) == count


@pytest.mark.parametrize(
    ("height", "width", "published"), [(1024, 2048, "16.23"), (512, 1024, "4.056"), (360, 640, "1.783")]
)
def test_pytorch_enet_costs_what_is_published(height, width, published):
    assert f"{multiply_accumulates(ENetDavidtvs(20), height, width) / 1e9:#.4g}" == published


def test_the_released_icnet_has_its_parameters_and_cost():
    assert parameters(ICNetCaffe(19)) == 6_699_987  # 6.700 M
    assert f"{multiply_accumulates(ICNetCaffe(19), 1025, 2049) / 1e9:.2f}" == "29.81"


@pytest.mark.parametrize(
    ("build", "count", "auxiliary", "cost"),
    [(icnet_mmseg_r18, 24_874_067, 300_326, "74.2"), (icnet_mmseg_r50, 47_527_507, 300_326, "122.0")],
)
def test_mmsegmentations_icnet_has_the_parameters_and_cost_that_are_published(build, count, auxiliary, cost):
    with torch.device("meta"):
        network = build(19)
    assert parameters(network, *AUXILIARY) == count  # 24.9 M and 47.5 M
    assert parameters(network) == count + auxiliary
    assert f"{multiply_accumulates(network, 1024, 2048) / 1e9:.1f}" == cost


@pytest.mark.parametrize("size", POOLS)
def test_the_windows_are_the_releases(size):
    for bins, (kernels, strides) in zip((1, 2, 3, 6), POOLS[size], strict=True):
        assert [window(bins, n) for n in size] == list(zip(kernels, strides, strict=True))


@pytest.mark.parametrize("size", POOLS)
def test_the_releases_pyramid_is_its_pooling_resized(size):
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    pooled = [F.avg_pool2d(x, kernel, stride) for kernel, stride in POOLS[size]]
    assert [p.shape[2:] for p in pooled] == [(bins, bins) for bins in (1, 2, 3, 6)]
    expected = x + sum(F.interpolate(p, size, mode="bilinear", align_corners=True) for p in pooled)
    with torch.device("meta"):
        network = ICNetCaffe(3)
    torch.testing.assert_close(network.pyramid(x), expected, rtol=0, atol=AVERAGES)


@pytest.mark.parametrize("cells", range(2, 12))
def test_windows_of_any_map_stay_inside_and_reach_its_end(cells):
    for bins in (1, 2, 3, 6):
        kernel, stride = window(bins, cells)
        assert kernel > 0 and stride >= 0 and kernel + (bins - 1) * stride == cells


def test_half_pixel_centres_would_shift_the_releases_logits():
    """Why the released ICNet says that corners are aligned: a ramp of cell numbers, resized both ways."""
    ramp = np.arange(257, dtype=np.float32)
    halves, aligned = (
        ramp[table.first] * table.weight_first + ramp[table.second] * table.weight_second
        for table in (axis_table(257, 1025, how) for how in ("half_pixel", registry.find("icnet-caffe").upsample))
    )
    apart = 4 * (aligned - halves)  # in pixels
    # The outermost pixels lie outside the outermost centres, where resizing repeats the edge.
    assert np.abs(apart)[2:-2].max() == pytest.approx(1.5, abs=0.02) and aligned[-1] == 256


@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        ("icnet-caffe", (1024, 2048), "1025x2049"),
        ("icnet-caffe", (1, 48), "33x33"),
        ("icnet-mmseg-r18", (1025, 2049), "1024x2048"),
        ("enet-davidtvs", (513, 1023), "512x1024"),
    ],
)
def test_a_size_that_it_cannot_take_is_refused_with_the_nearest(name, size, nearest):
    entry = registry.find(name)
    with pytest.raises(ModelError, match=f"SIZE={nearest}$"):
        registry.check_size(entry, *size)
    assert registry.nearest_size(entry, *size) == tuple(map(int, nearest.split("x")))
    registry.check_size(entry, *registry.nearest_size(entry, *size))


def test_each_has_the_normalisation_that_it_was_trained_with():
    found = {name: registry.find(name).normalization for name in registry.names()}
    assert found["enet-davidtvs"] == (1 / 255, (0, 0, 0), (1, 1, 1), "RGB")
    assert found["icnet-caffe"] == (1, (103.939, 116.779, 123.68), (1, 1, 1), "BGR")
    imagenet = (1, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "RGB")
    assert found["icnet-mmseg-r18"] == found["icnet-mmseg-r50"] == imagenet
