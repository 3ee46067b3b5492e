"""Folders for what is on its way: gone with the block, and with the next one where a process was killed."""

import os
import subprocess
import sys
import time

from runtime.fleet.ray_run import block_of, watched
from runtime.fleet.scratch import PREFIX, YOUNG_S, scratch
from tests.helpers.project import ROOT


def test_a_folder_goes_with_its_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_one_and_a_living_ones_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import os\nfrom runtime.fleet.scratch import scratch\n"
    code += "with scratch() as folder:\n    print(folder, flush=True)\n    os.abort()"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    assert done.stdout.strip() == str(left)
    with scratch() as living:
        assert left.is_dir()  # it is young
        old = time.time() - 2 * YOUNG_S
        for folder in (left, living):
            os.utime(folder, (old, old))
        with scratch():
            assert living.is_dir() and not left.exists()


def test_blocks_are_small_at_the_end_of_a_run_and_never_empty():
    assert [block_of(items, 2) for items in (1, 7, 16, 63, 64, 10_000)] == [1, 1, 2, 7, 8, 8]


def test_a_run_in_which_nothing_is_finished_says_so(capsys):
    def slow():
        yield 1
        time.sleep(0.5)
        yield 2

    assert list(watched(slow(), 0.1)) == [1, 2]
    assert "no item was finished for 0 s" in capsys.readouterr().err
    assert list(watched(iter([1, 2]), 60.0)) == [1, 2] and capsys.readouterr().err == ""
