import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export.models.icnet import Guided
from export.training.losses import (
    CASCADE_WEIGHTS,
    LEAST_HARD,
    class_weights,
    cross_entropy,
    dice_loss,
    hard_pixels,
    resize_labels,
    segmentation_loss,
)
from runtime.labels import IGNORED

ONES = torch.ones(3)


def test_labels_are_resized_to_the_nearest_pixel_of_each_centre():
    labels = torch.arange(32, dtype=torch.uint8).reshape(1, 4, 8)
    assert resize_labels(labels, 1, 2).tolist() == [[[18, 22]]]
    assert torch.equal(resize_labels(labels, 4, 8), labels)


@pytest.mark.parametrize("size", [(2, 3), (5, 7), (9, 4), (1, 1)])
def test_resizing_labels_makes_up_no_id(size):
    labels = torch.tensor(np.random.default_rng(0).choice([0, 2, IGNORED], (2, 6, 10)).astype(np.uint8))
    resized = resize_labels(labels, *size)
    expected = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0]
    assert resized.dtype == torch.uint8 and torch.equal(resized.float(), expected)


def test_ignored_pixels_change_neither_loss_nor_gradient():
    logits = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[[0, 1, 2, IGNORED], [1, IGNORED, 0, 2]]], dtype=torch.uint8)
    loss = cross_entropy(logits, labels, ONES)
    counted = labels[0] != IGNORED
    expected = F.cross_entropy(logits[0][:, counted].T, labels[0][counted].long())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad[0][:, ~counted] == 0).all() and (logits.grad[0][:, counted] != 0).all()


def test_a_crop_without_any_class_has_a_loss_of_zero():
    labels = torch.full((1, 2, 2), IGNORED, dtype=torch.uint8)
    assert cross_entropy(torch.zeros(1, 3, 2, 2), labels, ONES).item() == 0


def test_a_rare_class_weighs_more_and_the_mean_pixel_weighs_one():
    weights = class_weights(np.array([8, 2]), 1.02)
    assert weights[1] / weights[0] == pytest.approx(np.log(1.02 + 0.8) / np.log(1.02 + 0.2))
    assert 0.8 * weights[0] + 0.2 * weights[1] == pytest.approx(1)


def test_cascade_guidance_weighs_the_three_outputs_as_the_paper():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1, 16, 16), generator=generator).to(torch.uint8)
    outputs = [torch.randn(1, 3, n, n, generator=generator) for n in (4, 2, 1)]
    parts = [cross_entropy(logits, labels, ONES) for logits in outputs]
    expected = sum(share * part for share, part in zip((1.0, 0.4, 0.16), parts, strict=True))
    torch.testing.assert_close(segmentation_loss(Guided(*outputs), labels, ONES), expected)
    assert CASCADE_WEIGHTS == (1.0, 0.4, 0.16)


def test_one_output_is_plain_cross_entropy():
    logits, labels = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert segmentation_loss(logits, labels, ONES).item() == pytest.approx(np.log(3))


def certain(*ids):
    """Logits that give each pixel's class, one row, a probability of 1, of three."""
    return 50 * F.one_hot(torch.tensor([list(ids)]), 3).movedim(-1, 1)[:, :, None].float()


def probabilities(*true):
    """Logits, and labels of class 0, whose probability in each pixel of a row is the one given."""
    odds = torch.tensor(true).logit()
    return torch.stack((odds, torch.zeros_like(odds)))[None, :, None], torch.zeros(1, 1, len(true), dtype=torch.uint8)


def test_dice_of_a_right_mask_is_zero_and_of_a_wrong_one_is_one():
    labels = torch.tensor([[[0, 1, 1, 2]]], dtype=torch.uint8)
    assert dice_loss(certain(0, 1, 1, 2), labels).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(certain(1, 2, 2, 0), labels).item() == pytest.approx(1, abs=1e-6)


def test_dice_is_the_mean_over_the_classes_that_are_there():
    # Class 0: one of two pixels right, 2 * 1 / (1 + 2); class 1: both and one too many, 2 * 2 / (3 + 2); no class 2.
    labels = torch.tensor([[[0, 0, 1, 1, IGNORED]]], dtype=torch.uint8)
    expected = ((1 - 2 / 3) + (1 - 4 / 5)) / 2
    assert dice_loss(certain(0, 1, 1, 1, 2), labels).item() == pytest.approx(expected, abs=1e-6)


def test_dice_of_an_undecided_pixel_is_known():
    # Probability 1/3 each: 2 * (1/3) / (1/3 + 1) for the class that is there.
    labels = torch.zeros(1, 1, 1, dtype=torch.uint8)
    assert dice_loss(torch.zeros(1, 3, 1, 1), labels).item() == pytest.approx(1 - (2 / 3) / (4 / 3))


def test_a_pixel_is_hard_below_the_threshold():
    logits, labels = probabilities(*[0.9, 0.69, 0.71, 0.2] * 8)
    labels[0, 0, 3] = IGNORED
    hard = hard_pixels(logits, labels.long(), 0.7)[0, 0]
    assert hard.tolist() == [False, True, False, False] + [False, True, False, True] * 7


def test_where_too_few_are_hard_the_hardest_are_taken():
    true = np.linspace(0.8, 0.99, 32).tolist()
    logits, labels = probabilities(*true)
    hard = hard_pixels(logits, labels.long(), 0.7)[0, 0]
    assert hard.tolist() == [True, True] + [False] * 30 and LEAST_HARD * 32 == 2
    assert hard_pixels(logits[..., :3], labels[..., :3].long(), 0.7).sum() == 1  # a sixteenth, rounded up


def test_only_hard_pixels_are_learnt_and_their_mean_is_taken():
    logits, labels = probabilities(0.9, 0.5, 0.25, 0.95)
    logits.requires_grad_()
    loss = cross_entropy(logits, labels, torch.tensor([2.0, 1.0]), ohem=0.7)
    assert loss.item() == pytest.approx(2 * (np.log(2) + np.log(4)) / 2)
    loss.backward()
    assert (logits.grad[0, 0, 0] != 0).tolist() == [False, True, True, False]


OPTIONS = [{"dice": 3.0}, {"ohem": 0.7}, {"dice": 3.0, "ohem": 0.7}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_crop_without_any_class_has_no_loss_and_no_gradient_whatever_the_options(options):
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = segmentation_loss(logits, torch.full((2, 8, 8), IGNORED, dtype=torch.uint8), ONES, **options)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_are_finite_however_sure_the_network_is(options, scale):
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(2, 3, 4, 4, generator=generator)).requires_grad_()
    labels = torch.randint(0, 4, (2, 4, 4), generator=generator).to(torch.uint8)
    labels[labels == 3] = IGNORED
    segmentation_loss(logits, labels, ONES, **options).backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, 0][labels == IGNORED].any()


def test_dice_is_added_with_its_weight_to_each_of_the_three_outputs():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1, 16, 16), generator=generator).to(torch.uint8)
    outputs = [torch.randn(1, 3, n, n, generator=generator) for n in (4, 2, 1)]
    parts = [cross_entropy(logits, labels, ONES) + 3 * dice_loss(logits, labels) for logits in outputs]
    expected = sum(share * part for share, part in zip((1.0, 0.4, 0.16), parts, strict=True))
    torch.testing.assert_close(segmentation_loss(Guided(*outputs), labels, ONES, dice=3.0), expected)


def test_at_the_labels_size_a_line_between_the_logits_counts():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, thin = torch.zeros(1, 16, 16, dtype=torch.uint8), torch.zeros(1, 16, 16, dtype=torch.uint8)
    thin[:, :, 5] = 1  # no centre of a logit lies on it
    coarse = [segmentation_loss(logits, labels, ONES) for labels in (plain, thin)]
    assert torch.equal(*coarse)
    fine = F.cross_entropy(F.interpolate(logits, size=(16, 16), mode="bilinear"), thin.long())
    torch.testing.assert_close(segmentation_loss(logits, thin, ONES, loss_at="labels"), fine)


def test_auxiliary_logits_keep_their_size_at_the_labels_size():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1, 16, 16), generator=generator).to(torch.uint8)
    outputs = [torch.randn(1, 3, n, n, generator=generator) for n in (4, 2, 1)]
    main, *others = outputs
    parts = [segmentation_loss(main, labels, ONES, loss_at="labels"), *(cross_entropy(o, labels, ONES) for o in others)]
    expected = sum(share * part for share, part in zip(CASCADE_WEIGHTS, parts, strict=True))
    torch.testing.assert_close(segmentation_loss(Guided(*outputs), labels, ONES, loss_at="labels"), expected)


def test_the_loss_of_each_of_the_three_outputs_is_the_one_given():
    outputs = [torch.randn(1, 3, n, n) for n in (4, 2, 1)]
    labels, seen = torch.zeros(1, 16, 16, dtype=torch.uint8), []
    segmentation_loss(
        Guided(*outputs),
        labels,
        ONES,
        dice=2.0,
        of_pixels=lambda logits, *_, **options: seen.append((len(logits[0, 0]), options)) or logits.sum(),
    )
    assert seen == [(n, {"dice": 2.0, "ohem": 0.0}) for n in (4, 2, 1)]
