import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN, max_pool_2x2, max_unpool_2x2, replaying

SHAPES = [(1, 1, 2, 2), (1, 3, 2, 8), (2, 3, 6, 2), (2, 5, 8, 10)]


def noise(shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def ties(shape):
    """Three values, so that most windows hold their maximum more than once."""
    return torch.from_numpy(np.random.default_rng(1).integers(-1, 2, shape).astype(np.float32))


def there_and_back(x, y):
    pooled, positions = max_pool_2x2(x)
    return pooled, max_unpool_2x2(y, positions)


def by_pytorch(x, y):
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    return pooled, F.max_unpool2d(y, indices, 2)


@pytest.fixture
def exporting(monkeypatch):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)


@pytest.mark.parametrize("values", [noise, ties])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exported_form_unpools_as_pytorch_does(shape, values, exporting):
    x, y = values(shape), noise((*shape[:2], shape[2] // 2, shape[3] // 2))
    _, positions = max_pool_2x2(x)
    assert positions.shape == y.shape and set(positions.unique().tolist()) <= {1.0, 2.0, 3.0, 4.0}
    for got, expected in zip(there_and_back(x, y), by_pytorch(x, y), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("window", list(np.ndindex(2, 2, 2, 2)))
def test_of_equal_maxima_the_first_is_taken(window, exporting):
    x = torch.tensor(window, dtype=torch.float32).reshape(1, 1, 2, 2)
    y = torch.full((1, 1, 1, 1), 7.0)
    assert torch.equal(there_and_back(x, y)[1], by_pytorch(x, y)[1])


def test_a_window_has_a_place_where_no_value_equals_its_maximum(exporting):
    _, positions = max_pool_2x2(torch.full((1, 1, 2, 4), torch.nan))  # which equals nothing
    assert torch.equal(positions, torch.ones(1, 1, 1, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_eagerly_it_is_pytorchs_own(shape):
    x, y = ties(shape), noise((*shape[:2], shape[2] // 2, shape[3] // 2))
    for got, expected in zip(there_and_back(x, y), by_pytorch(x, y), strict=True):
        assert torch.equal(got, expected)


@pytest.fixture(scope="module")
def graph():
    class ThereAndBack(nn.Module):
        forward = staticmethod(there_and_back)

    example = (torch.zeros(2, 3, 8, 12), torch.zeros(2, 3, 4, 6))
    program = torch.onnx.export(ThereAndBack().eval(), example, dynamo=True, opset_version=20, verbose=False)
    return program.model_proto.SerializeToString()


@pytest.mark.parametrize("values", [noise, ties])
def test_the_graph_unpools_as_pytorch_does(graph, values):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    tensors = values((2, 3, 8, 12)), noise((2, 3, 4, 6))
    feed = {put.name: x.numpy() for put, x in zip(session.get_inputs(), tensors, strict=True)}
    for got, expected in zip(session.run(None, feed), by_pytorch(*tensors), strict=True):
        np.testing.assert_array_equal(got, expected.numpy())


def test_the_graph_needs_no_index_and_moves_nothing_out_of_its_place(graph):
    nodes = onnx.load_from_string(graph).graph.node
    assert {node.op_type for node in nodes} == {"MaxPool", "Reshape", "GreaterOrEqual", "Where", "Equal"}
    assert all(len(node.output) == 1 for node in nodes)


def first_maxima(x):
    quarters = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return 4.0 - (quarters == quarters.amax(0)).to(torch.uint8).argmax(0)


def test_a_replay_takes_the_choices_it_is_given():
    x, y = ties((1, 3, 8, 12)), noise((1, 3, 4, 6))
    with replaying([first_maxima(x)]) as replay:
        pooled, positions = max_pool_2x2(x)
    assert torch.equal(positions, first_maxima(x))
    assert torch.equal(pooled, F.max_pool2d(x, 2)) and replay.slack == 0
    assert torch.equal(max_unpool_2x2(y, positions), by_pytorch(x, y)[1])


@pytest.mark.parametrize(("rank", "slack"), [(4.0, 1.0), (3.0, 0.0), (2.0, 0.0), (1.0, 0.0)])
def test_any_of_equal_maxima_replays_without_slack(rank, slack):
    x = torch.ones(1, 1, 2, 2)
    x[..., 0, 0] = 0  # three maxima are left
    with replaying([torch.full((1, 1, 1, 1), rank)]) as replay:
        max_pool_2x2(x)
    assert replay.slack == slack


@pytest.mark.parametrize(("rank", "slack"), [(2.0, 1 / 15), (3.0, 4 / 15), (4.0, 5 / 15), (0.0, np.inf), (5.0, np.inf)])
def test_slack_tells_of_a_choice_that_is_no_maximum(rank, slack):
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    ranks = first_maxima(x)
    assert set(ranks.unique().tolist()) == {1.0}  # the maxima are in the lower right corners
    ranks[0, 0, 1, 0] = rank
    with replaying([ranks]) as replay:
        pooled, _ = max_pool_2x2(x)
    assert torch.equal(pooled, F.max_pool2d(x, 2))
    assert replay.slack == pytest.approx(slack)


def test_replays_are_taken_in_order_and_end_with_their_block():
    first, second = noise((1, 1, 4, 4)), ties((1, 2, 2, 2))
    with replaying([first_maxima(first), first_maxima(second)]) as replay:
        max_pool_2x2(first)
        max_pool_2x2(second)
    assert replay.slack == 0 and replay.positions == []
    assert max_pool_2x2(first)[1].dtype == torch.int64


def test_a_convolution_keeps_the_size_at_stride_1_and_halves_it_up_at_2():
    x = torch.zeros(1, 3, 7, 10)
    for kernel, dilation in ((1, 1), (3, 1), (3, 4)):
        assert ConvBN(3, 4, kernel, dilation=dilation).eval()(x).shape == (1, 4, 7, 10)
        assert ConvBN(3, 4, kernel, stride=2, dilation=dilation).eval()(x).shape == (1, 4, 4, 5)
