import dataclasses

import numpy as np
import pytest
import torch

from export.registry import Normalization
from export.training import augment
from export.training import batches as module
from export.training.augment import NEAR, SCALES, WIDE, ScaleRange, random_view
from export.training.batches import Frames, batches, load_split, make_batch, normalize
from export.training.recipe import DEFAULTS, LARGE_SIDE, OTHERS, Recipe, Step, lr_share, plan_epoch
from runtime.accuracy.datasets import Pair, open_dataset
from runtime.errors import DatasetError
from runtime.labels import IGNORED
from tests.helpers.labelled import write_image, write_pair

RECIPE = Recipe("adamw", 1e-3, 1e-2, 4, (32, 32), 1.1, seed=3, epochs=2, minutes=0.0)


def test_an_epoch_takes_every_frame_once_in_an_order_of_its_own():
    plans = [plan_epoch(23, RECIPE, epoch) for epoch in (0, 0, 1)]
    orders = [[i for step in plan for i in step.indices] for plan in plans]
    assert sorted(orders[0]) == list(range(23))
    assert orders[0] == orders[1] != orders[2]


def test_a_large_step_sees_as_many_pixels_as_another():
    steps = plan_epoch(23, RECIPE, 0)
    assert [step.wide for step in steps[:4]] == [1 / 3, 1 / 3, 1 / 3, 1]
    assert steps[3].size == (32 * LARGE_SIDE, 32 * LARGE_SIDE)
    assert len(steps[3].indices) * LARGE_SIDE**2 == len(steps[0].indices)


@pytest.mark.parametrize(("large", "sizes"), [(3, [4, 4, 4, 3]), (0, [4, 4, 4, 4]), (None, [4, 4, 4, 1])])
def test_a_large_step_has_as_many_frames_as_are_asked_or_there_is_none(large, sizes):
    steps = plan_epoch(23, dataclasses.replace(RECIPE, large=large), 0)
    assert [len(step.indices) for step in steps[:4]] == sizes
    assert (steps[3].size == (32 * LARGE_SIDE, 32 * LARGE_SIDE)) is (large != 0)
    assert sorted(i for step in steps for i in step.indices) == list(range(23))


def test_without_wide_views_there_is_no_large_step_and_every_scale_is_near():
    recipe = dataclasses.replace(RECIPE, wide=0.0)
    steps = plan_epoch(23, recipe, 0)
    assert {(step.size, step.wide) for step in steps} == {((32, 32), 0.0)}
    frame = np.zeros((32, 32, 3), np.uint8)
    frames = Frames([(frame, np.tile(np.arange(32, dtype=np.uint8), (32, 1)))] * 40)
    widest = {}
    for wide in (0.0, 1.0):
        seen = make_batch(frames, Step(list(range(40)), (32, 32), wide), 0, 0).labels.numpy()
        # The side of a view in pixels of the frame: its columns count them, and what is beyond it is ignored.
        widest[wide] = np.mean([len(np.unique(ids[ids != IGNORED])) for ids in seen])
    assert widest[0.0] > 25 > 20 > widest[1.0]


def test_the_learning_rate_warms_up_then_falls_to_zero():
    shares = [lr_share(progress) for progress in np.linspace(0, 1, 101)]
    peak = int(np.argmax(shares))
    assert peak == 3 and shares[peak] == 1 and shares[-1] == 0 and 0 < shares[0] < 0.1
    assert shares[peak:] == sorted(shares[peak:], reverse=True)


def test_a_frame_at_its_own_scale_is_a_view_of_itself():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 11, (8, 12)).astype(np.uint8)
    frame = np.dstack([label * 20] * 3)
    ones = ScaleRange((1.0, 1.0), (1.0, 1.0))
    views = {random_view(frame, label, (8, 12), ones, np.random.default_rng(seed))[1].tobytes() for seed in range(20)}
    assert views == {label.tobytes(), label[:, ::-1].tobytes()}  # mirrored or not


def test_frame_and_label_of_a_view_stay_together():
    label = np.zeros((60, 80), np.uint8)
    label[20:40, 30:60] = 1
    for seed in range(20):
        frame = np.dstack([label * 200] * 3)
        view, ids = random_view(frame, label, (60, 80), SCALES[NEAR], np.random.default_rng(seed))
        inside, outside = view[ids == 1].mean(), view[ids == 0].mean()
        assert inside > outside + 100


def test_a_view_beyond_the_frame_is_ignored():
    label = np.zeros((10, 10), np.uint8)
    half = ScaleRange((0.5, 0.5), (1.0, 1.0))
    _, ids = random_view(np.zeros((10, 10, 3), np.uint8), label, (10, 10), half, np.random.default_rng(0))
    assert (ids == 0).sum() == pytest.approx(25, abs=11) and set(np.unique(ids)) == {0, IGNORED}


def test_jitter_moves_hue_and_saturation_as_far_as_it_says_and_neither_greys_nor_places(monkeypatch):
    for name in ("CONTRAST", "CHANNEL_GAIN", "BRIGHTNESS"):
        monkeypatch.setattr(augment, name, 0.0)
    ones, label = ScaleRange((1.0, 1.0), (1.0, 1.0)), np.arange(96, dtype=np.uint8).reshape(8, 12)
    frame = np.full((8, 12, 3), (170, 100, 90), np.uint8)
    frame[0] = 77
    angles, ratios = [], []
    for seed in range(300):
        plain, moved = (random_view(frame, label, (8, 12), ones, np.random.default_rng(seed), c) for c in (0.0, 1.0))
        assert np.array_equal(plain[0], frame) and np.array_equal(moved[1], plain[1])
        assert np.array_equal(moved[0][0], frame[0])
        was, now = (colors - colors.mean() for colors in (frame[1, 0].astype(float), moved[0][1, 0].astype(float)))
        assert moved[0][1, 0].mean() == pytest.approx(120, abs=0.5)
        ratios.append(np.linalg.norm(now) / np.linalg.norm(was))
        angles.append(np.degrees(np.arctan2(np.cross(was, now).sum() / 3**0.5, was @ now)))
    for found, (low, high), error in ((ratios, (0.5, 1.5), 0.03), (angles, (-20, 20), 2.5)):
        assert min(found) == pytest.approx(low, abs=error) and max(found) == pytest.approx(high, abs=error)
        assert np.mean(found) == pytest.approx((low + high) / 2, abs=2 * error)


def test_a_recipes_jitter_reaches_the_views():
    rng = np.random.default_rng(0)
    frames = Frames([(rng.integers(0, 256, (32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8))] * 4)
    plain, moved = (plan_epoch(4, dataclasses.replace(RECIPE, color=color), 0)[0] for color in (0.0, 1.0))
    seen = [make_batch(frames, step, 0, 0).frames for step in (plain, plain._replace(color=1.0), moved)]
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])


def test_the_scales_reach_from_small_to_the_deployed_size():
    down, across = 1024 / 360, 2048 / 480
    wide = SCALES[WIDE]
    assert wide.mean[1] >= (down * across) ** 0.5 * 0.99 and wide.aspect[1] >= across / down * 0.99
    assert SCALES[NEAR].mean[0] <= 0.75


def test_every_default_names_what_a_recipe_has():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert all(set(defaults) <= fields for defaults in DEFAULTS.values())
    later = {field.name: field.default for field in dataclasses.fields(Recipe)}
    assert all(OTHERS[name] == later[name] for name in ("dropout", "dice", "ohem", "wide", "width", "color"))


def test_batches_are_the_same_and_in_order_for_any_number_of_threads():
    frames = Frames([(np.full((8, 8, 3), i, np.uint8), np.full((8, 8), i, np.uint8)) for i in range(20)])
    steps = plan_epoch(20, RECIPE, 0)
    alone, many = ([*batches(frames, steps, 0, 0, workers)] for workers in (1, 5))
    assert [len(batch.labels) for batch in many] == [len(step.indices) for step in steps]
    assert all(
        torch.equal(a.frames, b.frames) and torch.equal(a.labels, b.labels) for a, b in zip(alone, many, strict=True)
    )


def test_normalizing_follows_the_network():
    frames = torch.tensor([10, 20, 40], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert normalize(frames, Normalization(scale=1.0)).flatten().tolist() == [10, 20, 40]
    other = Normalization(scale=0.5, mean=(1, 2, 3), std=(1, 2, 4), channel_order="BGR")
    assert normalize(frames, other).flatten().tolist() == [19, 4, 0.5]


@pytest.fixture
def data(tmp_path):
    """Five frames of 8x8 pixels, 256 bytes each with its label, that differ."""
    for i in range(5):
        write_pair(tmp_path, str(i), np.full((8, 8, 3), 10 * i), np.full((8, 8), i), split="train")
    return tmp_path


@pytest.mark.parametrize(("limit", "held"), [(0, 0), (1, 1), (512, 2), (513, 3), (5 * 256, 5), (1 << 30, 5)])
def test_a_split_is_the_same_however_much_of_it_is_in_memory(limit, held, data, monkeypatch):
    dataset = open_dataset("camvid", data)
    whole = load_split(dataset, "train")
    monkeypatch.setattr(module, "IN_MEMORY", limit)
    split = load_split(dataset, "train")
    assert sum(not isinstance(item, Pair) for item in split.items) == held and len(split) == 5
    assert [(int(f[0, 0, 0]), int(ids[0, 0])) for f, ids in split] == [(10 * i, i) for i in range(5)]
    fewer = load_split(dataset, "train", every=2)
    assert [[int(ids[0, 0]) for _, ids in some] for some in (split.every(2), fewer)] == [[0, 2, 4]] * 2
    one, other = ([*batches(frames, plan_epoch(5, RECIPE, 0), 0, 0, 2)] for frames in (whole, split))
    assert all(
        torch.equal(a.frames, b.frames) and torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True)
    )


def test_what_is_read_when_needed_is_not_kept(data, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    split = load_split(open_dataset("camvid", data), "train")
    assert split[1][0] is not split[1][0]
    write_image(data / "trainannot/1.png", np.full((8, 8), 3))
    assert (split[1][1] == 3).all()


def test_a_pair_that_does_not_fit_is_an_error_at_once_or_when_it_is_met(data, monkeypatch):
    write_image(data / "trainannot/3.png", np.zeros((8, 9)))
    dataset = open_dataset("camvid", data)
    with pytest.raises(DatasetError, match=r"3\.png"):
        load_split(dataset, "train")
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    split = load_split(dataset, "train")
    with pytest.raises(DatasetError, match=r"3\.png"):
        [*batches(split, [Step([0, 3], (8, 8), 0.0)], 0, 0, 1)]
