"""What every command does alike, on a terminal."""

import argparse
import os
import signal
import threading
import time

import pytest

from runtime import cli


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
