import copy
import functools
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from export.models.enet import ENet
from export.models.icnet import ICNet
from export.models.layers import max_pool_2x2, max_unpool_2x2
from export.training.compiled import compile_network, compiled_loss
from export.training.fake_quantize import quantize_training
from export.training.losses import pixel_loss, segmentation_loss
from tests.helpers import cuda_on_cpu

needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler is installed")


class Small(nn.Module):
    """What the networks are made of, with a `forward` of its own: PyTorch's compiler leaves a bare Sequential alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))

    def forward(self, x):
        pooled, positions = max_pool_2x2(self.layers(x))
        return max_unpool_2x2(pooled, positions)


@needs_compiler
@pytest.mark.parametrize(("halved", "tolerance"), [(False, 1e-4), pytest.param(True, 3e-2, marks=pytest.mark.slow)])
def test_a_network_computes_what_pytorchs_does_and_keeps_its_parameters(halved, tolerance):
    torch.manual_seed(0)
    torch._dynamo.reset()
    plain = Small()
    net = copy.deepcopy(plain)
    compile_network(net)
    assert list(net.state_dict()) == list(plain.state_dict())
    before = counters["stats"]["unique_graphs"]
    for shape in ((2, 3, 12, 20), (1, 3, 8, 6)):
        frames, upstream = torch.randn(shape), torch.randn(shape[0], 4, *shape[2:])
        for each in (net, plain):
            each.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=halved):
                out = each(frames)
            out.backward(upstream.to(out.dtype))
        for got, want in zip(net.parameters(), plain.parameters(), strict=True):
            size = float(want.grad.abs().max())
            torch.testing.assert_close(got.grad, want.grad, rtol=tolerance, atol=tolerance * size)
        for got, want in zip(net.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    assert counters["stats"]["unique_graphs"] == before + 2


@needs_compiler
def test_a_network_that_does_not_compile_whole_is_an_error():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4))
    compile_network(net)
    with pytest.raises(RuntimeError, match="fullgraph"):
        net(torch.randn(1, 3, 4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("encoder_only", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_enet_is_one_graph(encoder_only, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    network = ENet(5, encoder_only=encoder_only)
    compile_network(network.train())
    before = counters["stats"]["unique_graphs"]
    network(torch.randn(2, 3, 64, 64))
    assert counters["stats"]["unique_graphs"] == before + 1


def test_networks_that_compiling_makes_slower_are_left_alone(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda net, **_: pytest.fail("compiled"))
    rounding = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4))
    quantize_training(rounding, blocks=False)
    for net in (rounding, ICNet(5, width=8)):
        compile_network(net)


@needs_compiler
def test_the_loss_and_its_gradients_are_those_of_pytorch():
    torch.manual_seed(0)
    labels = torch.randint(0, 6, (2, 24, 32), dtype=torch.uint8)
    labels[labels == 5] = 255
    weights, logits = torch.rand(5) + 0.5, torch.randn(2, 5, 24, 32, requires_grad=True)
    eager, fused = (
        segmentation_loss(logits, labels, weights, dice=1.0, of_pixels=loss) for loss in (pixel_loss, compiled_loss())
    )
    torch.testing.assert_close(fused, eager)
    (want,), (got,) = (torch.autograd.grad(loss, logits) for loss in (eager, fused))
    assert want.abs().max() > 0
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("compiler", ["no-such-compiler", pytest.param("false", marks=pytest.mark.slow)])
def test_without_a_compiler_that_works_one_line_says_so(compiler, tmp_path):
    imports = "from export.training.compiled import check_compiler; from runtime.cli import run"
    code = f"{imports}; run(lambda argv: check_compiler())"
    environment = {**os.environ, "CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r".*--compile needs a C\+\+ compiler \(.+\); leave it out\n", done.stderr)
