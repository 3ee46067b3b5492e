"""Each INT8 convolution runs with the kernel that takes least time here, and gives the same values with it."""

import io
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from openvino import opset13

from engines import openvino_kernels, openvino_turns
from engines.openvino_kernels import OTHERS, _fastest, _Graph, _kernels, with_fastest_kernels
from engines.openvino_nodes import fake_quantize
from runtime.backends.openvino import DEVICE, compile_options, core, execution_type, keeps_bf16
from tests.helpers.openvino_models import convolution, on_frame, values

OPTIONS = compile_options(execution_type("int8", core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")))


def model():
    """Bytes in, three convolutions of which two are in INT8: one is of 16 channels and one is dilated."""

    def read(frame):
        found = opset13.relu(convolution(frame, values((16, 3, 3, 3)), padding=1))
        for dilation in (1, 2):
            codes = fake_quantize(found.output(0), np.zeros(()), np.full((), 2000.0), 256)
            ends = np.full((), -3.0), np.full((), 3.0)
            weight = fake_quantize(opset13.constant(values((16, 16, 3, 3))).output(0), *ends, 255)
            layer = convolution(codes, weight, padding=dilation, dilation=dilation)
            layer.set_friendly_name(f"dilated {dilation}")
            found = opset13.relu(layer)
        return found

    return on_frame(read)


WISHED = dict.fromkeys(("dilated 1", "dilated 2"), OTHERS[0])


def logits(compiled):
    shape = tuple(compiled.inputs[0].shape)
    frame = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    request = compiled.create_infer_request()
    request.infer([frame])
    return np.array(request.get_output_tensor(0).data)


def timed(seconds):
    """A compiled model whose convolutions take so long by its own word."""
    told = [SimpleNamespace(node_name=name, real_time=timedelta(seconds=value)) for name, value in seconds.items()]
    request = SimpleNamespace(infer=lambda _: None, get_profiling_info=lambda: told)
    return SimpleNamespace(inputs=[SimpleNamespace(shape=(1, 8, 8, 3))], create_infer_request=lambda: request)


def test_a_wish_is_heard_kept_in_the_engine_and_changes_no_value():
    graph = _Graph(model())
    plain = graph.compiled({}, OPTIONS)
    own = _kernels(plain)
    wished = graph.compiled(dict.fromkeys(own, OTHERS[0]), OPTIONS)
    opened = core().import_model(io.BytesIO(wished.export_model().getvalue()), DEVICE, OPTIONS)
    assert own and _kernels(opened) == _kernels(wished)
    assert set(_kernels(wished).values()) == ({"jit_avx512_I8"} if keeps_bf16() else set(own.values()))
    np.testing.assert_array_equal(logits(opened), logits(plain))


def test_what_is_read_again_without_a_wish_is_the_same_model():
    plain = core().compile_model(model(), DEVICE, OPTIONS)
    again = _Graph(model()).compiled({}, OPTIONS)
    assert _kernels(again) == _kernels(plain)
    np.testing.assert_array_equal(logits(again), logits(plain))


def test_a_convolution_takes_the_least_of_its_kernels_and_keeps_its_own_where_they_are_level():
    own = {"few": 3.0, "many": 1.0, "level": 1.0, "alone": 1.0}
    forms = [
        ("", timed(own)),
        ("older", timed({"few": 1.0, "many": 2.0, "level": 0.999})),
        ("newer", timed({"few": 2.0, "many": 0.5, "level": 1.5})),
    ]
    assert _fastest(forms, dict.fromkeys(own, "I8")) == {"few": "older", "many": "newer"}


def test_a_slow_network_is_measured_less_often(monkeypatch):
    clock, asked = iter(range(0, 10000, 100)), []
    monkeypatch.setattr(openvino_turns, "perf_counter", lambda: next(clock))
    form = timed({"a": 1.0})
    form.create_infer_request().infer = lambda _: asked.append(1)
    assert _fastest([("", form), ("other", form)], {"a": "I8"}) == {}
    assert len(asked) == 2 * (openvino_turns.WARMUP + openvino_turns.LEAST_ROUNDS)


def has_others():
    """Whether this CPU has another kernel than OpenVINO takes."""
    own, wished = (_kernels(_Graph(model()).compiled(wishes, OPTIONS)) for wishes in ({}, WISHED))
    return own != wished


@pytest.mark.skipif(not has_others(), reason="this CPU has one kernel alone for INT8")
@pytest.mark.parametrize("share", [0.7, 1.0])
def test_what_is_chosen_is_built_where_the_whole_frame_is_faster(monkeypatch, share):
    monkeypatch.setattr(openvino_kernels, "_fastest", lambda forms, own: {"dilated 2": OTHERS[0]})
    monkeypatch.setattr(openvino_kernels, "share_of_time", lambda *_: share)
    found = with_fastest_kernels(model(), OPTIONS)
    plain = _kernels(core().compile_model(model(), DEVICE, OPTIONS))
    kernels = _kernels(found.compiled)
    assert (kernels == plain) == (not found.told) == (share == 1)
    if share < 1:
        assert found.told.startswith("of 2 convolutions in INT8 1 run with another kernel than OpenVINO takes")
        assert "0.70 of the time" in found.told


def test_wishes_that_change_no_kernel_are_told_of_by_nobody(monkeypatch):
    monkeypatch.setattr(openvino_kernels, "_wishes", lambda *_: {"gone": OTHERS[0]})
    monkeypatch.setattr(openvino_kernels, "share_of_time", lambda *_: pytest.fail("measured"))
    assert with_fastest_kernels(model(), OPTIONS).told == ""


@pytest.mark.skipif(not keeps_bf16(), reason="no other kernel is tried without AVX-512")
def test_where_the_search_fails_the_engine_is_built_and_it_is_said(monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(openvino_kernels, "_Graph", full)
    found = with_fastest_kernels(model(), OPTIONS)
    assert found.told == "other kernels than OpenVINO takes were not tried (No space left on device)"
    assert logits(found.compiled).any()


def test_nothing_is_measured_without_avx512(monkeypatch):
    monkeypatch.setattr(openvino_kernels, "keeps_bf16", lambda: False)
    monkeypatch.setattr(openvino_kernels, "_Graph", lambda _: pytest.fail("written"))
    assert with_fastest_kernels(model(), OPTIONS).told == ""
