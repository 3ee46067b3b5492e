"""The floor: what convolutions reach here, and how many multiplications a graph has."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.cli import DONE
from runtime.errors import EngineError
from runtime.measure import roof
from runtime.measure.roof import floor_ms, gmac_of, main, reached

SMALL = ((8, 8, 16, 3), (16, 4, 8, 1))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(roof, "SHAPES", SMALL)


def test_every_precision_of_this_cpu_is_tried_in_every_shape(small):
    found = roof.Roof()
    found.segment()
    kinds = {name.split(" ")[0] for name in found.stages_ms}
    assert {"fp32", "int8"} <= kinds <= {"fp32", "bf16", "fp16", "int8"}
    assert len(found.stages_ms) == len(kinds) * len(SMALL) and min(found.stages_ms.values()) > 0


def test_under_a_cap_no_type_is_tried_that_the_library_has_no_code_for(small, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # too late for the library, not for what is asked of it
    assert {probe.precision for probe in roof.Roof().probes} == {"fp32", "int8"}


def test_some_precisions_alone_are_tried():
    assert {(probe.precision, probe.name) for probe in roof.Roof(("int8",), SMALL[:1]).probes} == {
        ("int8", "8x8x16 k3")
    }


def test_the_8_bit_stack_is_computed_in_8_bits(small):
    found = next(probe for probe in roof.Roof().probes if probe.precision == "int8" and " k3" in probe.name)
    nodes = found.request.get_compiled_model().get_runtime_model().get_ops()
    kinds = [node.get_rt_info()["runtimePrecision"].astype(str) for node in nodes if "Convolution" in str(
        node.get_rt_info()["layerType"].astype(str))]  # fmt: skip
    assert len(kinds) == roof.LAYERS and set(kinds) <= {"u8", "i8"}


def test_the_best_shape_in_its_best_round_is_what_is_reached():
    a, b = "1000x20x25 k1", "1000x40x25 k1"  # 3 and 6 GMAC
    rounds = [
        {f"fp32 {a}": 30.0, f"fp32 {b}": 90.0, f"int8 {a}": 12.0},
        {f"fp32 {a}": 60.0, f"fp32 {b}": 75.0, f"int8 {a}": 15.0},
    ]
    assert reached(rounds) == {"fp32": 100.0, "int8": 250.0}
    assert floor_ms(24.0, 100.0) == 240.0


def graph(nodes, inputs, weights):
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "expected"),
    [
        ({"op_type": "Conv", "pads": [1, 1, 1, 1], "strides": [2, 2]}, [1, 4, 8, 16], [6, 4, 3, 3], 4 * 8 * 6 * 4 * 9),
        ({"op_type": "Conv", "group": 4}, [1, 4, 8, 16], [4, 1, 1, 1], 8 * 16 * 4),
        ({"op_type": "ConvTranspose", "strides": [2, 2]}, [1, 4, 8, 16], [4, 6, 2, 2], 8 * 16 * 4 * 6 * 4),
        ({"op_type": "ConvTranspose", "strides": [2, 2], "group": 2}, [1, 4, 8, 16], [4, 3, 2, 2], 8 * 16 * 4 * 3 * 4),
        ({"op_type": "MatMul"}, [1, 5, 7], [7, 3], 5 * 7 * 3),
        ({"op_type": "Gemm", "transA": 1}, [7, 5], [7, 3], 5 * 7 * 3),
        ({"op_type": "Add"}, [1, 4], [1, 4], 0),
    ],
)  # fmt: skip
def test_each_weight_is_counted_once_for_every_place_it_is_used_in(node, inputs, weights, expected):
    made = helper.make_node(inputs=["x", "w"], outputs=["y"], **node)
    assert round(gmac_of(graph([made], inputs, {"w": weights})) * 1e9) == expected


def test_what_is_no_graph_is_one_line():
    with pytest.raises(EngineError, match="OpenVINO refuses the plain graph"):
        gmac_of(onnx.ModelProto().SerializeToString() + b"x")


def test_the_command_tells_a_line_a_precision(small, capsys):
    assert main(["--rounds", "2"]) == DONE
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {"fp32", "int8"} <= {line[0] for line in lines} and all(line[2] == "GMAC/s" for line in lines)
