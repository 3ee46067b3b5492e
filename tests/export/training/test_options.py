import pytest
import torch

from export.registry import find
from export.training.muon import Muon
from export.training.options import RANGES, command_of, default_of, make_parser
from export.training.recipe import DEFAULTS, OTHERS
from export.training.train import begin, parse
from runtime.errors import LibraryError, WeightsError


def options(*more, model="enet"):
    return [str(part) for part in ("--model", model, "--dataset", "camvid", "--data", "d", "--out", "o", *more)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dice", "-1"], "--dice is -1.0, expected 0 to 1000"),
        (["--dice", "nan"], "--dice is nan"),
        (["--ohem", "1.5"], "--ohem is 1.5, expected 0 to 1"),
        (["--wide", "2"], "--wide is 2.0, expected 0 to 1"),
        (["--epochs", "-1"], "--epochs: '-1' is not a count, 1 to 1000000"),
        (["--epochs", "0"], "--epochs: '0' is not a count, 1 to 1000000"),
        (["--validate-every", "0"], "--validate-every: '0' is not a count, 1 to 1000000"),
        (["--batch", "0"], "--batch: '0' is not a count, 1 to 1000000"),
        (["--workers", "0"], "--workers: '0' is not a count, 1 to 1000000"),
        (["--minutes", "-5"], "--minutes is -5.0, expected 0 to 1000000"),
        (["--minutes", "inf"], "--minutes is inf, expected 0 to 1000000"),
        (["--lr", "0"], "--lr is 0.0, expected 1e-09 to 1000"),
        (["--lr", "-0.1"], "--lr is -0.1, expected 1e-09 to 1000"),
        (["--seed", "-1"], "--seed: '-1' is not a seed, 0 to 4294967295"),
        (["--weight-offset", "1"], "--weight-offset is 1.0, expected 1.001 to 1000000"),
        (["--weight-decay", "-1"], "--weight-decay is -1.0, expected 0 to 1000"),
        (["--dropout", "1.1"], "--dropout is 1.1, expected 0 to 1"),
        (["--width", "0"], "--width 0"),
        (["--crop", "176x240"], "multiples of 32 for icnet; nearest is 192x256"),
        (["--model", "icnet-caffe"], "cannot be trained"),
        (["--width", "8", "--model", "enet"], "for a network that can have several"),
        (["--width", "8", "--start", "w.safetensors"], "those of --start have a width of their own"),
        (["--encoder-only"], "are for --model enet"),
        (["--decoder-only"], "are for --model enet"),
        (["--model", "enet", "--encoder-only", "--decoder-only"], "are two stages: give one"),
        (["--qat"], "give --start WEIGHTS"),
    ],
    ids=str,
)
def test_options_that_no_training_can_have_are_a_usage_error(more, said, capsys):
    with pytest.raises(SystemExit) as raised:
        parse(options(*more, model="icnet"))
    assert raised.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


def test_the_ends_of_a_range_may_be_given():
    for end in (0, 1):
        given = [word for name, ends in RANGES.items() for word in (f"--{name.replace('_', '-')}", ends[end])]
        args, recipe = parse(options(*given))
        assert recipe.lr == RANGES["lr"][end] and args.seed == RANGES["seed"][end]


def test_every_range_is_of_an_option():
    assert vars(make_parser().parse_args(options())).keys() >= RANGES.keys()


# Changing a default changes what "the same recipe" means to a checkpoint: on purpose only.
@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("enet", ("adamw", 3e-3, 1e-2, (240, 320), 1.05, 1.0, 0.0, "logits")),
        ("icnet", ("sgd", 0.04, 5e-4, (352, 480), 1.05, 1.0, None, "labels")),
        ("icnet-mmseg-r18", ("adamw", 1e-3, 1e-2, (352, 480), 1.1, 0.0, None, "logits")),
    ],
)
def test_a_model_is_trained_by_its_own_recipe_where_nothing_else_is_given(model, recipe):
    found = parse(options(model=model))[1]
    wide = OTHERS["wide"]
    assert (found.optimizer, found.lr, found.weight_decay, found.crop, found.weight_offset) == recipe[:5]
    assert (found.dice, found.dropout, found.loss_at, found.wide) == (*recipe[5:], wide)


@pytest.mark.parametrize(("asked", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("muon", Muon)])
def test_the_optimizer_is_the_one_that_is_asked_for(asked, kind):
    recipe = parse(options("--optimizer", asked, "--lr", 0.25, model="icnet"))[1]
    optimizer = begin(find("icnet"), 11, recipe).optimizer
    assert type(optimizer) is kind and {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_help_tells_the_default_of_each_model():
    text = " ".join(make_parser().format_help().split())
    assert default_of("lr") == "icnet 0.04, enet 0.003, others 0.001"
    assert default_of("ohem") == "default 0.0"
    assert all(
        default_of(key) in text for key in ("optimizer", "lr", "weight_decay", "weight_offset", "dice", "loss_at")
    )
    assert DEFAULTS["enet"]["dropout"] == 0 and "enet 0, others their paper's" in text


def test_the_weights_name_their_command_without_folders_of_the_machine(tmp_path):
    folders = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--start", tmp_path / "w.safetensors")
    given = [str(word) for word in ("--model", "enet", *folders)]
    assert command_of(given) == "python -m export.train --model enet --data data --out out --start w.safetensors"


def test_training_on_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LibraryError, match="no CUDA device"):
        parse(options("--device", "cuda"))


def test_a_start_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        parse(options("--start", tmp_path / "absent.safetensors"))
