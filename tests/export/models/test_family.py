"""PSPNet50, DDRNet-23-slim and Fast-SCNN: what they cost, by the figures of their papers or of their authors' code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export.models import deeplab
from export.models.ddrnet import DDRNet23Slim
from export.models.fast_scnn import FastSCNN
from export.models.layers import ConvBN
from export.models.pidnet import PIDNetS
from export.models.pspnet import PSPNet, pspnet50_caffe, pspnet50_mmseg
from export.models.pspnet_sum import (
    PSPNetSum,
    pspnet50_sum_half,
    pspnet50_sum_os16,
    pspnet50_sum_os32,
    pspnet50_sum_quarter,
)
from export.models.pyramid import PYRAMID_BINS, TappedPyramid, averages, spread
from tests.helpers.networks import multiply_accumulates, parameters, seeded

# The matrices are float32, as is what they are compared with.
MATRICES = 1e-5


@pytest.mark.parametrize(
    ("build", "auxiliary", "millions", "size", "gmac"),
    [
        (DDRNet23Slim, ("auxiliary",), "5.696", (1024, 2048), "36.28"),
        (PIDNetS, ("auxiliary",), "7.626", (1024, 2048), "47.19"),
        (FastSCNN, ("auxiliary_deep", "auxiliary_fine"), "1.138", (1024, 2048), "6.71"),
        (deeplab.deeplab_xception65, (), "41.055", (1024, 2048), "410.20"),
        (deeplab.deeplab_xception65, (), "41.055", (1025, 2049), "418.38"),
        (deeplab.deeplab_xception65_os8, (), "41.055", (1024, 2048), "1372.68"),
        (deeplab.deeplab_xception41, (), "28.108", (1024, 2048), "304.72"),
        (deeplab.deeplab_xception41_os8, (), "28.108", (1024, 2048), "950.73"),
        (deeplab.deeplab_xception71, (), "43.477", (1024, 2048), "503.91"),
        (deeplab.deeplab_xception71_os8, (), "43.477", (1024, 2048), "1474.84"),
        (deeplab.deeplab_mobilenetv2, (), "5.225", (1024, 2048), "133.60"),
        (deeplab.deeplab_mmseg_r50, ("auxiliary",), "41.225", (1024, 2048), "1409.26"),
        (PSPNet, ("auxiliary",), "46.715", (1025, 2049), "1489.42"),
        (PSPNet, ("auxiliary",), "46.715", (713, 713), "363.78"),
        (pspnet50_caffe, (), "46.715", (1025, 2049), "1486.19"),
        (pspnet50_mmseg, ("auxiliary",), "46.611", (1024, 2048), "1426.22"),
        (PSPNetSum, (), "24.691", (1025, 2049), "895.16"),
        (PSPNetSum, (), "24.691", (513, 1025), "226.23"),
        (PSPNetSum, (), "24.691", (257, 513), "57.79"),
        (pspnet50_sum_os16, (), "24.691", (1025, 2049), "323.55"),
        (pspnet50_sum_os32, (), "24.691", (1025, 2049), "223.71"),
        (pspnet50_sum_half, (), "6.189", (1025, 2049), "224.10"),
        (pspnet50_sum_quarter, (), "1.556", (1025, 2049), "56.18"),
    ],
)
def test_a_network_has_the_parameters_and_the_cost_that_are_published(build, auxiliary, millions, size, gmac):
    with torch.device("meta"):
        network = build(19)
    assert f"{parameters(network, *auxiliary) / 1e6:.3f}" == millions
    assert f"{multiply_accumulates(network, *size) / 1e9:.2f}" == gmac


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 2), (7, 5), (33, 65)])
def test_the_pyramid_is_adaptive_averages_resized(size, align_corners):
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 4, *size)).astype(np.float32))
    found = averages(x, [nn.Identity()] * len(PYRAMID_BINS))
    for bins, cells in zip(PYRAMID_BINS, found, strict=True):
        expected = F.adaptive_avg_pool2d(x, bins)
        torch.testing.assert_close(cells, expected, rtol=0, atol=MATRICES)
        wide = F.interpolate(expected, size, mode="bilinear", align_corners=align_corners)
        got = spread(cells, *size, align_corners=align_corners)
        torch.testing.assert_close(got, wide, rtol=0, atol=MATRICES)


@pytest.mark.parametrize("map_first", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 2), (9, 6)])
def test_a_pyramid_convolved_as_cells_is_its_maps_convolved(size, align_corners, map_first):
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 5, *size)).astype(np.float32))
    bottleneck = seeded(ConvBN(5 + 4 * 3, 6, 3))
    cells = averages(x, [nn.Conv2d(5, 3, 1).requires_grad_(requires_grad=False) for _ in PYRAMID_BINS])
    maps = [spread(each, *size, align_corners=align_corners) for each in cells]
    expected = bottleneck(torch.cat((x, *maps) if map_first else (*maps, x), dim=1))
    tapped = TappedPyramid(bottleneck, 3, align_corners=align_corners, map_first=map_first)
    torch.testing.assert_close(tapped(x, cells), expected, rtol=0, atol=MATRICES)


def test_the_branches_logits_are_given_in_training():
    frame = torch.zeros(2, 3, 64, 72)
    assert [tuple(o.shape) for o in DDRNet23Slim(5).train()(frame)] == [(2, 5, 8, 9)] * 2
    assert [tuple(o.shape) for o in FastSCNN(5).train()(frame)] == [(2, 5, 8, 9), (2, 5, 2, 3), (2, 5, 8, 9)]


def test_the_summed_pyramid_is_its_averages_resized_and_added():
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(2, 4, 7, 5)).astype(np.float32))
    maps = [F.interpolate(F.adaptive_avg_pool2d(x, bins), (7, 5), mode="bilinear") for bins in PYRAMID_BINS]
    network = PSPNetSum(3, width=1)
    torch.testing.assert_close(network.pyramid(x), x + torch.stack(maps).sum(0), rtol=0, atol=MATRICES)
