import pytest

from export.checkpoints.sources import export_key
from export.own_code import code_of, name_of, own_source
from runtime.errors import ModelError

NET = """
import torch
from torch import nn

import blocks
from parts import heads


def build(classes):
    return nn.Sequential(blocks.first(), heads.last(classes))
"""
BLOCKS = "from torch import nn\n\n\ndef first():\n    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())\n"
HEADS = "from torch import nn\n\n\ndef last(classes):\n    return nn.Conv2d(4, classes, 1)\n"


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/heads.py").write_text(HEADS)
    return tmp_path / "net.py"


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("net.py", "blocks.first()", "blocks.first().double()"),
        ("blocks.py", "ReLU", "Sigmoid"),
        ("parts/heads.py", "4", "4 + 0"),
    ],
)
def test_changed_code_is_another_key(net, file, before, after):
    first = export_key({"model": f"{net}:build"}, None)
    assert export_key({"model": f"{net}:build"}, None) == first
    path = net.parent / file
    path.write_text(path.read_text().replace(before, after))
    assert export_key({"model": f"{net}:build"}, None) != first


def test_what_the_code_does_not_import_changes_nothing(net):
    before = code_of(str(net))
    (net.parent / "other.py").write_text("import nothing")
    assert code_of(str(net)) == before
    (net.parent / "widths.yaml").write_text("a: 1")
    assert code_of(str(net)) != before


def test_in_a_package_relative_imports_are_followed(tmp_path):
    (tmp_path / "pkg").mkdir()
    for name, text in (
        ("__init__", ""),
        ("net", "from .blocks import first\nfrom . import heads"),
        ("blocks", ""),
        ("heads", ""),
    ):
        (tmp_path / f"pkg/{name}.py").write_text(text)
    keys = {code_of(str(tmp_path / "pkg/net.py"))}
    for name in ("__init__", "blocks", "heads"):
        (tmp_path / f"pkg/{name}.py").write_text("x = 1")
        keys.add(code_of(str(tmp_path / "pkg/net.py")))
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("net.py", "net"),
        ("net.py:build", "net"),
        ("net.py:tiny", "net-tiny"),
        ("enet", "enet"),
        ("torch.nn:Conv2d", "nn-Conv2d"),
    ],
)
def test_files_are_named_after_the_file_and_the_function(net, monkeypatch, given, name):
    monkeypatch.chdir(net.parent)
    assert name_of(given) == name


@pytest.mark.parametrize("given", ["absent.py:build", "some/absent.py", "some/net"])
def test_a_path_that_is_no_file_is_one_line(given):
    with pytest.raises(ModelError, match=r"path/to/net.py:build"):
        own_source(given)


def test_a_registered_name_and_a_strangers_are_nobodys_own():
    assert own_source("enet") is None and own_source("bisenet") is None and code_of("enet") == ""


def test_code_that_is_no_python_is_one_line(tmp_path):
    (tmp_path / "net.py").write_text("def build(:")
    with pytest.raises(ModelError, match="is not read as Python"):
        code_of(f"{tmp_path}/net.py")
