import json
from fractions import Fraction

import pytest
import torch

from export import registry
from export.checkpoints.weights import load, read_weights
from export.models.icnet import ICNet
from export.registry import build_like, find
from export.to_onnx import SPEC_KEY, Request, export
from export.training.checkpoint import metadata_of, pruned_text, pruning_of, save_weights
from export.training.prune import choose, main, pruned, share_from_text, strongest
from runtime.artifacts import sha256_of
from runtime.cli import DONE
from runtime.errors import ModelError, OutputError, WeightsError
from runtime.spec import ModelSpec, from_json
from tests.helpers.networks import seeded, write_weights

WIDTH, LEFT = 8, 6
# Zeros add nothing to a sum but its order, and float64 rounds at 1e-16.
SAME_SUM = 1e-12
PRUNABLE = [name for name in registry.names() if find(name).width_of]


def network(name="icnet", width=WIDTH, classes=5):
    return seeded(find(name).build(classes, width=width))


def zeroed(net, groups, kept):
    """The network with every filter that is not kept at zero, and its normalisation's gain and bias too."""
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for group, channels in zip(groups, kept, strict=True):
        for maker in group.makers:
            for name in (f"{maker}.conv.weight", f"{maker}.bn.weight", f"{maker}.bn.bias"):
                gone = torch.ones(len(tensors[name]), dtype=torch.bool)
                gone[channels] = False
                tensors[name][gone] = 0
    net = find("icnet").build(5, width=net.width) if type(net) is ICNet else type(net)(5, width=net.width)
    net.load_state_dict(tensors)
    return net.eval()


def apart(got, expected):
    return float((got - expected).abs().max() / (expected.max() - expected.min()))


def both(name):
    net = network(name).double()
    kept = choose(net.state_dict(), net.channels(), Fraction(LEFT, WIDTH))
    return pruned(net, LEFT).double(), zeroed(net, net.channels(), kept).double(), net


def frame(name, height=64, width=96):
    offset = find(name).size_offset
    generator = torch.Generator().manual_seed(0)
    return torch.rand((2, 3, height + offset, width + offset), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", PRUNABLE)
def test_a_pruned_network_is_the_full_one_with_those_filters_zeroed(name):
    smaller, zeros, full = both(name)
    with torch.inference_mode():
        got, expected = smaller(frame(name)), zeros(frame(name))
        assert apart(got, expected) < SAME_SUM
        assert apart(full(frame(name)), expected) > 0.01, "the filters that were pruned did nothing anyway"


def test_its_auxiliary_outputs_are_too():
    smaller, zeros, _ = both("icnet")
    with torch.no_grad():  # in training, by the statistics of the batch: those of a zeroed channel are zeros
        for got, expected in zip(smaller.train()(frame("icnet")), zeros.train()(frame("icnet")), strict=True):
            assert apart(got, expected) < SAME_SUM


@pytest.mark.parametrize("name", PRUNABLE)
def test_its_deployed_form_is_too(name):
    smaller, zeros, _ = both(name)
    gain = torch.ones(3, dtype=torch.float64)
    with torch.inference_mode():
        assert apart(find(name).deploy(smaller, gain)(frame(name)), zeros(frame(name))) < SAME_SUM


def test_the_strongest_filters_are_kept_in_their_order():
    weight = torch.tensor([1.0, -5.0, 3.0, 0.5, -3.0]).reshape(5, 1, 1, 1).repeat(1, 2, 3, 3)
    tensors = {"a.conv.weight": weight}
    assert strongest(tensors, ["a"], 3).tolist() == [1, 2, 4]
    assert strongest(tensors, ["a"], 2).tolist() == [1, 2]  # of 2 and 4, which are equal, the lower


def test_where_outputs_meet_the_norms_are_summed():
    tensors = {
        "a.conv.weight": torch.tensor([3.0, 2.0, 0.0]).reshape(3, 1, 1, 1),
        "b.conv.weight": torch.tensor([0.0, -2.0, -3.5]).reshape(3, 1, 1, 1),
    }
    assert strongest(tensors, ["a", "b"], 1).tolist() == [1]
    assert strongest(tensors, ["a"], 1).tolist() == [0] and strongest(tensors, ["b"], 1).tolist() == [2]


@pytest.mark.parametrize("name", PRUNABLE)
def test_every_layer_of_the_trunk_is_in_one_group(name):
    net = find(name).build(5, width=WIDTH)
    makers = [maker for group in net.channels() for maker in group.makers]
    readers = [reader for group in net.channels() for reader in group.readers]
    narrow, wide = net.state_dict(), find(name).build(5, width=2 * WIDTH).state_dict()
    widening = [
        {
            path_of(key)
            for key, tensor in narrow.items()
            if tensor.dim() == 4 and wide[key].shape[axis] != tensor.shape[axis]
        }
        for axis in (0, 1)
    ]
    assert len(makers) == len(set(makers)) and set(makers) == widening[0]
    assert len(readers) == len(set(readers)) and set(readers) == widening[1]


def path_of(key):
    return key.removesuffix(".weight").removesuffix(".conv")


def test_every_group_is_a_whole_number_of_widths():
    net = ICNet(5, width=3)
    smaller = pruned(net, 1)
    assert smaller.width == 1 and smaller.state_dict().keys() == net.state_dict().keys()


@pytest.fixture
def weights(tmp_path):
    metadata = {"dataset": "camvid", "source": "trained here"}
    return write_weights(tmp_path / "full.safetensors", network(classes=11), metadata)


def prune(weights, keep, out, *more):
    return main(["--weights", str(weights), "--keep", keep, "--out", str(out), *more])


def test_the_command_writes_weights_of_a_smaller_width(weights, tmp_path, capsys):
    assert prune(weights, "3/4", tmp_path / "new/p.safetensors") == DONE
    assert capsys.readouterr().out.strip() == str(tmp_path / "new/p.safetensors")
    read = read_weights(tmp_path / "new/p.safetensors")
    net = build_like(find("icnet"), len(read.classes), read.tensors)
    load(net, read)
    expected = pruned(network(classes=11), LEFT).state_dict()
    assert net.width == LEFT and read.classes == read_weights(weights).classes
    assert all(
        torch.equal(t.half() if t.dim() > 1 else t, expected_of(expected[k])) for k, t in net.state_dict().items()
    )


def expected_of(tensor):
    return tensor.half() if tensor.dim() > 1 else tensor  # kernels are stored in float16


def test_the_second_pruning_keeps_a_share_of_the_first_width_and_both_are_told(weights, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    prune(weights, "0.75", first)
    prune(first, "0.5", second)
    metadata = metadata_of(second)
    assert read_weights(second).tensors["conv1_1.conv.weight"].shape[0] == WIDTH // 2
    assert pruning_of(metadata) == [(8, 6, sha256_of(weights)), (6, 4, sha256_of(first))]
    assert metadata["source"] == "trained here, pruned from width 8 to 6 to 4" and metadata["dataset"] == "camvid"
    assert str(tmp_path) not in json.dumps(metadata)


def test_what_is_there_already_is_left_and_what_differs_is_made_again(weights, tmp_path):
    out = tmp_path / "p.safetensors"
    prune(weights, "3/4", out)
    before = out.stat().st_mtime_ns, out.read_bytes()
    prune(weights, "3/4", out)
    write_weights(weights, network(classes=11), {"source": "measured again, which writes the file again"})
    prune(weights, "3/4", out)
    assert (out.stat().st_mtime_ns, out.read_bytes()) == before
    out.write_bytes(out.read_bytes()[:1000])
    prune(weights, "3/4", out)
    assert read_weights(out).tensors["conv1_1.conv.weight"].shape[0] == LEFT
    prune(weights, "1/2", out)
    assert read_weights(out).tensors["conv1_1.conv.weight"].shape[0] == WIDTH // 2


@pytest.mark.slow
def test_pruned_weights_are_exported_and_the_graph_tells_their_width(weights, tmp_path):
    import onnx

    out = tmp_path / "p.safetensors"
    prune(weights, "1/2", out)
    graph = onnx.load(export(Request("icnet", height=64, width=128), out, tmp_path))
    spec = from_json(ModelSpec, {item.key: item.value for item in graph.metadata_props}[SPEC_KEY])
    assert "width 4 of 64; trained here, pruned from width 8 to 4" in spec.source
    assert spec.weights_sha256 == sha256_of(out)
    # conv1_1, with the image's halving merged into it.
    assert (4, 3, 6, 6) in {tuple(tensor.dims) for tensor in graph.graph.initializer}


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (["--model", "enet"], ModelError, "enet cannot be pruned.*icnet, icnet-caffe"),
        (["--keep", "1/100"], ModelError, "1/100 of width 8 leaves no filter"),
        (["--keep", "99/100"], ModelError, "leaves 8, but the weights have width 8; give a smaller share"),
        (["--out", "p.pth"], OutputError, "ends in .safetensors"),
        (["--weights", "absent.safetensors"], WeightsError, "does not exist"),
        (["--model", "icnet-caffe"], WeightsError, "do not fit.*conv6_sub4"),
    ],
    ids=str,
)
def test_what_cannot_be_pruned_is_one_line(options, error, said, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said) as raised:
        prune(weights, "1/2", tmp_path / "p.safetensors", *options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "p.safetensors").exists()


def test_weights_that_nobody_ships_must_be_given(tmp_path):
    with pytest.raises(WeightsError, match="no weights are shipped for icnet-caffe; give a checkpoint"):
        main(["--model", "icnet-caffe", "--keep", "1/2", "--out", str(tmp_path / "p.safetensors")])


def test_the_input_is_not_overwritten(weights):
    before = weights.read_bytes()
    with pytest.raises(OutputError, match="is the file that is read"):
        prune(weights, "1/2", weights)
    assert weights.read_bytes() == before


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights(tmp_path / "enet.safetensors", find("enet").build(11), {"dataset": "camvid"})
    with pytest.raises(
        WeightsError, match=r"weights enet.safetensors are of another network.*none has a name of the network"
    ):
        prune(tmp_path / "enet.safetensors", "1/2", tmp_path / "p.safetensors")


def test_the_same_share_of_pruned_weights_again_removes_nothing(weights, tmp_path):
    prune(weights, "3/4", tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="leaves 6, but the weights have width 6, and width 8 before it was pruned"):
        prune(tmp_path / "a.safetensors", "3/4", tmp_path / "b.safetensors")


@pytest.mark.parametrize("text", ["0", "1", "1.5", "-1/2", "3/0", "half", ""])
def test_a_share_that_is_none_is_a_usage_error(text, weights, tmp_path):
    with pytest.raises(SystemExit) as raised:
        prune(weights, text, tmp_path / "p.safetensors")
    assert raised.value.code == 2


@pytest.mark.parametrize("text", ["3/4", "0.75", ".75", "75e-2"])
def test_a_share_may_be_written_in_many_ways(text):
    assert share_from_text(text) == Fraction(3, 4)


@pytest.mark.parametrize("history", ["{", "5", "[5]", "[[1]]", '[["a", 2, "x"]]'])
def test_a_history_in_another_form_is_refused(history):
    with pytest.raises(WeightsError, match="in a form that is not read"):
        pruning_of({"pruned": history})


def test_weights_that_were_never_pruned_have_no_history():
    assert pruned_text(pruning_of({})) == ""


@pytest.mark.parametrize("width", [0, 1000])
def test_a_width_that_no_network_has_is_not_built(width):
    tensors = {"conv1_1.conv.weight": torch.empty(width, 3, 3, 3, device="meta")}
    assert build_like(find("icnet"), 5, tensors).width == 32
