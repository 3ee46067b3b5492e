"""Planned anew with other options: what was done goes when what replaces it is there, and not before."""

import hashlib

import pytest

from runtime import cli
from runtime.errors import FrameError
from runtime.fleet import main, worker
from tests.helpers.fleet import PICTURES, do, fill, masks, plan, results, told

ALL = ("--save", "ids,color,overlay")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with inputs of which all kinds of masks were made."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "in")
    return tmp_path


def merge(out="out"):
    return main(["merge", "-o", out])


@pytest.fixture
def done(here, engine):
    plan(*ALL)
    assert do(engine) == cli.DONE and merge() == cli.DONE
    return here


def hold_to_one_run(here, engine, *words):
    """What lies in `out` is what a run into a new folder leaves."""
    plan(*words, out="anew")
    do(engine, out="anew")
    merge("anew")
    assert masks(here / "out") == masks(here / "anew")
    assert told(results(here / "out")) == told(results(here / "anew"))


@pytest.mark.parametrize("joined", [True, False])
def test_rows_joined_after_another_plan_lose_nothing_that_is_done(here, engine, joined, capsys):
    plan(*ALL)
    do(engine)
    if joined:
        merge()
    before = masks(here / "out")
    plan()
    assert merge() == cli.FAILED
    assert "have no row yet" in capsys.readouterr().err
    assert masks(here / "out") == before and {row.id for row in results(here / "out")}
    plan(*ALL)
    capsys.readouterr()
    assert do(engine) == cli.DONE and capsys.readouterr().out.startswith("0 items done")
    assert merge() == cli.DONE
    assert masks(here / "out") == before
    hold_to_one_run(here, engine, *ALL)


@pytest.mark.parametrize(
    "words", [[], ["--alpha", "0.2", "--save", "overlay"], ["--part-seconds", "0.9", "--alpha", "0.2", *ALL]]
)
def test_planned_anew_done_and_joined_in_the_middle_it_ends_with_the_new_masks_alone(done, engine, words):
    before = masks(done / "out")
    plan(*words)
    do(engine, "1/2")
    assert merge() == cli.FAILED
    there = masks(done / "out")
    rows = results(done / "out")
    assert {output.path for row in rows for output in row.outputs} == there.keys()
    new = {output.path for row in rows for output in row.outputs if there[output.path] != before.get(output.path)}
    assert new and any(there[path] == before[path] for path in there if path in before)
    assert do(engine, "2/2") == cli.DONE and merge() == cli.DONE
    hold_to_one_run(done, engine, *words)


def test_every_row_tells_the_bytes_that_its_files_have_also_where_two_plans_wrote_them(done, engine):
    for words in (["--part-seconds", "0"], ["--alpha", "0.2", *ALL], ["--part-seconds", "0.9", *ALL]):
        plan(*words)
        do(engine)
        plan(*ALL)
        assert merge() == cli.FAILED
        told_of = {output.path: output.sha256 for row in results(done / "out") for output in row.outputs}
        assert told_of == {path: hashlib.sha256(data).hexdigest() for path, data in masks(done / "out").items()}
    assert do(engine) == cli.DONE and merge() == cli.DONE
    hold_to_one_run(done, engine, *ALL)


def test_an_input_that_cannot_be_read_for_a_while_costs_no_mask(done, engine, monkeypatch):
    before = masks(done / "out")

    def fail(path):
        raise FrameError(f"{path}: cannot be read (the network is down)")

    plan("--alpha", "0.2", *ALL)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_frame", fail)
        assert do(engine) == cli.FAILED
    assert merge() == cli.FAILED
    pictures = {path for path in before if "png_" in path}
    assert len(pictures) == 3 * PICTURES and all(masks(done / "out")[path] == before[path] for path in pictures)
    assert do(engine, "1/1", "--retry-errors") == cli.DONE and merge() == cli.DONE
    hold_to_one_run(done, engine, "--alpha", "0.2", *ALL)


def test_a_picture_that_became_a_bad_file_keeps_no_mask_of_what_it_was(done, engine):
    (done / "in" / "1.png").write_bytes(b"no picture" * 10)
    plan(*ALL)
    assert do(engine) == cli.FAILED and merge() == cli.FAILED
    assert not [path for path in masks(done / "out") if "/1_png" in path]
    assert len([row for row in results(done / "out") if row.place == "in/1.png"]) == 1


def test_rows_are_joined_by_the_plan_that_is_there_and_not_by_inputs(done, capsys):
    before = masks(done / "out")
    for words in (["in"], ["--list", "names.txt"]):
        with pytest.raises(SystemExit) as ended:
            main(["merge", *words, "-o", "out"])
        assert ended.value.code == cli.USAGE and "takes no inputs: merge -o out" in capsys.readouterr().err
    assert merge() == cli.DONE and masks(done / "out") == before
