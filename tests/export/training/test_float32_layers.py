import copy

import pytest
import torch
from torch import nn

from export.registry import find
from export.training.fake_quantize import quantize_training
from export.training.float32_layers import keep_in_float32

SHARE = 0.02  # bfloat16 keeps 8 bits; sums of hundreds of products keep about as many


def gradients(net, frames, *, halved):
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=halved):
        y = net(frames.bfloat16() if halved else frames)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize(("channels", "dilation", "multiple"), [(64, 4, 1), (64, 2, 1), (32, 2, 2)])
def test_a_dilated_depthwise_kernel_has_the_gradient_of_float32(channels, dilation, multiple):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, channels * multiple, 3, padding=dilation, dilation=dilation, groups=channels)
    ).to(memory_format=torch.channels_last)
    frames = torch.randn(4, channels, 20, 30).bfloat16().float().contiguous(memory_format=torch.channels_last)
    expected = gradients(net, frames, halved=False)
    keep_in_float32(net)
    for name, gradient in gradients(net, frames, halved=True).items():
        assert (gradient - expected[name]).abs().max() < SHARE * expected[name].abs().max()


def test_nothing_else_is_kept_in_float32_and_a_copy_computes_with_its_own_kernels():
    net = find("fast-scnn").build(5).eval()
    keep_in_float32(net)
    kept = [name for name, module in net.named_modules() if "forward" in vars(module)]
    assert kept == ["fusion.deep.conv"]
    frame, other = torch.rand(1, 3, 64, 64), copy.deepcopy(net)
    with torch.inference_mode():
        other.fusion.deep.conv.weight *= 3
        assert torch.equal(net(frame), find_like(net)(frame))
        assert torch.equal(other(frame), find_like(other)(frame))


def find_like(net):
    plain = find("fast-scnn").build(5).eval()
    plain.load_state_dict(net.state_dict())
    return plain


def test_what_is_rounded_as_int8_stays_rounded():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8))
    quantize_training(net, blocks=False)
    plain = copy.deepcopy(net)
    keep_in_float32(net)
    frames = torch.rand(2, 8, 9, 9)
    assert torch.equal(net(frames), plain(frames))
