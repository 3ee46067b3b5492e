import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import OutputError
from runtime.media.claims import Claim, pictures_claimed
from tests.helpers.project import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from runtime.media.claims import Claim
claim = Claim(Path(sys.argv[1]))
claim.growing.write_bytes(b"half")
print(claim.growing.name, flush=True)
time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """(path, process, name of the file that grows) of another process that writes x.mp4."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "x.mp4")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield tmp_path / "x.mp4", process, process.stdout.readline().strip()
        process.kill()


def test_a_second_writer_of_one_output_is_refused_and_the_first_goes_on(held):
    path, process, growing = held
    with pytest.raises(OutputError, match=r"x\.mp4 is being written by another command: give another folder with -o"):
        Claim(path)
    assert path.with_name(growing).read_bytes() == b"half" and process.poll() is None


def test_what_a_killed_writer_left_is_deleted_by_the_next(held):
    path, process, growing = held
    process.kill()
    process.wait()
    claim = Claim(path)
    assert not path.with_name(growing).exists() and claim.growing.name != growing
    claim.growing.unlink()
    claim.release()
    assert list(path.parent.iterdir()) == []


def test_files_that_only_look_like_ours_stay(tmp_path):
    for name in ("x.part.mp4", "x.01234567.part.mp4"):
        (tmp_path / name).write_bytes(b"a user's")
    claim = Claim(tmp_path / "x.mp4")
    claim.release()
    assert {(tmp_path / name).read_bytes() for name in ("x.part.mp4", "x.01234567.part.mp4")} == {b"a user's"}


def test_the_file_that_grows_has_the_rights_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        claim = Claim(tmp_path / "x.mp4")
    finally:
        os.umask(before)
    assert claim.growing.stat().st_mode & 0o777 == 0o640
    claim.release()


def test_a_disk_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    Claim(tmp_path / "x.mp4").release()


RUN = """
import sys, time
from pathlib import Path
from runtime.media.claims import pictures_claimed
with pictures_claimed(Path(sys.argv[1]), map(Path, ["a/x.jpg", "y.jpg"]), ["ids", "color"]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def running(tmp_path):
    """Another process that writes ids and colours of a/x.jpg and y.jpg."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def claimed(folder, *inputs, saves=("ids",)):
    with pictures_claimed(folder, map(Path, inputs), saves):
        return len(list(folder.iterdir()))


def test_a_second_run_over_the_same_pictures_is_refused(running, tmp_path):
    with pytest.raises(OutputError, match=r"another command is writing the masks of a/x.jpg and 1 more to .*: wait"):
        claimed(tmp_path, "a/x.jpg", "y.jpg", "z.jpg")


def test_a_run_over_other_pictures_or_kinds_goes_on_in_the_same_folder(running, tmp_path):
    assert claimed(tmp_path, "x.jpg", "b/y.jpg") == 2
    assert claimed(tmp_path, "y.jpg", saves=("overlay",)) == 2


def test_what_a_killed_run_held_is_free_and_nothing_of_it_stays(running, tmp_path):
    running.kill()
    running.wait()
    assert claimed(tmp_path, "y.jpg") == 1 and list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_a_run_goes_on(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pictures_claimed(tmp_path, [Path("y.jpg")], ["ids"]):
        assert claimed(tmp_path, "y.jpg") == 0
