"""The first word of `runtime.fleet`: `plan`, `merge`, one of them misspelt, or an input."""

import pytest

from runtime.fleet.options import options_of


@pytest.mark.parametrize("given", ["plan*", "plan?", "[m]erge", "merge*", "s3://plan", "file://plan"])
def test_a_glob_and_an_address_are_inputs_however_near_they_are_to_a_word(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = options_of([given])
    assert (options.word, options.inputs) == (None, [given])


@pytest.mark.parametrize("given", ["plans", "Merg"])
def test_a_path_that_does_not_exist_and_is_near_a_word_is_that_word_misspelt(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        options_of([given])
    assert f"{given}: does not exist (did you mean " in capsys.readouterr().err
    (tmp_path / given).mkdir()
    assert options_of([given]).inputs == [given]


def test_which_options_of_the_plan_are_typed_is_known():
    assert options_of(["plan", "in"]).given == ()
    options = options_of(["merge", "-o", "out", "--sav=color", "--part-seconds", "60"])
    assert (options.given, options.save, options.part_seconds) == (("save", "part_seconds"), ("color",), 60)
    assert (options.alpha, options.colors, options.fit) == (0.5, "own", None)
