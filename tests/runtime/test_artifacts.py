import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import pytest

from runtime.artifacts import is_sealed, key_of, locked, sha256_of, sources_sha256, write_atomically, write_sealed


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "engine"
    write_atomically(path, b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_written_file_has_the_rights_of_the_umask_and_needs_no_chmod(tmp_path, monkeypatch, mask):
    monkeypatch.setattr(Path, "chmod", lambda *_: pytest.fail("chmod"))
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "deep" / "engine", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "engine").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "engine").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "engine", b"x")
    assert (tmp_path / "target").read_bytes() == b"precious" and (tmp_path / "engine").read_bytes() == b"x"


def test_a_name_as_long_as_a_disk_takes_is_written(tmp_path):
    write_atomically(tmp_path / ("x" * 255), b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


def test_a_sealed_file_that_is_cut_or_changed_is_found_out(tmp_path):
    path = tmp_path / "graph.onnx"
    assert not is_sealed(path)
    write_sealed(path, b"a graph")
    assert is_sealed(path)
    for other in (b"a grap", b"a GRAPH"):
        path.write_bytes(other)
        assert not is_sealed(path)


def test_keys_follow_every_part_and_not_their_order():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": "1"})}) == 4


def test_changed_code_is_another_sha256(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = sources_sha256(tmp_path)
    (tmp_path / "notes.txt").write_text("not code")
    assert sources_sha256(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2")
    assert sources_sha256(tmp_path) != before
    assert len(sha256_of(tmp_path / "a.py")) == 64


def test_code_that_is_not_there_makes_no_key(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "segment.cu").write_text("not Python")
    for missing in ("b.py", "models", "kernels"):
        with pytest.raises(FileNotFoundError, match=missing):
            sources_sha256(tmp_path / "a.py", tmp_path / missing)


HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
from runtime.artifacts import locked

def no_flock(fd, operation):
    raise OSError(getattr(errno, sys.argv[2]), "no locks here")

if sys.argv[2] != "with flock":
    fcntl.flock = no_flock
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(path, file_system):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, file_system], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("file_system", ["with flock", "ENOSYS", "ENOTSUP", "ENOLCK"])
def test_a_second_maker_says_it_waits_for_the_first_and_a_killed_one_frees_the_lock(tmp_path, file_system):
    path = tmp_path / "engine"
    with holder(path, file_system) as first:
        assert first.stdout.readline() == "held\n"
        with holder(path, file_system) as second:
            said = takewhile(lambda line: "waiting" not in line, iter(second.stderr.readline, ""))
            assert not any("error" in line.lower() for line in said)
            time.sleep(0.3)
            assert second.poll() is None
            first.kill()
            first.wait()
            assert second.stdout.readline() == "held\n"


def test_a_free_lock_is_taken_without_a_word_and_again_and_again(tmp_path, capsys):
    for _ in range(3):
        with locked(tmp_path / "deep" / "engine"):
            pass
    assert capsys.readouterr().err == ""
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [".engine.lock"]


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("error", [None, errno.ENOSYS, errno.ENOTSUP])
def test_a_lock_that_shall_not_last_goes_with_its_folders_where_nothing_was_made(tmp_path, monkeypatch, error):
    def no_flock(*_):
        raise OSError(error, "no locks here")

    if error is not None:
        monkeypatch.setattr("fcntl.flock", no_flock)
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "deep" / "er" / "model", tmp_path / "there" / "model"):
        with locked(path, lasting=False):
            assert list(path.parent.iterdir()) != []
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_lock_that_shall_not_last_does_where_something_was_made(tmp_path):
    path = tmp_path / "deep" / "model"
    with locked(path, lasting=False):
        path.mkdir()
    assert sorted(each.name for each in path.parent.iterdir()) == [".model.lock", "model"]


@pytest.mark.parametrize("lasting", [True, False])
def test_threads_of_one_program_wait_for_each_other_also_where_the_lock_goes(tmp_path, lasting):
    inside, most = [], []

    def make(_):
        with locked(tmp_path / "engine", lasting=lasting):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(8)))
    assert most == [1] * 8 and bool(list(tmp_path.iterdir())) is lasting


def test_a_maker_that_would_wait_for_itself_is_told_so(tmp_path):
    with locked(tmp_path / "engine"), pytest.raises(RuntimeError, match="Deadlock"), locked(tmp_path / "engine"):
        pass


def test_an_error_inside_frees_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), locked(tmp_path / "engine"):
            raise ValueError("broken")
