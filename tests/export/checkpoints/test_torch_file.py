import io
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from export.checkpoints import archive
from export.checkpoints.torch_file import DENSE, read_torch
from export.checkpoints.weights import read_weights
from runtime.errors import WeightsError

LEGACY = {"_use_new_zipfile_serialization": False}


def saved(content, **how):
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def back(content, **how):
    found = read_torch(io.BytesIO(saved(content, **how)))
    return found.plain(found.content)


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(WeightsError) as raised:
        read_weights(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", DENSE, ids=str)
def test_a_tensor_of_every_dense_type_comes_back(dtype, how):
    wanted = torch.arange(24).reshape(2, 3, 4).to(dtype)
    assert torch.equal(back({"a": wanted}, **how)["a"], wanted)


VIEWS = {
    "a row": lambda x: x[1],
    "a column": lambda x: x[:, 1],
    "every second": lambda x: x[::2, ::2],
    "transposed": lambda x: x.T,
    "a scalar": lambda x: x[2, 3],
    "none": lambda x: x[:0],
    "a parameter": torch.nn.Parameter,
    "channels last": lambda x: x.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_the_tensor_that_torch_makes_of_it(view, how):
    wanted = view(torch.arange(24.0).reshape(4, 6))
    found = back(OrderedDict(a=wanted, b=wanted), **how)
    assert torch.equal(found["a"], wanted) and found["a"].shape == wanted.shape and found["a"].is_contiguous()
    assert torch.equal(found["b"], wanted)


def test_numbers_texts_and_lists_of_a_training_come_back():
    content = {"a": [1, (2.5, None)], "b": {"c": "x", 3: True}, "d": OrderedDict(e=-1)}
    assert back(content) == content


def test_a_list_that_holds_a_list_twice_and_so_on_is_refused():
    nested = [0]
    for _ in range(35):
        nested = [nested, nested]
    found = read_torch(io.BytesIO(saved(nested)))
    with pytest.raises(ValueError, match="too often"):
        found.plain(found.content)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex64), torch.zeros(2).to(torch.uint16)]
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_is_not_dense_and_real_is_refused(tensor, tmp_path):
    assert "dense real ones are read" in refused(tmp_path / "a.pth", saved({"a": tensor}))


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
def test_views_that_would_weigh_more_than_their_file_are_refused_before_any_is_made(how, tmp_path):
    wide = torch.zeros(1).expand(1 << 39)
    message = refused(tmp_path / "a.pth", saved({"a": wide}, **how))
    assert "would take more than 2 times the file" in message
    many = {str(i): torch.zeros(1000).expand(50, 1000) for i in range(5)}
    assert "keep them as tensors of their own" in refused(tmp_path / "a.pth", saved(many, **how))


def test_tied_tensors_are_read(tmp_path):
    tied = torch.ones(2000)
    torch.save({"a": tied, "b": tied}, tmp_path / "a.pth")
    assert len(read_weights(tmp_path / "a.pth").tensors) == 2


def compressed(data):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def test_an_archive_that_is_compressed_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    bomb = compressed(saved({"a": torch.zeros(1 << 16)}))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was expanded"))
    assert "compressed" in refused(tmp_path / "a.pth", bomb)


def test_an_archive_of_too_many_parts_is_refused_before_they_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_ENTRIES", 8)
    many = saved({str(i): torch.zeros(1) for i in range(9)})
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("they were listed"))
    assert "more than 8 parts" in refused(tmp_path / "a.pth", many)


def forged(of, by):
    """A checkpoint with some bytes of its pickle changed, its checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(4, 4)}))) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            assert of in data or not name.endswith("data.pkl")
            new.writestr(name, data.replace(of, by, 1) if name.endswith("data.pkl") else data)
    return file.getvalue()


SIZE = b"K\x00K\x04K\x04\x86q\x08K\x04K\x01\x86"  # offset, (4, 4), (4, 1)


@pytest.mark.parametrize(
    "by",
    [
        b"K\x01K\x04K\x04\x86q\x08K\x04K\x01\x86", b"K\x00K\x04K\x05\x86q\x08K\x04K\x01\x86",
        b"K\x00K\x04K\x04\x86q\x08K\x05K\x01\x86", b"J\xff\xff\xff\xffK\x04K\x04\x86q\x08K\x04K\x01\x86",
        b"K\x00K\x04J\xff\xff\xff\xff\x86q\x08K\x04K\x01\x86", b"K\x00K\x04K\x04\x86q\x08J\xff\xff\xff\xffK\x01\x86",
        b"K\x00K\x04K\x04\x86q\x08K\x04\x85", b"NK\x04K\x04\x86q\x08K\x04K\x01\x86",
        b"K\x00K\x04N\x86q\x08K\x04K\x01\x86", b"K\x00K\x04K\x04\x86q\x08\x88K\x01\x86",
    ],
)  # fmt: skip
def test_a_tensor_whose_numbers_are_forged_is_refused(by, tmp_path):
    assert "are damaged" in refused(tmp_path / "a.pth", forged(SIZE, by))


def test_a_storage_of_another_length_or_type_is_refused(tmp_path):
    assert "storage" in refused(tmp_path / "a.pth", forged(b"K\x10t", b"K\x11t"))
    assert "storage" in refused(tmp_path / "a.pth", forged(b"FloatStorage", b"LongStorage "))
    assert "are damaged" in refused(tmp_path / "a.pth", forged(b"K\x10t", b"Nt"))


def test_big_endian_archives_are_turned_round(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"a": torch.tensor([1.5, -2.0])}))) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            data = b"big" if name.endswith("byteorder") else data
            new.writestr(name, np.frombuffer(data, "<f4").astype(">f4").tobytes() if "/data/" in name else data)
    (tmp_path / "a.pth").write_bytes(file.getvalue())
    assert read_weights(tmp_path / "a.pth").tensors["a"].tolist() == [1.5, -2.0]


def test_what_stands_beside_the_tensors_is_passed_over_and_told(tmp_path, capsys):
    content = {"state_dict": {"a": torch.ones(2)}, "epoch": np.int64(3), "by": random.Random, "iou": np.arange(3)}
    (tmp_path / "a.pth").write_bytes(saved(content))
    assert read_weights(tmp_path / "a.pth").tensors["a"].tolist() == [1, 1]
    assert "(random.Random) beside the tensors are passed over; nothing of them is run" in capsys.readouterr().err


def test_every_flipped_bit_of_an_archive_is_found_or_changes_nothing(tmp_path):
    data, rng, taken = saved({"a": torch.arange(64.0), "b": torch.ones(3)}), random.Random(0), 0
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "a.pth").write_bytes(flipped)
        try:
            tensors = read_weights(tmp_path / "a.pth").tensors
        except WeightsError:
            continue
        taken += 1
        assert tensors["a"].tolist() == list(range(64)) and tensors["b"].tolist() == [1, 1, 1]
    assert taken < 200  # the archive's padding and notes
