"""The gate's options: what is refused, and in which words."""

import pytest

from runtime import cli
from runtime.measure.gate.regress import SLOWER, main
from tests.helpers.gate import run


@pytest.mark.parametrize(
    "arguments",
    [["a.engine"], ["a", "b", "c"], ["a", "b", "--record", "c"], ["a", "--rounds", "0", "--record", "b"],
     ["a", "--baseline", "b", "--record", "c"], ["a", "b", "--counts-alone", "--budget-ms", "3"],
     *(["a", "b", bound, wrong] for bound in ("--margin", "--alpha", "--budget-ms", "--minutes", "--patience")
       for wrong in ("nan", "-1", "0", "x")),
     ["a", "b", "--seed", "-1"], ["a", "b", "--alpha", "60%"], ["a", "--record", "b", "--base-code", "c"],
     ["a", "--baseline", "b", "--across", "precision"], ["a", "b", "--counts-alone", "--minutes", "1"]],
)  # fmt: skip
def test_a_wrong_command_line_is_usage(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == cli.USAGE


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b", "--rounds", "8", "--batches", "1"], "--rounds times --batches must be 9 or more"),
        (["a", "b", "--rounds", "4", "--batches", "2", "--frames", "99"], "must be 9 or more"),
        (["a", "b", "--rounds", "12", "--batches", "1", "--alpha", "1e-6"], "must be 20 or more"),
        (["a", "--record", "b", "--rounds", "9"], "--rounds must be 12 or more"),
        (["a", "b", "--margin", "5"], "5 is 500 %: did you mean 0.05? If not, write 500%"),
        (["a", "b", "--margin", "1.5"], "did you mean 0.015?"),
        (["a", "b", "--alpha", "2"], "did you mean 0.02?"),
    ],
)
def test_what_can_never_conclude_or_is_hardly_meant_is_refused_with_what_to_give(arguments, told, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == cli.USAGE and told in capsys.readouterr().err.splitlines()[-1]


def test_a_margin_in_percent_is_taken_as_it_is_written(engines, speeds):
    speeds(10, 40)
    assert run(*engines, "--margin", "500%") == cli.DONE
    speeds(10, 11)
    assert run(*engines, "--margin", "5%") == SLOWER


def test_few_rounds_that_can_conclude_are_taken(engines, speeds):
    speeds(10, 10)
    assert main([*map(str, engines), "--rounds", "9", "--batches", "1", "--frames", "1"]) == cli.DONE
