import numpy as np
import pytest

from engines import openvino_build, openvino_half
from engines.openvino_build import fastest_type
from runtime.backend import open_backend
from runtime.backends.openvino import TYPE_NAMES, core, execution_type
from runtime.manifest import manifest_path, read_manifest
from tests.helpers.engines import new_engine


@pytest.fixture
def gains(monkeypatch):
    def say(half, gain):
        monkeypatch.setattr(openvino_build, "execution_type", lambda *_: half)
        monkeypatch.setattr(openvino_build, "gain_of_fp32", lambda _: gain)

    return say


@pytest.mark.parametrize(
    ("half", "gain", "taken", "said"),
    [
        ("bf16", 1.9, "f32", "1.9 times as fast in fp32 as in bf16: fp16 runs as fp32"),
        ("f16", 1.3, "f32", "1.3 times as fast in fp32 as in fp16: fp16 runs as fp32"),
        ("bf16", 1.1, "bf16", "fp16 runs as bf16"),
        ("bf16", 0.5, "bf16", "fp16 runs as bf16"),
        ("f16", 0.5, "f16", ""),
        ("f32", 9.0, "f32", "no fp16 matrix units: fp16 runs as fp32"),
    ],
)
def test_fp16_runs_as_fp32_where_convolutions_are_clearly_faster_so(gains, capsys, half, gain, taken, said):
    gains(half, gain)
    assert fastest_type("fp16", core()) == taken
    told = capsys.readouterr().err
    assert said in told and bool(told) == bool(said)


def test_an_int8_graph_keeps_what_it_does_not_quantize_in_16_bits(gains):
    gains("bf16", 1.9)
    assert fastest_type("int8", core()) == "bf16"


def test_the_gain_is_measured_in_turns_and_the_best_round_counts(monkeypatch):
    class Turns:
        def __init__(self, precisions, shapes):
            assert precisions == ("fp32", "bf16")
            self.names, self.round = [f"{kind} {'x'.join(map(str, shapes[0][:3]))} k3" for kind in precisions], 0

        def segment(self):
            self.round += 1
            # The first is a warm-up; each type has one good round.
            times = {1: (0.1, 0.1), 2: (10, 90), 4: (90, 20)}.get(self.round, (90, 90))
            self.stages_ms = dict(zip(self.names, times, strict=True))

    monkeypatch.setattr(openvino_half, "Roof", Turns)
    openvino_half.gain_of_fp32.cache_clear()
    assert openvino_half.gain_of_fp32("bf16") == pytest.approx(2)
    openvino_half.gain_of_fp32.cache_clear()


@pytest.mark.parametrize("gain", [1.9, 0.5])
def test_an_engine_is_opened_in_the_type_that_it_was_built_in(monkeypatch, tmp_path, gain):
    # Where the CPU has no 16 bits both are FP32.
    monkeypatch.setattr(openvino_build, "gain_of_fp32", lambda _: gain)
    path = new_engine(tmp_path, precision="fp16")
    executed = read_manifest(manifest_path(path)).executed
    half = execution_type("fp16", core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    assert executed == {TYPE_NAMES["f32" if gain > 1 else half]: 2}
    with open_backend(path) as backend:
        backend.segment(np.zeros((64, 128, 3), np.uint8))
