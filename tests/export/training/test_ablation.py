import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.checkpoints.sources import SHIPPED
from export.registry import find
from export.training import ablation
from export.training import train as training
from export.training.ablation import START, VARIANTS, main, table_of
from export.training.checkpoint import save_weights
from export.training.recipe import DEFAULTS
from runtime.cli import DONE
from runtime.errors import WeightsError
from tests.helpers.labelled import write_pair

PAGE = Path(__file__).parents[3] / "docs/training.md"


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", (64, 128))
    monkeypatch.setattr(ablation, "VARIANTS", {START: (), "the defaults": (), "dice": ("--dice", "3")})
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 4)):
        for i in range(count):
            label = np.repeat(rng.integers(0, 12, (6, 1)), 8, axis=0).astype(np.uint8) * np.ones((1, 64), np.uint8)
            write_pair(tmp_path / "data", str(i), np.dstack([label * 20] * 3), label, split=split)
    save_weights(tmp_path / "start.safetensors", find("icnet").build(11, width=2), {"dataset": "camvid"})
    folders = ("--data", tmp_path / "data", "--out", tmp_path / "out", "--json", tmp_path / "a.json")
    more = ("--start", tmp_path / "start.safetensors", "--dataset", "camvid", "--crop", "32x32", "--every", 2)
    return [str(part) for part in (*folders, *more)]


def test_every_variant_is_trained_with_every_seed_from_one_start_and_measured_alike(given, tmp_path, capsys):
    assert main(given) == DONE
    result = json.loads((tmp_path / "a.json").read_text())
    assert [(row["variant"], row["seed"]) for row in result["rows"]] == [
        (START, 0), ("the defaults", 0), ("dice", 0), ("the defaults", 1), ("dice", 1)
    ]  # fmt: skip
    assert {row["frames"] for row in result["rows"]} == {2}
    assert [row["steps"] for row in result["rows"]] == [0, 1, 1, 1, 1]
    assert all(set(row["miou"]) == {"native", "64x128"} for row in result["rows"])
    assert capsys.readouterr().out.strip() == table_of(result)
    assert str(tmp_path) not in (tmp_path / "a.json").read_text()


def test_what_is_measured_is_not_measured_again(given, tmp_path, monkeypatch, capsys):
    main(given)
    before = capsys.readouterr().out
    monkeypatch.setattr(training, "job_of", None)
    main(given)
    assert capsys.readouterr().out == before


def test_another_recipe_by_default_is_measured_again(given, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    options = [*given, "--seeds", "0", "--out"]
    main([*options, str(first)])
    shutil.copytree(first, second)
    for checkpoint in second.glob("*/checkpoint.pt"):
        checkpoint.unlink()  # which would be refused, being of the recipe before
    old = json.loads((tmp_path / "a.json").read_text())["rows"]
    monkeypatch.setitem(DEFAULTS, "icnet", {**DEFAULTS["icnet"], "lr": 0.3, "weight_offset": 50.0, "dice": 9.0})
    main([*options, str(second)])
    new = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert new[0] == old[0]  # what is not trained is measured again, to the same
    assert new[1]["miou"] != old[1]["miou"]


def test_an_interrupted_one_has_the_rows_that_were_finished(given, tmp_path, monkeypatch):
    def interrupt(message):
        if message.startswith("the defaults, seed 0"):
            raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "log", interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(given)
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == [START, "the defaults"]


def test_a_table_has_a_row_a_variant_and_its_seeds_side_by_side():
    rows = [
        {"variant": "a", "seed": seed, "steps": 57, "frames": 2, "miou": {"native": 0.5 + seed / 100, "1x2": 0.25}}
        for seed in (0, 1)
    ]
    assert table_of({"rows": rows}).splitlines() == [
        "| variant | mIoU at native | mIoU at 1x2 | steps |",
        "|---|---|---|---|",
        "| a | 50.00, 51.00 | 25.00, 25.00 | 57 |",
    ]


def test_each_variant_changes_something_that_the_training_knows():
    common = ["--model", "icnet", "--dataset", "camvid", "--data", "d", "--out", "o"]
    recipes = [training.parse([*common, *options])[1] for options in VARIANTS.values()]
    assert len(set(map(str, recipes))) == len(VARIANTS) - 1  # the start and the defaults are one recipe


def test_readme_shows_the_figures_that_are_kept():
    kept = [json.loads(path.read_text()) for path in SHIPPED.glob("*-ablation.json")]
    assert kept and all(table_of(result) in PAGE.read_text() for result in kept)


@pytest.mark.parametrize("more", [["--every", "0"], ["--epochs", "0"], ["--crop", "x"], ["--seeds"]])
def test_an_option_out_of_its_range_is_a_usage_error(given, more):
    with pytest.raises(SystemExit) as raised:
        main([*given, *more])
    assert raised.value.code == 2


def test_a_start_that_nobody_ships_must_be_given(given):
    start = given.index("--start")
    with pytest.raises(WeightsError, match="no weights are shipped for icnet-caffe"):
        main([*given[:start], *given[start + 2 :], "--model", "icnet-caffe"])
