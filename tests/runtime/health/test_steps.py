import sys

import pytest

from runtime.errors import EngineError, LibraryError
from runtime.health.steps import Note, Step, child, in_turn, tried


def raising(error):
    def try_():
        raise error

    return try_


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (EngineError("mend it"), "failed", "mend it"),
        (Note("slow"), "note", "slow"),
        (RuntimeError("a\nb"), "failed", "RuntimeError: a"),
        (AssertionError(), "failed", "AssertionError: no message"),
    ],
)
def test_whatever_goes_wrong_is_one_line(error, state, told):
    assert tried(Step("s", raising(error))) == ("s", state, told)


def test_after_the_first_that_fails_none_is_tried_but_a_note_stops_nothing():
    steps = [Step("a", lambda: "fine"), Step("b", raising(Note("slow"))), Step("c", raising(EngineError("no")))]
    found = in_turn([*steps, Step("d", lambda: pytest.fail("it was tried"))])
    assert [outcome.state for outcome in found] == ["ok", "note", "failed", "skipped"]


def test_a_library_that_crashes_hangs_or_is_missing_is_one_line_with_the_remedy():
    for code, told in (
        ("import os; os.kill(os.getpid(), 4)", "ended by signal 4"),
        ("import time; time.sleep(60)", "did not answer within 1 s"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("import sys; sys.exit(3)", "no message"),
    ):
        with pytest.raises(LibraryError, match=rf"{told}.*mend it") as error:
            child(code, "mend it", patience_s=1 if "sleep" in code else 60)
        assert "\n" not in str(error.value)


def test_what_a_child_prints_last_is_told():
    assert child("print('noise'); print('1.2')", "") == "1.2"
    assert child("import sys; print(sys.executable)", "") == sys.executable
