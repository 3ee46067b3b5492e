import io
import os
import pickle
import random
import sys
import time

import numpy as np
import pytest

from export.checkpoints import pickles
from export.checkpoints.npy import read_npy
from export.checkpoints.pickles import Machine, Made, Name, OddKey, mapping_of
from tests.helpers.pickled import FORGED, INERT, NAMES, all_of, honest, mutated

HEADER = {"descr": "|O", "fortran_order": False, "shape": ()}
FUZZED = 4000


def read(pickled):
    return Machine().read(io.BytesIO(pickled))


def npy(path, pickled):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, HEADER)
    path.write_bytes(file.getvalue() + pickled)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_texts_and_containers_are_what_was_pickled(protocol):
    content = {"a": [1, -(2**40), 2.5, None, True, "x\n", ("y", ())], 7: {}, "z": 3**90, False: "\udcff"}
    assert read(pickle.dumps(content, protocol)) == content


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_a_name_is_a_record_and_is_not_looked_up(monkeypatch):
    monkeypatch.setitem(sys.modules, "antigravity", None)  # whose import would raise
    assert read(b"cantigravity\nfly\n(tR.").by == Name("antigravity", "fly")
    found = read(pickle.dumps(Trap(), 4))
    assert isinstance(found, Made) and found.by.name == "mkdir" and found.args == ("sprung",)


def test_the_state_and_the_items_of_a_record_are_kept_beside_it():
    found = read(b"cm\nC\n(I1\ntR(dS'x'\nI2\nsb(I3\nI4\ne(I5\nI6\nu.")
    assert (found.by, found.args, found.state) == (Name("m", "C"), (1,), {"x": 2})
    assert found.items == [3, 4] and found.pairs == {5: 6}


def test_ordered_dictionaries_of_python_2_and_3_are_mappings():
    pairs = b"ccollections\nOrderedDict\n((l(lS'a'\naI1\naatR."
    assert mapping_of(read(pairs)) == {"a": 1} and mapping_of(read(b"cm\nC\n(tR.")) is None


@pytest.mark.parametrize("key", [b"\x85" * 60, b"2\x86" * 60, b"\x8a\x0a" + bytes(9) + b"\x01", b"G" + bytes(8)])
def test_a_key_that_hashes_slowly_or_as_a_file_likes_is_a_record(key):
    value = key if key[:1] in (b"\x8a", b"G") else b"K\1" + key
    (found,) = read(b"}" + value + b"N" + b"s.")
    assert isinstance(found, OddKey)


@pytest.mark.parametrize("pickled", [b"", b"N", b"0.", b"t.", b"K\1K\2s.", b"K\1b.", b"h\7.", b"\x82\1.", b"(.", b"N("])
def test_what_no_pickle_does_is_a_value_error(pickled):
    with pytest.raises(ValueError, match=r"."):
        read(pickled)


def test_the_steps_of_a_pickle_are_bounded(monkeypatch):
    monkeypatch.setattr(pickles, "MOST_OPCODES", 100)
    with pytest.raises(ValueError, match="more than 100 steps"):
        read(b"N0" * 100 + b"N.")


def test_a_memo_of_a_large_number_costs_nothing():
    assert read(b"Nr\xff\xff\xff\xff.") is None  # Python's own unpickler makes an array of so many


def test_nothing_but_inert_values_comes_of_any_pickle(tmp_path):
    """Steps shuffled and forged, names of code among them: a value of ours or a ValueError, in bounded time."""
    rng, seeds, outcomes = random.Random(0), honest(), {True: 0, False: 0}
    begun = time.process_time()
    for count in range(FUZZED):
        pickled = mutated(rng.choice(seeds), rng)
        try:
            found = all_of(read(pickled))
        except ValueError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        assert {type(each) for each in found} <= set(INERT), (count, pickled)
    assert min(outcomes.values()) > FUZZED / 20, outcomes
    assert time.process_time() - begun < 30


def test_no_forged_pickle_is_more_than_an_error_of_the_reader(tmp_path):
    rng, seeds, read_whole = random.Random(1), honest(), 0
    for _ in range(1500):
        try:
            tensors = read_npy(npy(tmp_path / "a.npy", mutated(rng.choice(seeds), rng)))
        except ValueError:
            continue
        read_whole += 1
        assert sum(tensor.nbytes for tensor in tensors.values()) < 10_000
    assert read_whole > 20


def test_the_names_and_steps_of_the_fuzzer_are_pickles():
    for name in NAMES:
        assert isinstance(read(name + b"."), Name)
    assert b"R" in FORGED and b"b" in FORGED
