import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from export import registry
from export.models import enet
from export.models.enet import ENet
from export.models.icnet import Guided, ICNet, double, halve
from runtime import reference
from tests.helpers import golden
from tests.helpers.networks import every_network, multiply_accumulates, parameters, seeded, size_of

AUXILIARY = ("conv6_sub4", "conv6_sub2")
# The golden values are kept to 8 digits; float64 rounds at 1e-16, which depth amplifies to 1e-12 at most.
GOLDEN_SHARE = 1e-7
# A rewrite that is algebra differs by rounding alone, and float64 leaves none to speak of.
ALGEBRA_SHARE = 1e-10
# The pyramid's matrices are float32, as is what it is compared with: averages of up to 2145 cells in another order.
PYRAMID = 1e-5


def share_of_range(got, expected):
    return float((got - expected).abs().max() / (expected.max() - expected.min()))


@pytest.mark.parametrize(("classes", "count"), [(12, 363_856), (19, 364_311), (20, 364_376)])
def test_enet_has_the_parameters_of_the_authors_network(classes, count):
    assert parameters(ENet(classes)) == count


@pytest.mark.parametrize(
    ("height", "width", "published"), [(1024, 2048, "15.69"), (512, 1024, "3.922"), (360, 640, "1.724")]
)
def test_enet_costs_what_is_published(height, width, published):
    cost = multiply_accumulates(ENet(19), height, width) / 1e9
    assert f"{cost:#.4g}" == published


def test_icnet_has_the_parameters_of_the_release():
    assert parameters(ICNet(19), *AUXILIARY) == 6_699_987  # 6.700 M


def test_icnet_before_pruning_has_the_parameters_of_the_paper():
    assert parameters(ICNet(19, width=64), *AUXILIARY) == 25_524_659  # 25.52 M


def test_icnet_costs_what_the_release_costs():
    # 29.81 G at the release's size, whose corners are aligned.
    assert multiply_accumulates(ICNet(19, align_corners=True), 1025, 2049) == 29_811_584_064


def test_icnet_before_pruning_costs_what_is_published():
    cost = multiply_accumulates(ICNet(19, width=64, align_corners=True), 1025, 2049) / 1e9
    assert f"{cost:.1f}" == "90.2"


@pytest.mark.parametrize("name", every_network())
def test_every_stage_gives_its_golden_values(name):
    expected = json.loads(golden.path_of(name).read_text())
    found = golden.stages(name)
    assert list(found) == list(expected)
    wrong = {stage: (found[stage], kept) for stage, kept in expected.items() if not same(found[stage], kept)}
    assert wrong == {}, "if it was meant: python -m tests.helpers.golden"


def same(found, kept):
    *_, lowest, highest = kept["mean_std_min_max"]
    close = {"rtol": 0, "atol": GOLDEN_SHARE * (highest - lowest)}
    return found["shape"] == kept["shape"] and all(
        np.allclose(found[key], kept[key], **close) for key in ("mean_std_min_max", "values")
    )


@pytest.mark.parametrize("name", every_network())
def test_the_logits_have_the_stride_that_the_registry_says(name):
    entry = registry.find(name)
    network = entry.build(7).eval()
    for height, width in (size_of(entry, entry.size_multiple, entry.size_multiple), size_of(entry)):
        with torch.inference_mode():
            logits = network(torch.zeros(2, 3, height, width))
        assert logits.shape == (2, 7, *(-(-side // entry.output_stride) for side in (height, width)))


# The smallest map, where ICNet's fusions are too small for strips, and ones where each has strips around a middle.
@pytest.mark.parametrize(("height", "width"), [(32, 64), (96, 160)])
@pytest.mark.parametrize("name", every_network())
def test_a_deployed_form_is_its_network_whatever_the_gain(name, height, width):
    entry = registry.find(name)
    size = size_of(entry, height, width)
    network = seeded(entry.build(5)).double()
    rng = np.random.default_rng(1)
    gain = torch.from_numpy(rng.uniform(0.1, 2, 3))
    frame = torch.from_numpy(rng.normal(size=(1, 3, *size)))
    with torch.inference_mode():
        expected = network(frame * gain.reshape(1, 3, 1, 1))
        blocks = entry.deploy(network, gain)(frame)
    step = entry.output_stride * entry.block
    assert blocks.shape == (1, 5 * entry.block**2, *(-(-n // step) for n in size))
    got = torch.from_numpy(reference.unblock(blocks.numpy(), entry.block).copy())
    assert share_of_range(got, expected) < ALGEBRA_SHARE


@pytest.mark.parametrize("name", every_network())
def test_deploying_leaves_the_network_as_it_was(name):
    entry = registry.find(name)
    network = seeded(entry.build(5))
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    entry.deploy(network, torch.tensor([2.0, 3.0, 4.0]))
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_enet_can_stop_after_its_encoder():
    network = ENet(7, encoder_only=True).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 128)).shape == (2, 7, 8, 16)


def test_enets_encoder_goes_into_the_whole_network():
    encoder, whole = ENet(7, encoder_only=True), ENet(7)
    missing, extra = whole.load_state_dict(encoder.state_dict(), strict=False)
    assert extra == ["encoder_classifier.weight", "encoder_classifier.bias"]
    assert {name.split(".")[0] for name in missing} == {
        *(f"bottleneck{name}" for name, *_ in enet.DECODER), "fullconv"
    }  # fmt: skip


def test_enet_drops_a_hundredth_then_a_tenth_and_nothing_in_the_decoder():
    network = ENet(7)
    rates = {name: getattr(network, f"bottleneck{name}").dropout.p for name, *_ in enet.ENCODER + enet.DECODER}
    assert rates == {name: {"1": 0.01, "2": 0.1, "3": 0.1}.get(name[0], 0) for name in rates}


def test_icnet_in_training_returns_its_two_auxiliary_outputs():
    guided = ICNet(7).train()(torch.zeros(2, 3, 64, 128))
    assert isinstance(guided, Guided)
    assert [tuple(logits.shape) for logits in guided] == [(2, 7, 16, 32), (2, 7, 8, 16), (2, 7, 4, 8)]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 2), (2, 4), (7, 5), (33, 65)])
def test_the_pyramid_is_the_sum_of_resized_adaptive_averages(size, align_corners):
    network = ICNet(3, width=1, align_corners=align_corners)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 4, *size)).astype(np.float32))
    expected = x + sum(
        F.interpolate(F.adaptive_avg_pool2d(x, bins), size, mode="bilinear", align_corners=align_corners)
        for bins in (1, 2, 3, 6)
    )
    torch.testing.assert_close(network.pyramid(x), expected, rtol=0, atol=PYRAMID)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1)])
def test_the_pyramid_of_a_single_row_or_column_can_be_exported(size):
    # torch.export runs the network on tensors without values, which refuse views that real ones copy.
    with FakeTensorMode():
        ICNet(3, width=1).pyramid(torch.zeros(1, 4, *size))


@pytest.mark.parametrize(("align_corners", "size", "half"), [(False, (8, 12), (4, 6)), (True, (9, 13), (5, 7))])
def test_halving_and_doubling_are_bilinear_resizing(align_corners, size, half):
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 2, *size)))
    resize = {"mode": "bilinear", "align_corners": align_corners}
    halved = halve(x, align_corners=align_corners)
    torch.testing.assert_close(halved, F.interpolate(x, half, **resize))
    torch.testing.assert_close(double(halved, align_corners=align_corners), F.interpolate(halved, size, **resize))
