import pytest
import torch
from torch import nn

from export.compiled import CompiledPReLU, check_compiler, compile_prelus, compiled_loss
from export.losses import pixel_loss, segmentation_loss
from runtime.errors import LibraryError
from tests.helpers import cuda_on_cpu

needs_compiler = pytest.mark.skipif(cuda_on_cpu.compiler() is None, reason="no C++ compiler is installed")


def gradients(prelu, frames, upstream):
    x = frames.clone().requires_grad_()
    out = prelu(x)
    prelu.weight.grad = None
    out.backward(upstream)
    return out, x.grad, prelu.weight.grad


@needs_compiler
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_it_computes_what_pytorchs_does_and_keeps_the_parameters(kind, tolerance):
    torch.manual_seed(0)
    plain, net = nn.PReLU(16), nn.Sequential(nn.PReLU(16))
    compile_prelus(net)
    assert type(net[0]) is CompiledPReLU and list(net.state_dict()) == ["0.weight"]
    for shape in ((2, 16, 12, 20), (1, 16, 7, 3)):
        frames, upstream = (torch.randn(shape).to(kind, memory_format=torch.channels_last) for _ in range(2))
        frames[0, :, 0] = 0.0  # the slope at zero is the weight's, in both
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            found, expected = (gradients(prelu, frames, upstream) for prelu in (net[0], plain))
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * float(want.detach().abs().max()))
            assert got.stride() == want.stride()


@needs_compiler
def test_a_single_slope_for_all_channels_is_trained_too():
    torch.manual_seed(0)
    plain, compiled = nn.PReLU(), nn.PReLU()
    compile_prelus(compiled)
    frames, upstream = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    for got, want in zip(gradients(compiled, frames, upstream), gradients(plain, frames, upstream), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


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


@needs_compiler
def test_evaluation_is_pytorchs_own():
    prelu = nn.PReLU(3)
    compile_prelus(prelu)
    frames = torch.randn(1, 3, 4, 4)
    assert torch.equal(prelu.eval()(frames), nn.functional.prelu(frames, prelu.weight))
