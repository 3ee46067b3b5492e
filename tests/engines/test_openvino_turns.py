"""Where PReLUs go is measured on the network itself, and the faster form is built."""

import numpy as np
import openvino
import pytest

from engines import openvino_build, openvino_turns
from engines.openvino_build import fastest_model, lowered_model
from engines.openvino_kernels import Fastest
from engines.openvino_sums import sums_saturate
from engines.openvino_turns import share_of_time
from runtime.backends.openvino import DEVICE, compile_options, core
from tests.helpers.graphs import tiny_graph, tiny_spec

SPEC = tiny_spec()


def graph(*, with_prelu):
    model = core().read_model(tiny_graph(SPEC, "fp32"), b"")
    if with_prelu:
        result = model.get_results()[0]
        source = result.input_value(0)
        slopes = openvino.opset13.constant(np.full(source.get_shape()[1], 0.3, np.float32).reshape(-1, 1, 1))
        result.input(0).replace_source_output(openvino.opset13.prelu(source, slopes).output(0))
        model.validate_nodes_and_infer_types()
    return model


def test_a_share_is_of_the_time_of_the_other_form(monkeypatch):
    form = core().compile_model(
        lowered_model(graph(with_prelu=False), SPEC, "fp32", "f32"), DEVICE, compile_options("f32")
    )
    given = iter([9.0, 1.0] * openvino_turns.WARMUP + [3.0, 4.0, 8.0, 1.0] + [3.0, 4.0] * (openvino_turns.ROUNDS - 2))
    monkeypatch.setattr(openvino_turns, "_seconds", lambda *_: next(given))
    assert share_of_time(form, form) == 0.75
    monkeypatch.undo()
    assert 0.1 < share_of_time(form, form) < 10


@pytest.mark.skipif(sums_saturate(), reason="this CPU adds products of 8 bits in 16: it is no faster so, nor asked")
@pytest.mark.parametrize("share", [0.8, 1.0])
def test_the_faster_form_is_built_and_it_is_said(monkeypatch, capsys, share):
    fused, made, real = [], [], openvino_build.lowered_model

    def lowered(*given, prelus, **options):
        fused.append(prelus)
        return real(*given, prelus=prelus, **options)

    def fastest(*given):
        made.append(Fastest(object(), f"with kernels of its own, form {len(made)}"))
        return made[-1]

    monkeypatch.setattr(openvino_build, "lowered_model", lowered)
    monkeypatch.setattr(openvino_build, "with_fastest_kernels", fastest)
    monkeypatch.setattr(openvino_build, "share_of_time", lambda *_: share)
    found, _ = fastest_model(graph(with_prelu=True), SPEC, "int8")
    said, index = capsys.readouterr().err, int(share == 1)
    assert f"inside of convolutions a frame takes {share:.2f} of the time" in said
    assert fused[-2:] == [True, False] and found is made[index].compiled
    assert made[index].told in said and made[1 - index].told not in said


def test_a_network_without_prelus_has_one_form(monkeypatch):
    monkeypatch.setattr(openvino_build, "share_of_time", lambda *_: pytest.fail("measured"))
    fastest_model(graph(with_prelu=False), SPEC, "int8")


@pytest.mark.parametrize(
    ("types", "keeps", "taken", "tried"),
    [
        ({"int8": 3}, True, "bf16", ["bf16"]),
        ({"int8": 3, "bf16": 1}, True, "f32", ["bf16", "f32"]),
        ({"int8": 3}, False, "f32", ["f32"]),
    ],
)
def test_without_bf16_instructions_maps_are_kept_in_it_where_nothing_is_multiplied_in_it(
    monkeypatch, types, keeps, taken, tried
):
    told, options = [], compile_options("f32")
    monkeypatch.setattr(openvino_build, "fastest_type", lambda *_: "f32")
    monkeypatch.setattr(openvino_build, "keeps_bf16", lambda: keeps)
    # Compiled in FP32, which every CPU has.
    monkeypatch.setattr(openvino_build, "compile_options", lambda execution: told.append(execution) or options)
    monkeypatch.setattr(openvino_build, "executed_types", lambda _: types)
    assert fastest_model(graph(with_prelu=False), SPEC, "int8")[1] == taken
    assert told == tried
