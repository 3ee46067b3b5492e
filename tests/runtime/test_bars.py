"""Progress as a terminal, a pipe and a notebook get it."""

import subprocess
import sys
from types import ModuleType

import pytest

from runtime import bars, cli
from tests.helpers.terminal import terminal_lines


@pytest.fixture
def terminal(monkeypatch):
    """Call it in the test: pytest changes stderr after the fixtures."""

    def now(redrawn_s=0.0):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setattr(bars, "REDRAWN_S", redrawn_s)

    return now


def test_a_bar_tells_how_many_how_fast_and_how_long(terminal, capsys):
    terminal()
    items = cli.progress([1, 2, 3, 4], "segment", unit="frame")
    next(items), next(items), next(items)
    line = terminal_lines(capsys.readouterr().err)[0]
    assert line.startswith("segment:  50%|") and "2/4 [00:00<00:00, " in line and line.endswith("frame/s]")
    assert list(items) == [4]
    assert terminal_lines(capsys.readouterr().err)[-1].startswith("segment: 100%|")


def test_work_that_comes_one_by_one_has_a_bar_too_and_one_that_underestimated_counts_on(terminal, capsys):
    terminal()
    assert list(cli.progress(iter("abc"), "segment", 2)) == ["a", "b", "c"]
    shown = capsys.readouterr().err
    assert "2/2 [" in shown and terminal_lines(shown)[-1].startswith("segment: 3it [")


def test_without_a_total_there_is_a_count(terminal, capsys):
    terminal()
    assert list(cli.progress(iter("abc"), "segment")) == ["a", "b", "c"]
    assert terminal_lines(capsys.readouterr().err)[-1].startswith("segment: 3it [")


def test_a_bar_is_not_drawn_for_every_item(terminal, capsys):
    terminal(1000.0)
    list(cli.progress(range(1000), "segment"))
    assert capsys.readouterr().err.count("%|") <= 2


@pytest.mark.parametrize("items", [[1], []])
def test_one_item_has_no_bar(terminal, capsys, items):
    terminal()
    assert list(cli.progress(items, "segment")) == items
    assert capsys.readouterr().err == ""


def test_a_bar_within_a_bar_has_the_next_line_and_only_the_outer_one_stays(terminal, capsys):
    terminal()
    for _ in cli.progress(range(2), "outer"):
        for _ in cli.progress(range(3), "inner"):
            pass
        both = capsys.readouterr().err
        assert "inner: 100%" in both and "\n" in both
    assert [line.split(":")[0] for line in terminal_lines(both + capsys.readouterr().err)] == ["outer"]


def test_a_line_is_printed_above_the_bar(terminal, capsys):
    terminal()
    for item in cli.progress(range(2), "segment"):
        cli.log(f"said {item}")
    shown = [line.split(":")[0] for line in terminal_lines(capsys.readouterr().err)]
    assert shown == ["said 0", "said 1", "segment"]


def test_the_line_of_an_error_is_the_last_with_no_bar_behind_it(terminal, capsys):
    def main(argv):
        for item in cli.progress(range(9), "segment"):
            if item == 3:
                raise KeyboardInterrupt
        return cli.DONE

    terminal()
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == cli.INTERRUPTED
    shown = terminal_lines(capsys.readouterr().err)
    assert "3/9" in shown[0] and shown[1:] == ["error: interrupted; what was finished is kept"]


def test_off_a_terminal_short_work_says_nothing(capsys):
    assert list(cli.progress(range(5), "segment")) == list(range(5))
    assert capsys.readouterr().err == ""


def test_in_a_pipe_long_work_says_a_plain_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(bars, "LINE_S", 0.2)
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    for _ in cli.progress(range(10), "calibrate", unit="frame"):
        now[0] += 0.11
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "calibrate: 2/10 [00:00<00:00,  9.09frame/s]"
    assert len(lines) == 5
    assert not any(sign in line for line in lines for sign in "\r\x1b█")


def test_two_bars_in_a_pipe_are_plain_lines_too(capsys, monkeypatch):
    monkeypatch.setattr(bars, "LINE_S", 0.0)
    for _ in cli.progress(range(2), "outer"):
        list(cli.progress(range(2), "inner"))
    lines = capsys.readouterr().err.splitlines()
    assert {line.split(":")[0] for line in lines} == {"outer", "inner"} and "\x1b" not in "".join(lines)


def test_a_notebook_gets_its_own_bar(monkeypatch):
    made = []
    notebook = ModuleType("tqdm.auto")
    notebook.tqdm = lambda **given: made.append(given)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", notebook)
    bars.bar("segment", 3, "frame")
    assert made[0]["desc"] == "segment" and made[0]["total"] == 3 and "file" not in made[0]


def test_without_a_stderr_the_work_is_done_all_the_same(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(cli.progress(range(3), "segment")) == [0, 1, 2]
    cli.log("nobody hears it")


def test_tqdm_is_loaded_with_the_first_bar_alone():
    code = (
        "import sys, runtime, runtime.infer, runtime.cli as cli; list(cli.progress([1], 'a')); cli.log('b');"
        "print('tqdm' in sys.modules); list(cli.progress([1, 2], 'a')); print('tqdm' in sys.modules, "
        "'IPython' in sys.modules, 'asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False", "False"]
