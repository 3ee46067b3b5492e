"""What is joined by channels and read by a quantized layer keeps its values, on every CPU."""

import numpy as np
import openvino
import pytest
from openvino import opset13

from engines import openvino_build
from engines.openvino_pairs import merge_pairs
from runtime.backends.openvino import DEVICE, compile_options, core

STEP = 0.05
ROUNDED = 0.01  # of the outputs' deviation; what is taken for other codes is off by 0.3 and more


def pair(source):
    ends = [opset13.constant(np.float32(end)) for end in (-128 * STEP, 127 * STEP, -128, 127)]
    codes = opset13.convert(opset13.fake_quantize(source, *ends, 256), "i8")
    return opset13.multiply(opset13.convert(codes, "f32"), np.float32(STEP)).output(0)


def convolution(source, outputs, seed):
    """Weights so small that no two products saturate."""
    channels = source.get_partial_shape()[1].get_length()
    codes = np.random.default_rng(seed).integers(-20, 21, (outputs, channels, 3, 3)).astype(np.int8)
    weight = opset13.multiply(opset13.convert(opset13.constant(codes), "f32"), np.float32(0.02))
    return opset13.convolution(source, weight, [1, 1], [1, 1], [1, 1], [1, 1]).output(0)


def relu(source):
    return opset13.relu(source).output(0)


def pooled(source):
    return opset13.max_pool(source, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)


def same(source):
    return source


def joined(before, after, *ways):
    def layer(x):
        frame = pair(x)
        branches = [before(way(convolution(frame, 16, seed))) for seed, way in enumerate(ways)]
        return convolution(after(opset13.concat(branches, 1).output(0)), 8, 9)

    return layer


def twice(x):
    frame = pair(x)
    first = opset13.concat([pair(convolution(frame, 8, 0)), pair(relu(convolution(frame, 8, 1)))], 1).output(0)
    second = opset13.concat([pair(first), pair(convolution(pair(first), 8, 2))], 1).output(0)
    return convolution(second, 8, 3)


LAYERS = {
    "quantized before": joined(pair, same, same, same),
    "quantized after": joined(same, pair, same, same),
    "quantized before and after": joined(pair, pair, same, same),
    "never negative": joined(pair, same, relu, relu),
    "never negative, quantized after": joined(same, pair, relu, relu),
    "of both kinds": joined(pair, same, same, relu),
    "three": joined(pair, same, same, relu, relu),
    "pooled in between": joined(pair, pooled, relu, relu),
    "pooled, and quantized again": joined(pair, lambda x: pair(pooled(x)), same, relu),
    "twice": twice,
}


def model_of(layer):
    x = opset13.parameter([1, 3, 16, 32], np.float32)
    return openvino.Model([layer(x.output(0))], [x])


def result(model, **options):
    x = np.random.default_rng(1).normal(1, 2, (1, 3, 16, 32)).astype(np.float32)
    return core().compile_model(model, DEVICE, compile_options("f32") | options)([x])[0]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_joined_maps_keep_their_values(layer):
    expected = result(model_of(layer), LP_TRANSFORMS_MODE="NO")
    model = model_of(layer)
    merge_pairs(model)
    assert np.sqrt(np.mean((result(model) - expected) ** 2)) < ROUNDED * expected.std()


@pytest.mark.parametrize("saturates", [True, False])
def test_a_build_keeps_them_on_every_cpu(saturates, monkeypatch):
    done = []
    monkeypatch.setattr(openvino_build, "sums_saturate", lambda: saturates)
    for name in ("hold_weights", "merge_pairs", "fuse_sums", "quantize_frame", "read_in_blocks", "view_windows"):
        monkeypatch.setattr(openvino_build, name, lambda *_, name=name, **form: done.append(name) or [])
    monkeypatch.setattr(openvino_build, "_with_frame_input", lambda model, *_: model)
    monkeypatch.setattr(openvino_build, "refuse_other_precision", lambda *_: None)
    from tests.helpers.graphs import tiny_spec

    openvino_build.compiled(model_of(LAYERS["three"]), tiny_spec(), "int8")
    assert done[-4 + (not saturates) :] == ["merge_pairs", "fuse_sums"] + ["hold_weights"] * saturates + [
        "view_windows"
    ]
