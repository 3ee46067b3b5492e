"""`make train` and `make prune`, with a Python in their place that only keeps who made what from what."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.bare_make import bare_make

# As the commands do: export.prune writes anew, to other bytes, unless the same tensors are there (the first word of a
# file here); export.train refuses another start by its bytes, and writes its weights again whenever it is run.
COMMANDS = """
import itertools, os, pathlib, sys, time
given = dict(itertools.pairwise(sys.argv[1:]))
command, out = given["-m"], pathlib.Path(given["--out"])
with open("calls", "a") as calls:
    print(*sys.argv[2:], file=calls)
def made(what):
    return f"{what} {time.monotonic_ns()}"
if command == "export.prune":
    weights = given.get("--weights")
    tensors = (pathlib.Path(weights).read_text().split()[0] if weights else "shipped") + given["--keep"]
    if not (out.exists() and out.read_text().split()[0] == tensors):
        out.write_text(made(tensors))
elif command == "export.train":
    out.mkdir(parents=True, exist_ok=True)
    start = pathlib.Path(given["--start"]).read_text() if "--start" in given else "nothing"
    if (out / "checkpoint.pt").exists() and (out / "checkpoint.pt").read_text() != start:
        sys.exit("error: begun with another start")
    (out / "checkpoint.pt").write_text(start)
    (out / f"{given['--model']}-{given['--dataset']}.safetensors").write_text(made("trained:" + start.split()[0]))
    if "--stop" in sys.argv:
        sys.exit("interrupted")
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on the PATH")


@pytest.fixture
def make(tmp_path):
    """Runs `make` in a folder with the Makefile alone."""
    bare_make(tmp_path, f"#!{sys.executable}\n{COMMANDS}")
    (tmp_path / "d").mkdir()
    # Not the variables of a make that runs these tests, nor such as the Makefile takes from the environment.
    environment = {"PATH": os.environ["PATH"]}

    def run(*words):
        command = ["make", "--no-print-directory", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


def calls(folder):
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("target", ["train", "prune", "evaluate", "precisions", "sizes", "calib"])
@pytest.mark.parametrize(
    ("given", "said"), [("DATA=", "name the data set's folder: make {} DATA=path"), ("DATA=none", "no folder none")]
)
def test_without_the_data_sets_folder_nothing_is_begun(make, tmp_path, target, given, said):
    done = make(target, given)
    assert done.returncode == 2 and said.format(target) in done.stderr and done.stdout == ""
    assert not (tmp_path / "calls").exists() and not (tmp_path / "figures").exists()


def test_each_model_and_data_set_is_trained_in_a_folder_of_its_own(make, tmp_path):
    assert make("train", "MODEL=enet", "DATA=d").returncode == 0
    assert make("train", "DATASET=own", "DATA=d", "TRAIN_OPTIONS=--dice 3").returncode == 0
    assert make("train", "DATA=d", "OUT=other folder").returncode == 0
    assert (tmp_path / "artifacts/train/enet-camvid/enet-camvid.safetensors").exists()
    assert (tmp_path / "artifacts/train/icnet-own/icnet-own.safetensors").exists()
    assert (tmp_path / "other folder/icnet-camvid.safetensors").exists()
    assert calls(tmp_path)[1].endswith("--out artifacts/train/icnet-own --dice 3")


@pytest.mark.parametrize(("out", "prefix"), [([], "artifacts/prune/icnet-camvid"), (["OUT=p q/r"], "p q/r")], ids=str)
def test_a_second_pruning_starts_from_what_the_first_was_trained_to(out, prefix, make, tmp_path):
    done = make("prune", "DATA=d", *out)
    assert done.returncode == 0 and done.stdout.strip() == f"{prefix}-1of2/icnet-camvid.safetensors"
    trained = (tmp_path / done.stdout.strip()).read_text().split()[0]
    assert trained == "trained:trained:shipped3/41/2"
    assert {path.name for path in (tmp_path / f"{prefix}-3of4").iterdir()} == {
        "start.safetensors", "checkpoint.pt", "icnet-camvid.safetensors"
    }  # fmt: skip


def test_a_pruning_goes_on_where_it_was_stopped(make, tmp_path):
    assert make("prune", "DATA=d", "TRAIN_OPTIONS=--stop").returncode != 0
    before = (tmp_path / "artifacts/prune/icnet-camvid-3of4/start.safetensors").read_text()
    assert make("prune", "DATA=d").returncode == 0
    assert make("prune", "DATA=d").returncode == 0
    assert (tmp_path / "artifacts/prune/icnet-camvid-3of4/start.safetensors").read_text() == before


def test_a_start_is_not_overwritten_by_a_pruning_of_other_weights(make, tmp_path):
    assert make("prune", "DATA=d").returncode == 0
    before = {path: path.read_text() for path in tmp_path.glob("artifacts/prune/*/*")}
    (tmp_path / "mine.safetensors").write_text("mine")
    done = make("prune", "DATA=d", "WEIGHTS=mine.safetensors")
    first, *rest = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert (
        done.returncode != 0
        and not rest
        and first
        == (
            "error: the training in artifacts/prune/icnet-camvid-3of4 began from other weights; "
            "give the same WEIGHTS, or another folder: OUT=DIR"
        )
    )
    assert {path: path.read_text() for path in tmp_path.glob("artifacts/prune/*/*")} == before
    assert make("prune", "DATA=d", "WEIGHTS=mine.safetensors", "OUT=mine").stdout.strip().startswith("mine-1of2/")


def test_a_start_that_nothing_was_trained_from_is_made_again(make, tmp_path):
    make("prune", "DATA=d", "TRAIN_OPTIONS=--stop")
    folder = tmp_path / "artifacts/prune/icnet-camvid-3of4"
    (folder / "checkpoint.pt").unlink()
    (tmp_path / "mine.safetensors").write_text("mine")
    assert make("prune", "DATA=d", "WEIGHTS=mine.safetensors").returncode == 0
    assert (folder / "start.safetensors").read_text().startswith("mine3/4")


@pytest.mark.parametrize("target", ["train", "prune"])
def test_help_names_the_variable_of_the_folder(target, make):
    line = next(line for line in make("help").stdout.splitlines() if line.split()[1:2] == [target])
    assert " OUT " in line and f"artifacts/{target}/MODEL-DATASET" in line
