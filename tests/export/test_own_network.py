import sys
from importlib import metadata

import pytest
import torch
from torch import nn

from export import registry
from export.training.losses import AUXILIARY, segmentation_loss
from runtime.errors import ModelError

HEAD = "import torch\nfrom torch import nn\nNORMALIZATION = 'imagenet'\nSIZE_MULTIPLE = 8\n"
PLAIN = HEAD + "def build(classes):\n    return nn.Conv2d(3, classes, 3, 8, 1)\n"
SEVERAL = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, classes, 3, 8, 1), nn.Conv2d(3, classes, 3, 4, 1)
    def forward(self, x):
        return RETURNED
def build(classes):
    return Net(classes)
"""
)


def found(tmp_path, text, name="net.py", attribute="build"):
    (tmp_path / name).write_text(text)
    return registry.find(f"{tmp_path / name}:{attribute}")


def test_a_file_gives_a_network_with_what_it_says_of_itself(tmp_path):
    network = found(tmp_path, PLAIN)
    assert (network.name, network.output_stride, network.size_multiple, network.block) == ("net", 8, 8, 1)
    assert network.normalization.std == (0.229, 0.224, 0.225) and network.deploy is None
    assert registry.nearest_size(network, 100, 100) == (96, 96)
    assert network.build(7)(torch.zeros(1, 3, 16, 16)).shape == (1, 7, 2, 2)


@pytest.mark.parametrize(
    "returned", ["{'aux': self.b(x), 'out': self.a(x)}", "(self.a(x), self.b(x))", "[self.a(x), [self.b(x), x]]"]
)
def test_of_several_outputs_the_main_one_is_deployed_and_all_are_learnt(tmp_path, returned):
    network = found(tmp_path, SEVERAL.replace("RETURNED", returned))
    built, x = network.build(5), torch.rand(2, 3, 16, 16)
    labels, weights = torch.zeros(2, 16, 16, dtype=torch.uint8), torch.ones(5)
    assert network.output_stride == 8 and built.eval()(x).shape == (2, 5, 2, 2)
    outputs = built.train()(x)
    assert [tuple(each.shape[2:]) for each in outputs] == [(2, 2), (4, 4)]
    alone = [segmentation_loss(each, labels, weights) for each in outputs]
    torch.testing.assert_close(segmentation_loss(outputs, labels, weights), alone[0] + AUXILIARY * alone[1])


def test_the_hook_changes_no_name_of_a_tensor(tmp_path):
    assert set(found(tmp_path, PLAIN).build(3).state_dict()) == {"weight", "bias"}


def test_changed_code_beside_it_is_loaded_anew_and_anothers_of_that_name_is_not_taken(tmp_path):
    text = HEAD + "import blocks\ndef build(classes):\n    return blocks.make(classes)\n"
    for folder, channels in (("one", 4), ("two", 6), ("one", 8)):
        (tmp_path / folder).mkdir(exist_ok=True)
        make = f"nn.Sequential(nn.Conv2d(3, {channels}, 3, 8, 1), nn.Conv2d({channels}, classes, 1))"
        (tmp_path / folder / "blocks.py").write_text(f"from torch import nn\ndef make(classes):\n    return {make}\n")
        assert found(tmp_path / folder, text).build(2)[0].out_channels == channels
    assert str(tmp_path) not in "".join(sys.path)


BAD = {
    "normalization = 'imagnet'": "does not say how frames are normalised",
    "raise ValueError('no such width')": r"cannot be run \(no such width\), at net.py:5",
    "import nowhere_at_all": r"No module named 'nowhere_at_all'.*at net.py:5",
    "def build(classes): return 5": "gives int, expected a torch.nn.Module",
    "def build(classes): return nn.Conv2d(3, 9, 3, 8, 1)": r"gives no logits \(N, 2, .*: \(1, 9, 8, 16\)",
    "def build(classes): return nn.Conv2d(3, classes, 8)": "expected a whole fraction of it",
    "def build(): return nn.Conv2d(3, 3, 8)": "cannot be built for 2 classes",
    "def build(classes): return nn.Linear(3, classes)": "does not take a frame of 64x128",
    "SIZE_MULTIPLE = 'many'": "size_multiple is 'many'",
    "del build": r"no function build\(classes\)",
}


@pytest.mark.parametrize("line", BAD)
def test_what_is_wrong_with_ones_own_code_is_one_line_with_its_place(tmp_path, line):
    text = PLAIN + line if not line.startswith(("raise", "import")) else HEAD + line
    text = text.replace("'imagenet'", "'imagnet'") if "imagnet" in line else text
    with pytest.raises(ModelError, match=BAD[line]) as raised:
        found(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_file_in_a_package_imports_its_neighbours_as_that_does(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("")
    (tmp_path / "mine/blocks.py").write_text("WIDTH = 5\n")
    text = PLAIN + "from .blocks import WIDTH\nSOURCE = f'width {WIDTH}'\n"
    assert found(tmp_path / "mine", text).source == "width 5"


def test_probabilities_are_told(tmp_path, capsys):
    found(tmp_path, HEAD + "def build(n):\n    return nn.Sequential(nn.Conv2d(3, n, 3, 8, 1), nn.Softmax(1))\n")
    assert "gives probabilities; return logits" in capsys.readouterr().err


def test_what_the_code_prints_is_no_result(tmp_path, capsys):
    found(tmp_path, PLAIN + "print('hello')\n")
    assert capsys.readouterr().out == ""


def test_an_entry_point_of_a_package_is_a_model(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    entry = metadata.EntryPoint("street-net", "their_package:build", "street_segmentation.networks")
    monkeypatch.setattr(metadata, "entry_points", lambda group, name: [entry] if name == entry.name else [])
    network = registry.find("street-net")
    assert network.name == "street-net" and isinstance(network.build(3), nn.Conv2d)
    monkeypatch.delitem(sys.modules, "their_package")


def test_an_unknown_model_points_to_the_page():
    with pytest.raises(ModelError, match=r"unknown model 'bisenet'.*path/to/net.py:build, docs/adding-a-network.md"):
        registry.find("bisenet")
