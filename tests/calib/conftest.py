import dataclasses
from functools import cache

import numpy as np
import onnx
import pytest

from calib.graphs import load_graph
from calib.placement import tensors
from calib.ranges import collect
from calib.table import CalibrationTable
from calib.thresholds import thresholds
from export.check import street_frame
from runtime.reference import preprocess

SIZE = (64, 128)


@pytest.fixture(scope="session")
def graphs(shipped):
    """Paths of a shipped network's FP32 and FP16 graphs at 64x128, of a name."""
    return cache(lambda name: {precision: shipped(name, precision) for precision in ("fp32", "fp16")})


@pytest.fixture(scope="session")
def frame():
    """A real street frame."""
    return street_frame()


@pytest.fixture(scope="session")
def tables(graphs, frame):
    """The calibration table of a network on that frame alone, of a name."""

    @cache
    def table(name):
        model, spec = load_graph(graphs(name)["fp32"], "fp32")
        found = collect(model, tensors(model.graph), [preprocess(frame, spec.preprocess)])
        return CalibrationTable(
            model=name,
            weights_sha256=spec.weights_sha256,
            size=SIZE,
            seed=0,
            frames=("street.jpg",),
            frames_sha256=("0" * 64,),
            versions={},
            method="minmax",
            float_layers=(),
            ranges={name: thresholds(histogram) for name, histogram in found.histograms.items()},
            means={name: tuple(mean) for name, mean in found.means.items()},
        )

    return table


@pytest.fixture
def tiny_table():
    """A table for `tiny_model`, which tests change as they need."""

    def table(tensors, channels, **changes):
        ranges = {name: dict.fromkeys(("minmax", "percentile", "entropy", "mse"), 1.0) for name in tensors}
        means = dict.fromkeys(tensors, (0.0,) * channels)
        made = CalibrationTable("tiny", "0" * 64, SIZE, 0, ("a.png",), ("0" * 64,), {}, "minmax", (), ranges, means)
        return dataclasses.replace(made, **changes)

    return table


@pytest.fixture
def tiny_model():
    """A graph of nodes (op, inputs, outputs, attributes); weights (4, 3, 3, 3) on the frame, else (4, 4, 1, 1)."""

    def model(*nodes, kind=np.float32):
        rng, made, constants = np.random.default_rng(0), [], {}
        for op, inputs, outputs, attributes in nodes:
            made.append(onnx.helper.make_node(op, inputs, outputs, **attributes))
            if op == "Conv":
                shape = (4, 3, 3, 3) if inputs[0] == "frame" else (4, 4, 1, 1)
                constants.setdefault(inputs[1], rng.normal(size=shape).astype(kind))
                for bias in inputs[2:]:
                    constants.setdefault(bias, rng.normal(size=4).astype(kind))
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        graph = onnx.helper.make_graph(
            made,
            "tiny",
            [onnx.helper.make_tensor_value_info("frame", element, [1, 3, 8, 8])],
            [onnx.helper.make_tensor_value_info(nodes[-1][2][0], element, ["n", "c", "h", "w"])],
            [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)

    return model
