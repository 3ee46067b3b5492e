import copy

import numpy as np
import pytest
import torch
from torch import nn

from calib.qdq import integers, weight_scales
from calib.thresholds import LEVELS as CODES
from calib.thresholds import PERCENTILE as CALIBRATED
from export.check import street_frame
from export.checkpoints.sources import default_weights
from export.checkpoints.weights import load, read_weights
from export.models.layers import Subpixels
from export.registry import find
from export.training.fake_quantize import (
    LEVELS,
    PERCENTILE,
    QuantizedBlocks,
    QuantizedConv2d,
    quantize_training,
    reached,
    rounded_activation,
    rounded_weight,
)
from runtime.reference import preprocess
from runtime.spec import Preprocess

LEAST_EQUAL = 0.97  # of the masks, with the weights that are shipped: INT8 costs little


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_training_rounds_weights_to_the_codes_of_the_deployed_graph():
    weight = random(6, 4, 3, 3) * torch.logspace(-3, 1, 6).reshape(6, 1, 1, 1)
    scales = weight_scales(weight.numpy(), np.dtype(np.float32))
    expected = integers(weight.numpy(), scales) * scales.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(rounded_weight(weight, 0), torch.from_numpy(expected))
    assert (LEVELS, PERCENTILE) == (CODES, CALIBRATED)


def test_folding_a_normalisation_scales_the_rounded_weights_and_changes_no_code():
    weight, gain = random(5, 4, 3, 3), torch.linspace(-3, 0.2, 5).reshape(5, 1, 1, 1)
    torch.testing.assert_close(rounded_weight(weight * gain, 0), rounded_weight(weight, 0) * gain)


@pytest.mark.parametrize("options", [(2, 2), (3, 2, 1, 1)])
def test_a_deconvolution_is_rounded_as_the_convolution_it_is_deployed_as(options):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 3, *options)
    deployed = Subpixels(layer)
    deployed.weight.data = rounded_weight(deployed.weight, 0)
    layer.__class__ = QuantizedBlocks
    values = rounded_activation(torch.rand(1, 4, 5, 6))
    torch.testing.assert_close(layer(values), nn.functional.pixel_shuffle(deployed(values), 2))
    assert not torch.equal(layer(values), layer.eval()(values))


def test_a_range_is_the_percentile_of_what_is_not_zero():
    values = torch.cat((torch.zeros(5000), torch.arange(1, 10_001).float() / 10_000)).reshape(1, 1, 100, 150)
    assert reached(values) == pytest.approx(0.9999)
    assert reached(-values) == pytest.approx(0.9999)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [64, 24, 13])
def test_a_large_tensor_is_sampled_in_every_channel(layout, channels):
    for channel in range(channels):
        values = torch.zeros(2, channels, 250, 200)
        values[:, channel] = 1.0
        assert reached(values.contiguous(memory_format=layout)) == 1.0


def test_a_tensor_that_is_not_finite_shows():
    values = torch.ones(1, 1, 2, 2)
    values[0, 0, 0, 0] = torch.nan
    assert torch.isnan(rounded_activation(values)).all()


def test_rounding_takes_what_bfloat16_autocast_gives():
    layer = nn.Conv2d(4, 4, 1)
    net = nn.Sequential(layer)
    quantize_training(net, blocks=False)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.rand(1, 4, 8, 8).bfloat16())
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and torch.isfinite(layer.weight.grad).all()
    assert rounded_weight(torch.ones(2, 2, 1, 1, dtype=torch.bfloat16), 0).dtype == torch.float32


@pytest.mark.parametrize("channels", [3, 4])
def test_a_convolution_computes_with_what_int8_leaves_of_weights_and_input(channels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 5, 3, stride=2, padding=1))
    plain = copy.deepcopy(net[0])
    quantize_training(net, blocks=False)
    values = torch.rand(2, channels, 9, 7)
    seen = values if channels == 3 else rounded_activation(values)  # a frame has 8 bits already
    expected = nn.functional.conv2d(seen, rounded_weight(plain.weight, 0), plain.bias, 2, 1)
    torch.testing.assert_close(net(values), expected)
    assert (net(values) - plain(values)).abs().max() > 1e-4
    torch.testing.assert_close(net.eval()(values), plain(values))


@pytest.mark.parametrize(("blocks", "count"), [(True, 3), (False, 0)])
def test_a_deconvolution_is_rounded_where_it_is_deployed_as_a_convolution(blocks, count):
    net = find("enet-davidtvs").build(3)
    quantize_training(net, blocks=blocks)
    assert sum(isinstance(module, QuantizedBlocks) for module in net.modules()) == count


def test_a_tensor_of_zeros_stays_zero():
    assert torch.equal(rounded_activation(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3))
    assert torch.equal(rounded_weight(torch.zeros(2, 2, 1, 1), 0), torch.zeros(2, 2, 1, 1))


def test_the_gradient_passes_rounding_and_stops_where_a_value_is_clipped():
    values = torch.full((1, 1, 200, 200), 0.5)
    values[0, 0, 0, 0] = 100.0
    values.requires_grad_()
    rounded_activation(values).sum().backward()
    assert values.grad[0, 0, 0, 0] == 0 and values.grad[0, 0, 1, 1] == 1


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_a_network_is_rounded_in_training_and_untouched_in_evaluation(name):
    network, weights = find(name), read_weights(default_weights(name))
    plain = network.build(len(weights.classes))
    load(plain, weights)
    for module in plain.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    rounded = copy.deepcopy(plain)
    layers = [m for m in plain.modules() if isinstance(m, nn.Conv2d)]
    deconvolutions = {"enet": 3, "icnet": 0}[name]
    assert quantize_training(rounded, blocks=network.block > 1) == len(layers) + deconvolutions
    assert list(rounded.state_dict()) == list(plain.state_dict())
    readers = [m for m in rounded.modules() if isinstance(m, QuantizedConv2d) and m.reads_frame]
    assert len(readers) == {"enet": 1, "icnet": 2}[name]
    frame = torch.from_numpy(preprocess(street_frame(), Preprocess(256, 512, *network.normalization)))
    assert torch.equal(plain.eval()(frame), rounded.eval()(frame))
    found, expected = (net(frame) if name == "enet" else net(frame).sub124 for net in (rounded.train(), plain.train()))
    assert not torch.equal(found, expected)
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > LEAST_EQUAL
