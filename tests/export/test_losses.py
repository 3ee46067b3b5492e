import numpy as np
import pytest
import torch
import torch.nn.functional as F

from export.losses import CASCADE_WEIGHTS, class_weights, cross_entropy, resize_labels, segmentation_loss
from export.models.icnet import Guided
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
    label = np.array([[0] * 8 + [1] * 2 + [IGNORED] * 5], np.uint8)
    weights = class_weights([label], 2, 1.02)
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
