import dataclasses
import errno
import io
import os
import random
import warnings

import pytest
import torch
from safetensors.torch import load_file

from export.registry import find
from export.training.checkpoint import State, before, load_checkpoint, save_checkpoint, save_weights
from export.training.curve import write_curve
from export.training.recipe import Recipe
from export.training.train import begin
from runtime.errors import WeightsError

RECIPE = Recipe("adamw", 1e-3, 1e-2, 4, (32, 32), 1.1, seed=3, epochs=2, minutes=0.0)
ROWS = [{"epoch": 1, "loss": "2.0", "miou": "nan"}]


def small_state():
    torch.manual_seed(0)
    net, ema = (torch.nn.Conv2d(3, 2, 3) for _ in range(2))
    state = State(net, ema, torch.optim.AdamW(net.parameters()))
    net(torch.ones(1, 3, 3, 3)).sum().backward()
    state.optimizer.step()
    return state


def test_a_checkpoint_of_another_recipe_is_refused_with_what_differs(tmp_path):
    state = begin(find("enet"), 3, RECIPE)
    save_checkpoint(tmp_path / "c.pt", state, RECIPE)
    with pytest.raises(WeightsError, match="another lr, seed"):
        load_checkpoint(tmp_path / "c.pt", state, dataclasses.replace(RECIPE, lr=1.0, seed=4))


def test_a_checkpoint_of_another_number_of_classes_is_refused_in_one_line(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, begin(find("enet"), 11, RECIPE), RECIPE)
    with pytest.raises(WeightsError, match="another network or number of classes; give another --out DIR"):
        load_checkpoint(path, begin(find("enet"), 5, RECIPE), RECIPE)


def test_a_checkpoint_from_before_an_option_goes_on_with_its_default(tmp_path):
    state, path = begin(find("enet"), 3, RECIPE), tmp_path / "c.pt"
    save_checkpoint(path, state, RECIPE)
    content = torch.load(path, weights_only=True)
    for later in ("dice", "ohem", "wide", "width", "color", "dataset", "start_sha256"):
        del content["recipe"][later]
    torch.save(content, path)
    load_checkpoint(path, state, dataclasses.replace(RECIPE, dataset="camvid"))
    with pytest.raises(WeightsError, match="another dice, wide;"):
        load_checkpoint(path, state, dataclasses.replace(RECIPE, dice=3.0, wide=0.0))


def test_minutes_may_change_but_not_turn_into_epochs(tmp_path):
    state, recipe = begin(find("enet"), 3, RECIPE), dataclasses.replace(RECIPE, minutes=5.0)
    save_checkpoint(tmp_path / "c.pt", state, recipe)
    load_checkpoint(tmp_path / "c.pt", state, dataclasses.replace(recipe, minutes=4.0))
    with pytest.raises(WeightsError, match="another minutes"):
        load_checkpoint(tmp_path / "c.pt", state, RECIPE)


class FullDisk(io.FileIO):
    """Half of what is written to it arrives."""

    def write(self, data):
        super().write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "disk full")


WRITERS = {
    "checkpoint": lambda path: save_checkpoint(path, small_state(), RECIPE),
    "weights": lambda path: save_weights(path, small_state().net, {}),
    "curve": lambda path: write_curve(path, ROWS),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fdopen", FullDisk)
    with pytest.raises(OSError, match="disk full"):
        write(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_weights_hold_no_batch_counter(tmp_path):
    save_weights(tmp_path / "w.safetensors", find("enet").build(3), {"model": "enet"})
    assert not any("num_batches" in key for key in load_file(tmp_path / "w.safetensors"))


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(tmp_path, monkeypatch):
    path, state = tmp_path / "c.pt", small_state()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        save_checkpoint(path, state, RECIPE)
    other = small_state()
    other.net.weight.data.zero_()
    load_checkpoint(path, other, RECIPE)
    assert torch.equal(other.net.weight, state.net.weight) and other.net.weight.device.type == "cpu"
    assert other.optimizer.state_dict()["state"][0]["exp_avg"].device.type == "cpu"


def written(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def whole():
    buffer = io.BytesIO()
    state = small_state()
    parts = {"net": state.net.state_dict(), "ema": state.ema.state_dict(), "optimizer": state.optimizer.state_dict()}
    torch.save({"recipe": dataclasses.asdict(RECIPE), **parts, "counters": (1, 2, 3.0), "rows": ROWS}, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


FOREIGN = {
    "empty": b"",
    "text": b"epoch,step\n" * 40,
    "cut": written(whole())[:-700],
    "weights alone": written(small_state().net.state_dict()),
    "a list": written([1, 2]),
    "a tensor": written(torch.ones(3)),
    "an object": written({"recipe": random.Random}),
    "another recipe": written({**whole(), "recipe": 5}),
    "no average": written({key: value for key, value in whole().items() if key != "ema"}),
    "another optimizer": written({**whole(), "optimizer": {"state": {}, "param_groups": []}}),
    "tensors that are none": written({**whole(), "net": {"weight": 1}}),
    "other counters": written({**whole(), "counters": (1, 2)}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_checkpoint_of_ours_is_one_line_that_says_what_to_do(content, tmp_path, recwarn):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged, or no checkpoint of a training; delete it to begin") as raised:
        load_checkpoint(path, small_state(), RECIPE)
    assert "\n" not in str(raised.value) and str(path) in str(raised.value) and not recwarn.list


def test_damage_anywhere_in_a_checkpoint_is_no_traceback(tmp_path):
    path, state = tmp_path / "checkpoint.pt", small_state()
    save_checkpoint(path, state, RECIPE)
    good, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(good)
        start = rng.randrange(len(damaged))
        damaged[start : start + rng.randrange(1, 30)] = rng.randbytes(rng.randrange(30))
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                load_checkpoint(path, small_state(), RECIPE)
            except WeightsError:
                refused += 1
    assert refused > 100


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path / "checkpoint.pt", small_state(), RECIPE)


def refused_or_before(path, state):
    """What `load_checkpoint` says of it: "refused", "before", or "taken"."""
    try:
        load_checkpoint(path, state, RECIPE)
    except WeightsError:
        return "refused"
    return "before" if state.step == 1 else "taken"


def test_no_flipped_bit_of_a_checkpoint_is_taken(tmp_path):
    path, rng, fresh = tmp_path / "checkpoint.pt", random.Random(0), small_state()
    save_checkpoint(path, small_state(), RECIPE)
    good = path.read_bytes()
    for _ in range(250):
        flipped = bytearray(good)
        flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        assert refused_or_before(path, fresh) == "refused"
    path.write_bytes(good)
    assert refused_or_before(path, fresh) == "taken"


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
def test_in_place_of_a_damaged_checkpoint_the_one_before_it_is_taken_and_said(at, tmp_path, capsys):
    path, state = tmp_path / "checkpoint.pt", small_state()
    state.step = 1
    save_checkpoint(path, state, RECIPE)
    state.step = 2
    save_checkpoint(path, state, RECIPE)
    assert refused_or_before(path, small_state()) == "taken" and not capsys.readouterr().err
    damaged = bytearray(path.read_bytes())
    damaged[int(at * (len(damaged) - 1))] ^= 1
    path.write_bytes(damaged)
    assert refused_or_before(path, small_state()) == "before"
    assert "the one before it is taken, checkpoint-before.pt" in capsys.readouterr().err
    before(path).write_bytes(path.read_bytes())
    assert refused_or_before(path, small_state()) == "refused"


def test_a_checkpoint_from_before_checksums_is_read(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(written({**whole(), "counters": (3, 4, 5.0)}))
    state = small_state()
    load_checkpoint(path, state, RECIPE)
    assert (state.epoch, state.step, state.spent_s) == (3, 4, 5.0)


def test_a_checkpoint_is_one_that_torch_reads(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", small_state(), RECIPE)
    assert set(torch.load(tmp_path / "checkpoint.pt", weights_only=True)) >= {"net", "ema", "recipe"}
