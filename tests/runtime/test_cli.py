"""What every command does alike, on a terminal."""

import argparse
import os
import signal
import threading
import time

import pytest

from runtime import cli


@pytest.fixture
def terminal(monkeypatch):
    """Call it in the test: pytest changes stderr after the fixtures."""

    def now(redrawn_s=0.0):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setattr(cli, "REDRAWN_S", redrawn_s)

    return now


def test_a_bar_tells_how_many_how_fast_and_how_long(terminal, capsys):
    terminal()
    items = cli.progress([1, 2, 3, 4], "segment")
    next(items), next(items)
    time.sleep(0.1)
    next(items)
    line = capsys.readouterr().err.split("\r")[-1]
    assert line.startswith("segment [###############               ] 2/4 ") and line.endswith(" s left ")
    assert 0 < float(line.split()[-4].removesuffix("/s")) <= 20
    assert list(items) == [4] and capsys.readouterr().err.endswith("0 s left \n")


def test_work_that_comes_one_by_one_has_a_bar_too_and_one_that_underestimated_stays_full(terminal, capsys):
    terminal()
    assert list(cli.progress(iter("abc"), "segment", 2)) == ["a", "b", "c"]
    last = capsys.readouterr().err.split("\r")[-1]
    assert "[" + "#" * 30 + "] 3/2 " in last and " 0 s left" in last


def test_without_a_total_there_is_a_count(terminal, capsys):
    terminal()
    assert list(cli.progress(iter("abc"), "segment")) == ["a", "b", "c"]
    assert capsys.readouterr().err.split("\r")[-1].startswith("segment 3 ")


def test_a_bar_is_not_drawn_for_every_item(terminal, capsys):
    terminal(1000.0)
    list(cli.progress(range(1000), "segment"))
    assert capsys.readouterr().err.count("\r") <= 2


@pytest.mark.parametrize("items", [[1], []])
def test_one_item_has_no_bar(terminal, capsys, items):
    terminal()
    assert list(cli.progress(items, "segment")) == items
    assert capsys.readouterr().err.strip() == ""


def test_off_a_terminal_there_is_nothing(capsys):
    assert list(cli.progress(range(5), "segment")) == list(range(5))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends(number):
    before = signal.getsignal(number)
    with cli.interruptible() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(10)
    assert signal.getsignal(number) is before


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def use():
        with cli.interruptible() as stop:
            seen.append((stop.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "a"])
def test_a_bound_that_nothing_exceeds_is_no_number(text):
    assert cli.number_from_text("-0.5") == -0.5
    with pytest.raises(argparse.ArgumentTypeError, match="is not a finite number"):
        cli.number_from_text(text)
