"""Folders of measurements: gone afterwards, and what a killed process left is gone after the next one."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from runtime.measure import scratch as module
from runtime.measure.scratch import LOCK, PREFIX, YOUNG_S, ended_as_interrupted, scratch

HOLD = "import time\nfrom runtime.measure.scratch import scratch\nwith scratch() as folder:\n"
HOLD += "    print(folder, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def held(temporary: Path) -> tuple[subprocess.Popen, Path]:
    """Another process that has a folder."""
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parents[3])}
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment)
    return child, Path(child.stdout.readline().strip())


def test_a_folder_is_there_and_then_gone_also_after_an_error(temporary):
    with pytest.raises(ZeroDivisionError), scratch() as folder:
        (folder / "a" / "b").mkdir(parents=True)
        1 / 0  # noqa: B018
    assert not list(temporary.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_and_what_a_living_one_has_stays(temporary):
    child, left = held(temporary)
    with scratch():
        assert left.is_dir()
    child.kill()
    child.communicate()
    assert left.is_dir()
    with scratch():
        assert not left.exists()


def test_what_is_not_ours_or_is_just_being_made_is_left_alone(temporary):
    (temporary / "elsewhere").mkdir()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "elsewhere")
    (temporary / f"{PREFIX}file").touch()
    young, old = temporary / f"{PREFIX}young", temporary / f"{PREFIX}old"
    for folder in (young, old):
        folder.mkdir()
    os.utime(old, (0, time.time() - 2 * YOUNG_S))
    module.remove_left_ones()
    assert sorted(path.name for path in temporary.iterdir()) == sorted(
        ["elsewhere", f"{PREFIX}link", f"{PREFIX}file", young.name]
    )
    (young / LOCK).touch()
    module.remove_left_ones()
    assert not young.exists()


@pytest.mark.parametrize("number", module.ENDS)
def test_a_signal_that_ends_python_interrupts_it_once_and_is_as_it_was_afterwards(number):
    before = signal.getsignal(number)
    tidied = False
    with pytest.raises(KeyboardInterrupt), ended_as_interrupted(), ended_as_interrupted():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)  # must not cut short what tidies up
            time.sleep(0.01)
            tidied = True
    assert tidied and signal.getsignal(number) == before


def test_a_signal_that_the_user_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_as_interrupted():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_a_thread_there_are_no_signals_to_take():
    found = []

    def work():
        with scratch() as folder:
            found.append(folder.is_dir())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
