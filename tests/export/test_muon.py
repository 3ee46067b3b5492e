import pytest
import torch
from torch import nn

from export.fake_quantize import quantize_training
from export.muon import KERNEL_SHARE, MOMENTUM, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (1, 9)])
def test_what_is_made_orthogonal_keeps_its_singular_vectors_alone(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T
    values = found.diagonal()
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(found, torch.diag(values), rtol=0, atol=1e-4)


def small():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 2, 1))
    return net.to(memory_format=torch.channels_last)


def step(net, optimizer, seed):
    optimizer.zero_grad()
    frames = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    net(frames).square().mean().backward()
    optimizer.step()


def test_all_but_the_kernels_before_a_norm_learns_as_sgd_does():
    (kernel, *rest), (_, *others) = small().parameters(), small().parameters()
    ours = Muon(net := small(), 0.1, 0.05)
    theirs = torch.optim.SGD(
        [{"params": [p], "weight_decay": 0.05 * (p.ndim > 1)} for p in others], 0.1, MOMENTUM, nesterov=True
    )
    learnt = list(net.parameters())[1:]
    for seed in range(4):
        gradients = [torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)) for p in others]
        for mine, other, gradient in zip(learnt, others, gradients, strict=True):
            mine.grad, other.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
        for mine, other in zip(learnt, others, strict=True):
            torch.testing.assert_close(mine, other)
    assert not any(torch.equal(mine, before) for mine, before in zip(learnt, rest, strict=True))
    assert torch.equal(next(net.parameters()), kernel)  # which had no gradient


@pytest.mark.parametrize("rounded", [False, True])
def test_a_kernel_before_a_norm_moves_by_a_share_of_its_own_norm(rounded):
    net = small()
    if rounded:
        quantize_training(net, blocks=False)
    optimizer = Muon(net, 0.1, 0.05)
    kernel = next(p for p in net.parameters() if p.shape == (8, 3, 3, 3))
    for seed in range(3):
        before = kernel.detach().clone()
        step(net, optimizer, seed)
        moved = (kernel - before).detach()
        assert float(moved.norm() / before.norm()) == pytest.approx(0.1 * KERNEL_SHARE, rel=1e-4)
        values = torch.linalg.svdvals(moved.flatten(1) / moved.norm())
        assert values[-1] > 0.4 * values[0]
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_a_kernel_whose_gradient_is_zero_stays():
    net = small()
    optimizer, kernel = Muon(net, 0.1, 0.05), net[0].weight
    before, kernel.grad = kernel.detach().clone(), torch.zeros_like(kernel)
    optimizer.step()
    assert torch.equal(kernel, before)


def test_what_is_not_trained_is_left_out():
    net = small()
    net[0].weight.requires_grad_(False)
    assert [len(group["params"]) for group in Muon(net, 0.1, 0.05).param_groups] == [0, 1, 4]
