import subprocess
import sys
import time
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


def test_a_written_file_is_readable_by_others(tmp_path):
    write_atomically(tmp_path / "deep" / "engine", b"x")
    assert (tmp_path / "deep" / "engine").stat().st_mode & 0o777 == 0o644


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


def test_a_second_maker_waits_for_the_first_and_a_killed_one_frees_the_lock(tmp_path):
    path = tmp_path / "engine"
    code = f"""
import sys, time
from pathlib import Path
from runtime.artifacts import locked
with locked(Path({str(path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    waiter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    time.sleep(0.5)
    assert waiter.poll() is None
    holder.kill()
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == b"held\n"
    waiter.kill()
    for process in (holder, waiter):
        process.wait()
        process.stdout.close()
    with locked(path):
        pass
