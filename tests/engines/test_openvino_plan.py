from engines import openvino_plan
from engines.build import read_spec
from engines.planned import figures
from runtime.measure.gate.proxies import count
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_graph

FRAME, MAPS, LOGITS = 3 * 32 * 64, 8 * 16 * 32, 11 * 8 * 16
WEIGHTS = 8 * 3 * 3 * 3 + 11 * 8 * 3 * 3


def plan():
    graph = tiny_graph()
    return openvino_plan.plan(graph, "tiny", read_spec(graph), "fp32")


def test_maps_are_told_apart_from_weights_and_every_kernel_has_its_time():
    kernels = plan().kernels
    assert kernels[0].reads[0].nbytes == FRAME  # as bytes
    assert sum(kernel.moved for kernel in kernels) >= FRAME + 4 * (2 * MAPS + LOGITS)
    assert sum(kernel.weights for kernel in kernels) >= 4 * WEIGHTS
    assert all(kernel.ms is not None for kernel in kernels)


def test_the_plan_has_the_kernels_and_bytes_that_the_gate_counts(tmp_path):
    counts, kernels = count(built_engine(tmp_path)), plan().kernels
    assert len(kernels) == counts["kernels"]
    assert sum(kernel.moved + kernel.weights for kernel in kernels) == counts["bytes_moved"]
    assert figures(plan())["casts"] == counts["casts"]
