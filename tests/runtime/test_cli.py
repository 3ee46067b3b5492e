"""What every command does alike, on a terminal."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime import cli
from runtime.errors import PipelineError

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    "text", ["0", "-1", "", "1.5", "nan", "99999999999999999999", "1000001", "１２", "1e3", " 1", "x" * 9999]
)
def test_a_count_is_a_whole_number_within_bounds(text):
    assert cli.count_from_text("1000000") == cli.MOST_COUNTED and cli.amount_from_text("0") == 0
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        cli.count_from_text(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["-1", "4294967296", "99999999999999999999", "", "0x1"])
def test_a_seed_is_one_that_every_generator_takes(text):
    assert cli.seed_from_text("4294967295") == cli.MOST_SEED
    with pytest.raises(argparse.ArgumentTypeError, match="is not a seed, 0 to 4294967295"):
        cli.seed_from_text(text)


@pytest.mark.parametrize("text", ["0x1", "1x0", "99999999999x1", "1x32769", "１x2", "1x", "x", "1x2x3"])
def test_a_size_is_one_that_a_network_can_have(text):
    assert cli.size_from_text("1x32768") == (1, 32768)
    with pytest.raises(argparse.ArgumentTypeError):
        cli.size_from_text(text)


def ended(main, monkeypatch) -> int:
    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code


def raised(error):
    def main(_):
        raise error

    return main


def test_a_librarys_untyped_want_of_memory_is_one_line_and_other_faults_are_seen(monkeypatch, capsys):
    assert ended(raised(RuntimeError("DefaultCPUAllocator: can't allocate memory")), monkeypatch) == cli.FAILED
    assert capsys.readouterr().err == "error: there is not enough memory: free some, or take a smaller input or batch\n"
    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.run(raised(RuntimeError("a mistake of ours")))


def test_a_message_of_a_file_moves_no_cursor_and_has_an_end(monkeypatch, capsys):
    ended(raised(PipelineError("a\x1b[2Jb\nc " + "x" * 10**6)), monkeypatch)
    err = capsys.readouterr().err
    assert err.startswith("error: a\\x1b[2Jb\\nc x") and err.count("\n") == 1 and len(err) < 5000


def test_results_move_no_cursor(capsys):
    cli.show("a\x1b[2J\nb\tc", Path("d\ne"))
    assert capsys.readouterr().out == "a\\x1b[2J\nb\tc\nd\\ne\n"


CLOSED = {"stdout": ">&-", "stderr": "2>&-", "both": ">&- 2>&-", "stdin": "<&-", "full": "> /dev/full"}


@pytest.mark.parametrize("streams", CLOSED)
def test_a_closed_stream_is_no_traceback_and_no_file_gets_what_was_meant_for_it(tmp_path, streams):
    program = (
        "import os, sys; from runtime import cli\n"
        "def main(argv):\n"
        "    file = open('kept', 'w'); cli.log('a log'); cli.show('straße 日本 \\udcff'); os.write(1, b'a library')\n"
        "    file.write('mine'); file.close(); return 0\n"
        "cli.run(main)"
    )
    command = f'{sys.executable} -c "$PROGRAM" {CLOSED[streams]}'
    environment = {**os.environ, "PROGRAM": program, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr
    assert done.returncode == (cli.FAILED if streams == "full" else cli.DONE)
    assert (tmp_path / "kept").read_text() == ("" if streams == "full" else "mine")


def test_a_size_that_is_higher_than_wide_is_told_with_what_was_probably_meant(capsys):
    assert cli.size_from_text("2048x1024") == (2048, 1024)
    assert "is 2048 high and 1024 wide; for a landscape network give 1024x2048" in capsys.readouterr().err
    assert cli.size_from_text("1024x2048") == (1024, 2048) and capsys.readouterr().err == ""


def test_a_command_ends_without_a_last_look_for_cycles():
    program = (
        "import atexit, gc; from runtime import cli; "
        "atexit.register(lambda: print(gc.get_freeze_count() > 0)); "  # called last
        "cli.run(lambda _: print(gc.get_freeze_count() > 0) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\nTrue\n", "")
