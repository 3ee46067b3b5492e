import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export import check, registry
from export.check import Agreement, check_graph, compare, run_graph, street_frame
from export.to_onnx import SPEC_KEY
from runtime import reference
from runtime.errors import GraphError
from runtime.spec import ModelSpec, from_json
from tests.helpers.networks import size_of


@pytest.fixture
def checked(graph, networks):
    """`check_graph` of an exported network, after the graph was changed."""

    def run(name, change=lambda model: None, precision="fp32", network=None):
        model = onnx.ModelProto()
        model.CopyFrom(graph(name, precision))
        change(model)
        spec = from_json(ModelSpec, model.metadata_props[0].value)
        return check_graph(model, network or networks(name), registry.find(name).normalization, spec)

    return run


def rewrite(tensor, change):
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))


def scale_weight(model, share):
    """Scale the weight of the convolution in the middle of the graph."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    name = convolutions[len(convolutions) // 2].input[1]
    rewrite(next(t for t in model.graph.initializer if t.name == name), lambda w: (w * share).astype(w.dtype))


def nodes_of(model, kind):
    return [node for node in model.graph.node if node.op_type == kind]


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_a_graph_whose_weight_was_changed_is_refused(checked, name):
    with pytest.raises(GraphError, match=f"the graph of {name} is not its network: logits within"):
        checked(name, lambda model: scale_weight(model, 1.01))


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_another_network_is_refused(checked, networks, name):
    with pytest.raises(GraphError):
        checked(name, network=registry.find(name).build(3).eval())


def swap_inputs(model, which):
    node = nodes_of(model, "GreaterOrEqual")[which]
    node.input[:] = node.input[::-1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_position_that_is_no_maximum_is_refused(checked, which):
    with pytest.raises(GraphError, match="unpooling positions within"):
        checked("enet", lambda model: swap_inputs(model, which))


def turned_ranks(model):
    """A constant of the graph in which the last of equal maxima has the largest rank."""
    (name,) = {node.input[1] for node in nodes_of(model, "Equal")}
    (ranks,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    turned = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(ranks)[..., ::-1, :, ::-1].copy(), "turned")
    model.graph.initializer.append(turned)
    return name, turned.name


def take_the_last_of_equals(model):
    name, turned = turned_ranks(model)
    for node in (*nodes_of(model, "Equal"), *nodes_of(model, "Where")):
        node.input[:] = [turned if put == name else put for put in node.input]


def unpool_elsewhere(model):
    _, turned = turned_ranks(model)
    for node in nodes_of(model, "Equal"):
        node.input[1] = turned


def swap_branches(model):
    node = nodes_of(model, "Where")[-1]
    node.input[1], node.input[2] = node.input[2], node.input[1]


@pytest.mark.parametrize("change", [take_the_last_of_equals, unpool_elsewhere, swap_branches])
def test_an_unpooling_that_puts_values_elsewhere_is_refused(checked, change):
    with pytest.raises(GraphError):
        checked("enet", change)


def test_a_comparison_that_went_missing_is_refused(checked):
    def lose_one(model):
        nodes_of(model, "GreaterOrEqual")[1].op_type = "Greater"

    with pytest.raises(GraphError, match="compares 1 maps with their maxima, and unpools 2"):
        checked("enet", lose_one)


def test_the_replay_of_a_graphs_own_choices_has_no_slack_but_rounding(graph, networks):
    model = graph("enet")
    spec = from_json(ModelSpec, next(p.value for p in model.metadata_props if p.key == SPEC_KEY))
    frame = reference.resize_frame(street_frame(), *size_of(registry.find("enet")))
    found = compare(model, networks("enet"), registry.find("enet").normalization, spec, frame, replay=True)
    assert found.slack < 1e-6 and found.logits_error < 1e-5 and found.mask_agreement > 0.9999


def test_a_graphs_choices_come_in_the_order_of_its_poolings(graph):
    values = np.zeros((1, 3, 64, 128), np.float32)
    output, choices = run_graph(graph("enet"), values)
    assert output.shape == (1, 3 * 4, 32, 64) and output.dtype == np.float32
    assert [tuple(ranks.shape) for ranks in choices] == [(1, 16, 16, 32), (1, 64, 8, 16)]
    assert run_graph(graph("icnet"), values)[1] == []


def test_comparisons_that_are_no_unpooling_are_no_choices(graph):
    model = onnx.ModelProto()
    model.CopyFrom(graph("icnet"))
    model.graph.node.append(onnx.helper.make_node("Equal", ["frame", "frame"], ["same"]))
    assert run_graph(model, np.zeros((1, 3, 64, 128), np.float32))[1] == []


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_a_graph_that_swaps_two_classes_is_refused(checked, name, precision):
    def swap_classes(model):
        # The second class takes the first one's logits: what was of the first is of the second, and the reverse.
        block = registry.find(name).block ** 2
        dims = {tensor.name: tensor.dims for tensor in model.graph.initializer}
        (last,) = (node for node in nodes_of(model, "Conv") if dims[node.input[1]][0] == 3 * block)
        order = np.concatenate([np.arange(block, 2 * block), np.arange(block), np.arange(2 * block, 3 * block)])
        for tensor in model.graph.initializer:
            if tensor.name in last.input[1:]:
                rewrite(tensor, lambda values: values[order])

    expected = "99.50%" if precision == "fp16" else "99.99|1e-04"
    with pytest.raises(GraphError, match=expected):
        checked(name, swap_classes, precision)


NO_NUMBER, WITHIN = float("nan"), Agreement(9e-5, 0.99991, 9e-5)


@pytest.mark.parametrize(
    ("precision", "found", "taken"),
    [
        ("fp32", WITHIN, True),
        ("fp32", WITHIN._replace(logits_error=1.1e-4), False),
        ("fp32", WITHIN._replace(mask_agreement=0.9998), False),
        ("fp32", WITHIN._replace(slack=1.1e-4), False),
        ("fp16", Agreement(0.5, 0.9951), True),
        ("fp16", Agreement(0.5, 0.9949), False),
        ("fp16", Agreement(9e-4, 0.9), True),  # so near, other classes are near-ties
        ("fp16", Agreement(1e-3, 0.9949), False),
    ],
)
def test_the_bounds_are_those_of_the_issue(checked, graph, monkeypatch, precision, found, taken):
    frames = []
    graph("enet", precision)  # an export compares, too
    monkeypatch.setattr(check, "compare", lambda *arguments, **_: frames.append(arguments[4]) or found)
    if taken:
        assert checked("enet", precision=precision) == found
    else:
        with pytest.raises(GraphError):
            checked("enet", precision=precision)
    assert len(frames) == {"fp32": 2, "fp16": 1}[precision]


def test_the_worse_of_both_frames_counts(checked, monkeypatch):
    results = iter([WITHIN._replace(logits_error=1), WITHIN])
    monkeypatch.setattr(check, "compare", lambda *_, **__: next(results))
    with pytest.raises(GraphError):
        checked("enet")


def test_the_second_frame_is_heavy_with_ties(checked, monkeypatch):
    frames = []
    monkeypatch.setattr(check, "compare", lambda *arguments, **_: frames.append(arguments[4]) or WITHIN)
    checked("enet")
    street, flat = (np.stack([f[i::2, j::2] for i in (0, 1) for j in (0, 1)]).astype(int) for f in frames)
    tied = ((flat == flat.max(0)).sum(0) > 1).mean()
    assert tied > 0.5 and tied > ((street == street.max(0)).sum(0) > 1).mean()


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_weights_that_are_not_finite_are_refused(checked, networks, name):
    network = registry.find(name).build(3)
    network.load_state_dict(networks(name).state_dict())
    with torch.no_grad():
        next(network.parameters())[0] = NO_NUMBER
    with pytest.raises(GraphError, match=f"the network of {name} gives logits that are not finite"):
        checked(name, network=network.eval())


def test_a_graph_that_overflows_is_refused(checked):
    with pytest.raises(GraphError, match="the graph of enet gives logits that are not finite"):
        checked("enet", lambda model: scale_weight(model, float("inf")))


def test_the_agreement_reads_as_a_sentence():
    assert str(Agreement(1.5e-5, 0.9999)) == "logits within 1.5e-05 of their range, 99.9900% of pixels agree"
