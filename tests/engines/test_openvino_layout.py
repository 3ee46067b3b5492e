import dataclasses
import io

import cv2
import numpy as np
import openvino
import pytest
import torch
from openvino import opset13
from torch import nn

from engines import openvino_build
from engines.build import read_spec
from engines.openvino_layout import leave_doubling, multiply_channels_last, view_windows
from export.half import half_from_float
from export.models.layers import max_pool_2x2, max_unpool_2x2
from runtime import reference
from runtime.backend import open_backend
from runtime.backends.openvino import DEVICE, OpenVinoBackend, compile_options, core
from runtime.backends.openvino_layers import frame_layers
from runtime.doubling import HALVED, doubled
from runtime.manifest import read_manifest
from runtime.spec import HALVED_VERSION, MANIFEST_VERSION
from tests.helpers.engines import built_engine
from tests.helpers.graphs import DOUBLED, tiny_spec
from tests.helpers.openvino_models import HEIGHT, WIDTH, compiled, on_frame, result, values


class ThereAndBack(nn.Module):
    """A sum of two convolutions, whose maxima come back after two more."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(4))

    def forward(self, x):
        first, second, third, fourth = self.convolutions
        rounded = torch.relu(first(x) + second(x))
        maxima, positions = max_pool_2x2(rounded)
        return rounded, max_unpool_2x2(fourth(third(maxima)), positions)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def windows(request):
    example = (torch.zeros(1, 16, 8, 12),)
    program = torch.onnx.export(ThereAndBack().eval(), example, dynamo=True, opset_version=20, verbose=False)
    graph = program.model_proto
    return (half_from_float(graph) if request.param == "fp16" else graph).SerializeToString()


def shuffled(x):
    """Pixels of four channels side by side: six dimensions, and no windows."""
    six = opset13.reshape(x, np.array([1, 4, 2, 2, 8, 12]), False)
    return opset13.reshape(opset13.transpose(six, np.array([0, 1, 4, 2, 5, 3])), np.array([1, 4, 16, 24]), False)


def averaged(x):
    six = opset13.reshape(x, np.array([1, 16, 4, 2, 6, 2]), False)
    return opset13.reduce_mean(six, np.array([3, 5]))


@pytest.mark.parametrize("make", [shuffled, averaged])
def test_other_maps_of_six_dimensions_stay_as_they_are(make):
    x = opset13.parameter([1, 16, 8, 12], np.float32)
    model = openvino.Model([make(x)], [x])
    expected = result(model)
    view_windows(model)
    assert np.array_equal(result(model), expected)


def moved(engine):
    """How many layers of a frame copy a map to have it in another layout."""
    return [layer.role for layer in frame_layers(engine.get_runtime_model())].count("reorder")


def test_windows_that_are_viewed_with_the_channels_last_hold_the_same_values(windows):
    model = core().read_model(windows, b"")
    expected = result(model)
    view_windows(model)
    found = result(model)
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert (expected[0] == 0).any() and 0.1 < (expected[1] != 0).mean() <= 0.25
    pools = [node for node in model.get_ordered_ops() if node.get_type_name() == "MaxPool"]
    kind = model.inputs[0].get_element_type()
    assert [node.get_output_element_type(0) for node in pools] == [kind, openvino.Type.u8]


def test_of_equal_maxima_the_first_is_taken(windows):
    model = core().read_model(windows, b"")
    view_windows(model)
    # Of each window the two on one diagonal are the largest: the one in the upper row is the first.
    x = np.zeros((1, 16, 8, 12), model.inputs[0].get_element_type().to_dtype())
    x[..., 0::2, 1::2] = x[..., 1::2, 0::2] = values((16, 1, 1))
    unpooled = list(compiled(model)([x]).values())[1]
    assert unpooled[..., 0::2, 0::2].any() and unpooled[..., 0::2, 1::2].any()
    assert not unpooled[..., 1::2, :].any()


@pytest.mark.parametrize("name", ["enet", "icnet"])
def test_no_map_of_a_network_is_copied_to_change_its_layout(name, shipped):
    onnx_bytes = shipped(name, "fp16").read_bytes()
    built = openvino_build.build(onnx_bytes, read_spec(onnx_bytes), "fp16", "openvino")
    engine = core().import_model(io.BytesIO(built.engine), DEVICE, compile_options("f32"))
    assert moved(engine) == (
        2 if name == "icnet" else 0
    )  # to the pyramid's products, which take channels first, and back


def multiplied(transpose_b):
    matrix = opset13.constant(values((5, WIDTH) if transpose_b else (WIDTH, 5), 1))
    weight = opset13.constant(values((64, 3, 3, 3), 2))

    def read(planes):
        maps = opset13.convolution(planes, weight, [1, 1], [1, 1], [1, 1], [1, 1])
        viewed = opset13.reshape(maps, np.array([1, 32, 2 * HEIGHT, WIDTH]), False)
        products = [opset13.matmul(each, matrix, False, transpose_b) for each in (opset13.relu(maps), viewed)]
        return opset13.add(products[0], opset13.reshape(products[1], np.array([1, 64, HEIGHT, 5]), False))

    return on_frame(read)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_maps_with_the_channels_last_are_the_same(transpose_b):
    plain, last = multiplied(transpose_b), multiplied(transpose_b)
    multiply_channels_last(last)
    frame = np.random.default_rng(3).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    engines = [core().compile_model(model, DEVICE, compile_options("f32")) for model in (plain, last)]
    expected, found = (engine([frame])[0] for engine in engines)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))
    read = [node.input_value(1).get_node() for node in last.get_ops() if node.get_type_name() == "MatMul"]
    assert [each.get_type_name() for each in read] == ["Transpose"] * 2


@pytest.mark.parametrize("other", ["a matrix of the frame", "maps turned", "channels last"])
def test_other_products_stay_as_they_are(other):
    def read(planes):
        if other == "channels last":
            maps = opset13.convolution(planes, opset13.constant(values((8, 3, 1, 1))), [1, 1], [0, 0], [0, 0], [1, 1])
            return opset13.matmul(
                opset13.transpose(maps, np.array([0, 2, 3, 1])), opset13.constant(values((8, 5))), False, False
            )
        if other == "maps turned":
            return opset13.matmul(planes, opset13.constant(values((HEIGHT, 5))), True, False)
        return opset13.matmul(planes, opset13.transpose(planes, np.array([0, 1, 3, 2])), False, False)

    model = on_frame(read)
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    multiply_channels_last(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == names


def ending(how, scales=(2.0, 2.0), after=None, **others):
    """A convolution whose map is resized, and what comes after; (model, its weights)."""
    x = opset13.parameter([1, 3, 8, 12], np.float32)
    rng = np.random.default_rng(0)
    made = opset13.convolution(x, rng.standard_normal((5, 3, 1, 1)).astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    given = {"mode": "linear_onnx", "coordinate_transformation_mode": "half_pixel"} | others
    sides = [int(side * scale) for side, scale in zip((8, 12), scales, strict=True)]
    values = np.array(scales, np.float32) if how == "scales" else np.array(sides)
    made = opset13.interpolate(made, values, shape_calculation_mode=how, axes=np.array([2, 3]), **given)
    return openvino.Model([after(made) if after else made], [x])


@pytest.mark.parametrize("how", ["sizes", "scales"])
@pytest.mark.parametrize("mode", ["linear", "linear_onnx"])
def test_logits_leave_before_they_are_doubled(how, mode):
    model = ending(how, mode=mode)
    expected = result(model)
    assert leave_doubling(model)
    assert np.allclose(doubled(result(model)[0]), expected[0], atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda: ending("sizes", (4.0, 4.0)),
        lambda: ending("sizes", (2.0, 1.0)),
        lambda: ending("scales", (2.05, 2.0)),
        lambda: ending("sizes", mode="cubic"),
        lambda: ending("sizes", mode="nearest"),
        lambda: ending("sizes", coordinate_transformation_mode="align_corners"),
        lambda: ending("sizes", coordinate_transformation_mode="asymmetric"),
        lambda: ending("sizes", antialias=True, mode="linear"),
        lambda: ending("sizes", after=opset13.relu),
    ],
)
def test_logits_that_end_otherwise_stay_as_they_are(model):
    model = model()
    expected = result(model)
    assert not leave_doubling(model)
    assert np.array_equal(result(model), expected)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_gives_the_doubled_logits_and_masks_of_them(shipped, precision, monkeypatch):
    onnx = shipped("icnet", precision).read_bytes()
    spec, found = read_spec(onnx), []
    frame = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    frame = cv2.resize(frame[::10, ::10], (90, 50))
    for leaves in (leave_doubling, lambda model: False):
        monkeypatch.setattr(openvino_build, "leave_doubling", leaves)
        engine = core().import_model(
            io.BytesIO(openvino_build.build(onnx, spec, precision, "openvino").engine), DEVICE, compile_options("f32")
        )
        with OpenVinoBackend(engine, spec) as backend:
            assert (HALVED in engine.output(0).get_names()) == (leaves is leave_doubling)
            assert np.array_equal(backend.segment(frame), reference.segment(backend.logits(frame), spec, (50, 90)))
            found.append(backend.logits(frame))
    assert found[0].shape == found[1].shape
    assert np.abs(found[0] - found[1]).max() <= 0.02 * np.abs(found[1]).max()


@pytest.mark.parametrize(("source", "version"), [(DOUBLED, HALVED_VERSION), ("two convolutions", MANIFEST_VERSION)])
def test_programs_of_before_refuse_an_engine_of_halved_logits_by_its_version(tmp_path, source, version):
    engine = built_engine(tmp_path, spec=dataclasses.replace(tiny_spec(), source=source))
    assert read_manifest(engine).version == version
    frame = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    with open_backend(engine) as backend:
        assert backend.logits(frame).shape[2:] == (8, 16)
        mask, confidence = backend.confidence(frame)
        assert np.array_equal(mask, reference.segment(backend.logits(frame), backend.spec, frame.shape))
        assert np.array_equal(
            confidence, reference.segment_confidence(backend.logits(frame), backend.spec, frame.shape)
        )
