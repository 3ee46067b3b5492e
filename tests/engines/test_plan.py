import importlib.util
import json
import sys

import pytest

from engines import plan
from engines.planned import Kernel, Map, Plan, as_json, figures
from runtime.cli import run
from runtime.errors import EngineError, GraphError, LibraryError
from tests.helpers.graphs import tiny_graph, tiny_spec

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="no tensorrt_rtx")
MIB = 1_000_000
WIDE = Map("wide", (1, 1, 1000, 1000), "fp32", 4 * MIB)
HALF = Map("half", (1, 1, 1000, 1000), "fp16", 2 * MIB)
BASE = Plan(
    "base.onnx",
    "a library 1",
    (
        Kernel("cast", "kgen", "cast", (WIDE,), (HALF,), 0),
        Kernel("conv", "correlation", "work", (HALF, HALF), (WIDE,), MIB),
    ),
)
BETTER = Plan("better.onnx", "a library 1", (Kernel("conv", "correlation", "work", (WIDE,), (WIDE,), MIB, 1.5),))


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "tiny-fp16.onnx"
    path.write_bytes(tiny_graph(precision="fp16"))
    return path


def test_figures_add_up_what_is_moved_by_kind_type_and_pass():
    found = figures(BASE)
    assert (found["kernels"], found["casts"], found["reorders"]) == (2, 1, 0)
    assert (found["MB moved"], found["MB in passes (cast)"], found["MB of weights"]) == (12, 6, 1)
    assert (found["MB by correlation"], found["MB by kgen"]) == (6, 6)
    assert (found["MB written in fp16"], found["MB written in fp32"]) == (2, 4)
    assert "ms" not in found and figures(BETTER)["ms"] == 1.5


def test_two_plans_stand_side_by_side_with_what_the_second_has_more_or_less():
    rows = {
        line.split("  ")[0]: line.split()[-2:]
        for line in plan.side_by_side((BASE, BETTER), difference=True).split("\n")
    }
    assert rows["kernels"] == ["1", "(-50.0%)"]
    assert rows["MB by correlation"] == ["8", "(+33.3%)"]
    assert rows["MB of weights"] == ["1", "(=)"]
    assert rows["casts"] == ["0", "(-100.0%)"]
    assert rows["MB by kgen"][-1] == "-" and rows["ms"] == ["-", "1.5"]


def test_the_largest_kernels_are_told_with_their_maps():
    lines = plan.largest(BASE, 1).splitlines()
    assert len(lines) == 2 and "6.0 MB" in lines[1] and "1x1x1000x1000 fp32 -> 1x1x1000x1000 fp16" in lines[1]


@needs_rtx
def test_the_command_lays_two_libraries_beside_each_other(graph, capsys):
    assert plan.main([str(graph), "--backend", "tensorrt-rtx", "openvino", "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert "tensorrt-rtx 1." in out and "openvino 20" in out
    assert "MB written in fp16" in out and " ms" in out and "tiny-fp16.onnx, openvino" in out


def test_json_holds_figures_and_every_kernel(graph, capsys):
    assert plan.main([str(graph), "--backend", "openvino", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["figures"]["kernels"] == len(document["kernels"]) >= 2
    assert document["kernels"][0]["reads"][0]["shape"][0] == 1
    assert all(kernel["ms"] is not None for kernel in document["kernels"])


@needs_rtx
def test_a_graph_is_told_against_another(graph, capsys):
    assert plan.main([str(graph), "--against", str(graph)]) == 0
    (kernels,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kernels")]
    assert kernels.endswith("(=)")


@needs_rtx
def test_a_graph_as_it_stands_may_be_of_anyone(graph, tmp_path):
    import onnx

    foreign = onnx.load(graph)
    del foreign.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    onnx.save(foreign, path)
    assert plan.plan_of(path, "tensorrt-rtx", plain=True).kernels
    with pytest.raises(GraphError, match="no ModelSpec"):
        plan.plan_of(path, "openvino")


@pytest.mark.parametrize("backend", plan.BACKENDS)
@pytest.mark.parametrize("plain", [True, False])
def test_what_is_missing_or_no_graph_is_one_line(tmp_path, backend, plain):
    if backend == "tensorrt-rtx" and importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx")
    path = tmp_path / "junk.onnx"
    with pytest.raises(GraphError, match="does not exist"):
        plan.plan_of(path, backend, plain=plain)
    path.write_bytes(b"junk")
    with pytest.raises((GraphError, EngineError)) as error:
        plan.plan_of(path, backend, plain=plain)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("backend", "module"), [("tensorrt-rtx", "tensorrt_rtx"), ("openvino", "openvino")])
def test_a_library_that_is_not_there_is_told_with_the_command_that_installs_it(graph, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("engines.openvino_plan", "engines.openvino_build", "engines.openvino_layout", "engines.openvino_sums"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(LibraryError, match="pip install"):
        plan.plan_of(graph, backend)


def test_an_unknown_backend_is_an_error_that_names_those_there_are(graph, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plan", str(graph), "--backend", "tensorrt"])
    with pytest.raises(SystemExit) as ended:
        run(plan.main)
    assert ended.value.code == 1
    assert "tensorrt-rtx" in capsys.readouterr().err


@pytest.fixture
def open_graph(tmp_path):
    path = tmp_path / "open-fp16.onnx"
    path.write_bytes(tiny_graph(tiny_spec(batch=4, batch_free=True), "fp16"))
    return path


@needs_rtx
def test_the_gain_of_a_batch_is_told_a_frame(open_graph, capsys):
    assert plan.main([str(open_graph), "--batch", "1", "4"]) == 0
    rows = {line.split("  ")[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    assert rows["frames"] == ["1", "4"]
    assert float(rows["kernels a frame"][1]) == float(rows["kernels"][1]) / 4 < float(rows["kernels a frame"][0])
    assert rows["MB moved a frame"] == [rows["MB moved"][0]] * 2
    assert plan.plan_of(open_graph, plan.RTX).frames == 4  # all that it takes
    assert json.loads(json.dumps(as_json(plan.plan_of(open_graph, plan.RTX, frames=2))))["a_frame"]["frames"] == 2


def test_a_number_of_frames_that_a_graph_does_not_take_is_refused(graph, open_graph):
    with pytest.raises(GraphError, match=r"tiny-fp16.onnx takes 1 frames at once, asked were 4: .*BATCH=1-4"):
        plan.plan_of(graph, plan.RTX, frames=4)
    with pytest.raises(GraphError, match=r"takes 1 frames at once here, asked were 4: .* and tensorrt-rtx plan"):
        plan.plan_of(open_graph, "openvino", frames=4)
    with pytest.raises(GraphError, match="takes 1 to 4 frames at once, asked were 5"):
        plan.plan_of(open_graph, plan.RTX, frames=5)
    assert plan.plan_of(open_graph, "openvino").frames == 1
