"""The fuzzer itself: its seeds repeat, it sees what fails, and a few files of every kind hold."""

import gc
import json

import pytest

from tests.fuzz.child import fault, one
from tests.fuzz.readers import Reader, readers

SEEDS = 6  # of each reader; `make fuzz` reads thousands


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("made"))


def test_a_few_spoilt_files_of_every_kind_end_in_one_line(every, tmp_path):
    for name, reader in every.items():
        for sample, data in reader.samples.items():  # what loads with the first file is not of the next
            (tmp_path / sample).write_bytes(data)
            fault(reader, tmp_path / sample)
        for seed in range(SEEDS):
            sample, data = one(reader, name, seed)
            (tmp_path / sample).write_bytes(data)
            assert not fault(reader, tmp_path / sample), f"{name} {seed}"


def test_a_seed_gives_the_same_file_again(every):
    for name, reader in every.items():
        assert one(reader, name, 7) == one(reader, name, 7)
    assert len({one(every["pictures"], "pictures", seed) for seed in range(50)}) > 40


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError("x"), MemoryError("x"), json.JSONDecodeError("x", "", 0)]
)
def test_an_error_that_is_not_ours_is_seen(tmp_path, error):
    def read(_):
        raise error

    assert "Traceback" in fault(Reader({}, read), tmp_path)


def test_a_message_of_several_lines_is_seen(tmp_path):
    from runtime.errors import FrameError

    def read(_):
        raise FrameError("a\nb")

    assert "a message" in fault(Reader({}, read), tmp_path)


def test_much_memory_and_much_time_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.child.MOST_MIB", 20)
    gc.collect()  # what other tests left behind, given back meanwhile, would hide as much
    assert "MiB" in fault(Reader({}, lambda _: b"x" * (100 << 20)), tmp_path)
    monkeypatch.setattr("tests.fuzz.child.MOST_S", 0.05)
    assert "processor time" in fault(Reader({}, lambda _: sum(range(10**7))), tmp_path)
