import pytest

from calib.graphs import load_graph
from calib.placement import layers, place, tensors

FIRST = ("Conv", ["frame", "net.first.conv.weight"], ["a"], {"pads": [1, 1, 1, 1]})


def conv(name, source, output):
    return ("Conv", [source, f"net.{name}.conv.weight"], [output], {})


def points(model, **options):
    placed = place(model.graph, **options)
    return {(p.tensor, p.range_of) for p in placed.points}


def test_a_convolution_inside_gets_a_pair_and_int8_weights(tiny_model):
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), conv("second", "b", "logits"))
    placed = place(model.graph)
    assert [(p.node, p.input, p.tensor) for p in placed.points] == [(2, 0, "b")]
    assert (placed.weights, placed.rounded) == ((2,), (0,))


def test_the_skip_of_a_sum_gets_a_pair_and_the_convolution_beside_it_none(tiny_model):
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), conv("inner", "b", "c"), ("Add", ["b", "c"], ["d"], {}))
    placed = place(model.graph)
    assert {(p.node, p.input) for p in placed.points} == {(2, 0), (3, 0)}


def test_of_two_projected_inputs_of_a_sum_one_is_the_skip(tiny_model):
    model = tiny_model(
        FIRST, ("Relu", ["a"], ["b"], {}), conv("x", "b", "c"), conv("y", "b", "d"), ("Add", ["c", "d"], ["e"], {})
    )
    assert [p.input for p in place(model.graph).points if p.node == 4] == [0]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_has_one_scale_on_both_sides(tiny_model, op):
    pool = (op, ["b"], ["c"], {"kernel_shape": [2, 2], "strides": [2, 2]})
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), pool, conv("after", "c", "logits"))
    assert points(model) == {("b", "b"), ("c", "b")}


def test_what_is_cut_out_and_joined_has_the_pair_of_the_result_before_it(tiny_model):
    cut = ("Slice", ["c", "starts", "ends"], ["d"], {})
    join = ("Concat", ["d", "b"], ["e"], {"axis": 2})
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), ("Relu", ["b"], ["c"], {}), cut, join, conv("x", "e", "f"))
    assert points(model) == {("e", "e"), ("d", "e"), ("b", "e"), ("c", "e")}
    assert tensors(model.graph) == ["e"]


def test_what_is_spread_has_the_pair_of_the_result_before_it(tiny_model):
    spread = ("DepthToSpace", ["b"], ["c"], {"blocksize": 2, "mode": "CRD"})
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), spread, conv("x", "c", "d"))
    assert points(model) == {("b", "c"), ("c", "c")}


def test_a_tensor_that_a_convolution_reads_too_keeps_its_own_scale_there(tiny_model):
    cut, again = ("Slice", ["b", "starts", "ends"], ["c"], {}), conv("y", "b", "e")
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), cut, again, conv("x", "c", "d"))
    placed = {(p.node, p.input): (p.tensor, p.range_of) for p in place(model.graph).points}
    assert placed == {(2, 0): ("b", "c"), (3, 0): ("b", "b"), (4, 0): ("c", "c")}


def test_a_pooled_frame_is_read_as_the_frame_is(tiny_model):
    pool = ("MaxPool", ["frame"], ["p"], {"kernel_shape": [2, 2]})
    model = tiny_model(pool, ("Conv", ["p", "w"], ["a"], {}))
    assert points(model) == set()
    assert place(model.graph).rounded == (1,)
    assert tensors(model.graph) == ["p"]  # for the mean that a bias is corrected with


def test_a_layer_to_leave_keeps_its_weights_and_inputs(tiny_model):
    model = tiny_model(FIRST, ("Relu", ["a"], ["b"], {}), conv("x", "b", "c"), conv("y", "c", "logits"))
    placed = place(model.graph, ["x"])
    assert ([p.tensor for p in placed.points], placed.weights) == (["c"], (3,))


def test_a_layer_that_is_not_there_is_named_with_those_that_are(tiny_model):
    with pytest.raises(ValueError, match="no layer frist; it has first"):
        place(tiny_model(FIRST).graph, ["frist"])


def test_what_unpooling_compares_or_moves_is_never_quantized(graphs):
    graph = load_graph(graphs("enet")["fp16"], "fp16")[0].graph
    producer = {out: node for node in graph.node for out in node.output}
    placed = place(graph)
    assert all(graph.node[p.node].op_type in ("Conv", "Add", "Pad", "DepthToSpace") for p in placed.points)
    skips = [producer[p.tensor].op_type for p in placed.points if graph.node[p.node].op_type == "Add"]
    assert len(skips) > 20
    assert not {"Reshape", "Where"} & set(skips)


@pytest.mark.parametrize(("name", "convolutions"), [("icnet", 68), ("enet", 90)])
def test_every_convolution_of_the_networks_is_placed(graphs, name, convolutions):
    graph = load_graph(graphs(name)["fp16"], "fp16")[0].graph
    placed = place(graph)
    assert len(placed.weights) + len(placed.rounded) == convolutions
    assert len(placed.rounded) == 2


def test_layers_are_named_as_the_network_names_them(graphs):
    names = set(layers(load_graph(graphs("icnet")["fp16"], "fp16")[0].graph).values())
    assert {"conv1_1", "conv3_1.reduce", "fusion_24", "conv6_cls"} <= names
