import pytest
import torch
from torch import nn

from export.registry import find
from export.training.fake_quantize import quantize_training
from export.training.muon import KERNEL_SHARE, MOMENTUM, Muon, orthogonal

CLASSES, LR, DECAY = 2, 0.1, 0.05


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (1, 9)])
def test_what_is_made_orthogonal_keeps_its_singular_vectors_alone(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonal(matrix) @ right.T
    values = found.diagonal()
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(found, torch.diag(values), rtol=0, atol=1e-4)


def test_what_has_hardly_a_direction_stays_small():
    matrix = torch.diag(torch.tensor([1.0, 1e-4, 0.0]))
    values = orthogonal(matrix).diagonal()
    assert values[0] > 0.6 and 0 < values[1] < 0.1 and values[2] == 0
    assert torch.equal(orthogonal(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert orthogonal(1e-30 * torch.ones(2, 3)).abs().max() < 1e-9  # whose squares are zero in float32


def small():
    torch.manual_seed(0)
    inner = (
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.ConvTranspose2d(8, 6, 2),
        nn.BatchNorm2d(6),
    )
    return nn.Sequential(*inner, nn.Conv2d(6, CLASSES, 1)).to(memory_format=torch.channels_last)


def kernels_of(net):
    return [
        parameter for parameter in net.parameters() if parameter.ndim == 4 and parameter.shape != (CLASSES, 6, 1, 1)
    ]


def random_gradient(like, seed):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def test_all_but_the_kernels_before_a_norm_learns_as_sgd_does():
    kernels = kernels_of(small())
    net, other = small(), small()
    learnt, others = ([p for p in n.parameters() if p.shape not in {k.shape for k in kernels}] for n in (net, other))
    ours = Muon(net, CLASSES, LR, DECAY)
    groups = [{"params": [p], "weight_decay": DECAY * (p.ndim > 1)} for p in others]
    theirs = torch.optim.SGD(groups, LR, MOMENTUM, nesterov=True)
    before = [p.detach().clone() for p in learnt]
    for seed in range(4):
        for mine, its in zip(learnt, others, strict=True):
            mine.grad, its.grad = random_gradient(mine, seed), random_gradient(mine, seed)
        ours.step()
        theirs.step()
        for mine, its in zip(learnt, others, strict=True):
            torch.testing.assert_close(mine, its)
    assert not any(torch.equal(mine, old) for mine, old in zip(learnt, before, strict=True))
    for mine, old in zip(kernels_of(net), kernels, strict=True):
        assert torch.equal(mine, old)  # they had no gradient


@pytest.mark.parametrize("rounded", [False, True])
def test_a_kernel_before_a_norm_moves_against_the_momentum_made_orthogonal(rounded):
    net = small()
    if rounded:
        quantize_training(net, blocks=False)
    optimizer = Muon(net, CLASSES, LR, DECAY)
    for kernel in kernels_of(net):
        momentum = torch.zeros_like(kernel)
        for seed in range(3):
            before, kernel.grad = kernel.detach().clone(), random_gradient(kernel, seed)
            momentum = MOMENTUM * momentum + kernel.grad
            direction = orthogonal((kernel.grad + MOMENTUM * momentum).flatten(1)).view_as(kernel)
            optimizer.step()
            expected = LR * KERNEL_SHARE * before.norm() * direction / direction.norm()
            torch.testing.assert_close(before - kernel.detach(), expected, rtol=1e-4, atol=1e-6)
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        kernel.grad = None


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(6, 12, 3, groups=3), nn.ConvTranspose2d(6, 12, 3, groups=3), nn.Conv2d(6, 6, 3, groups=6)]
)
def test_of_a_kernel_in_groups_each_is_made_orthogonal_by_itself(layer):
    optimizer, before = Muon(nn.Sequential(layer), CLASSES, LR, DECAY), layer.weight.detach().clone()
    layer.weight.grad = random_gradient(layer.weight, 0)
    optimizer.step()
    parts = [orthogonal(part.flatten(1)) for part in layer.weight.grad.chunk(layer.groups)]
    direction = torch.cat(parts).view_as(before)
    expected = LR * KERNEL_SHARE * before.norm() * direction / direction.norm()
    torch.testing.assert_close(before - layer.weight.detach(), expected, rtol=1e-4, atol=1e-6)
    largest = [torch.linalg.svdvals(part).max() for part in parts]
    assert max(largest) < 1.3 and min(largest) > 0.6


def test_a_kernel_that_no_gradient_reaches_stays_however_long():
    net = small()
    optimizer, kernel = Muon(net, CLASSES, LR, DECAY), net[0].weight
    kernel.grad = random_gradient(kernel, 0)
    optimizer.step()
    before, kernel.grad = kernel.detach().clone(), torch.zeros_like(kernel)
    for _ in range(1000):
        optimizer.step()
    assert torch.equal(kernel, before)
    kernel.grad = random_gradient(kernel, 1) * 1e-20
    optimizer.step()
    assert kernel.isfinite().all()


def test_what_is_not_trained_is_left_out_and_a_closure_is_refused():
    net = small()
    net[0].weight.requires_grad_(False)
    optimizer = Muon(net, CLASSES, LR, DECAY)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 7]
    with pytest.raises(ValueError, match="no closure"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("model", ["enet", "enet-davidtvs", "icnet", "icnet-mmseg-r18", "fast-scnn"])
def test_a_norm_follows_every_kernel_that_is_made_orthogonal_and_no_other(model):
    # A network says it itself: a kernel before a norm may be doubled, bias and all, without any change of its logits.
    net = find(model).build(7)
    optimizer = Muon(net, 7, LR, DECAY)
    chosen = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    others = {name for name, p in net.named_parameters() if p.ndim == 4 and id(p) not in chosen}
    assert others and all(7 in net.get_parameter(name).shape[:2] for name in others)
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 64, 64)
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12
    with torch.no_grad():
        before = net(frames)
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and id(module.weight) in chosen:
                module.weight *= 2
                if module.bias is not None:
                    module.bias *= 2
        after = net(frames)
    for old, new in zip(*((out if isinstance(out, tuple) else (out,)) for out in (before, after)), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-3 * float(old.abs().max()))
