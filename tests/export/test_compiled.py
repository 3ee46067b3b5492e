import copy

import pytest
import torch
from torch import nn

from export.compiled import check_compiler, compile_network, compiled_loss
from export.fake_quantize import quantize_training
from export.losses import pixel_loss, segmentation_loss
from runtime.errors import LibraryError
from tests.helpers import cuda_on_cpu

needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler is installed")


@needs_compiler
@pytest.mark.parametrize(("halved", "tolerance"), [(False, 1e-4), (True, 3e-2)])
def test_a_network_computes_what_pytorchs_does_and_keeps_its_parameters(halved, tolerance):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
    net = copy.deepcopy(plain)
    compile_network(net)
    assert net._compiled_call_impl is not None and list(net.state_dict()) == list(plain.state_dict())
    for shape in ((2, 3, 12, 20), (1, 3, 7, 5)):
        frames, upstream = torch.randn(shape), torch.randn(shape[0], 4, shape[2] - 2, shape[3] - 2)
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


def test_a_network_that_rounds_while_it_trains_is_left_alone(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda net, **_: pytest.fail("compiled"))
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    quantize_training(net, blocks=False)
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


def test_without_a_compiler_one_line_says_so(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def missing():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(LibraryError, match="--compile needs a C\\+\\+ compiler"):
        check_compiler()
