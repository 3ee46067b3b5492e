"""Every backend that runs without a GPU, held to onnxruntime with NumPy around it."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import reference
from runtime.backend import open_backend
from runtime.backends import onnxruntime as onnxruntime_backend
from runtime.backends import openvino as openvino_backend
from runtime.errors import FrameError
from runtime.labels import CAMVID, palette
from runtime.lanes import open_lanes
from runtime.spec import PRECISIONS
from tests.helpers.engines import built_engine
from tests.helpers.graphs import tiny_graph, tiny_spec
from tests.helpers.outs import outs

CPU_BACKENDS = ("openvino", "onnxruntime")
# Of the range of the logits: sums in another order, and 8 bits of mantissa where fp16 runs as bf16.
LOGITS = {"fp32": 1e-5, "fp16": 2e-2}
MASKS = {"fp32": 0.999, "fp16": 0.9}
SIZES = ((32, 64), (1, 1), (17, 301), (100, 50))


def random_frame(height: int, width: int) -> np.ndarray:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame[:, : width // 2] //= 4
    return frame


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_masks_and_logits_are_those_of_the_float_network(tmp_path, backend, precision, block):
    spec = tiny_spec(block=block)
    judged = built_engine(tmp_path, backend=backend, precision=precision, spec=spec)
    judge = built_engine(tmp_path, backend="onnxruntime", spec=spec, seed=0)
    with open_backend(judged) as engine, open_backend(judge) as referee:
        for height, width in SIZES:
            frame = random_frame(height, width)
            expected, got = referee.logits(frame), engine.logits(frame)
            assert got.shape == expected.shape
            assert got.dtype == np.float32
            assert np.abs(got - expected).max() <= LOGITS[precision] * np.ptp(expected)
            mask = engine.segment(frame)
            assert mask.shape == (height, width)
            assert mask.dtype == np.uint8
            assert np.array_equal(mask, reference.segment(got, spec, frame.shape))
            assert (mask == referee.segment(frame)).mean() >= MASKS[precision]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_overlay_comes_with_its_mask(tmp_path, backend):
    image, colors = random_frame(17, 30), palette(CAMVID)
    engine = built_engine(tmp_path, backend=backend)
    with open_lanes(engine, 1) as lanes:
        mask, overlay = lanes.overlay(image, colors, 0.3)
        np.testing.assert_array_equal(mask, lanes.segment(image))
    np.testing.assert_array_equal(overlay, reference.overlay(image, mask, colors, 0.3))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_mask_is_written_where_it_is_told_from_a_frame_of_the_backend(tmp_path, backend):
    with open_lanes(built_engine(tmp_path, backend=backend), 1) as lanes:
        for size in SIZES:
            expected = lanes.segment(random_frame(*size))
            with lanes.lane() as engine:
                buffer, mask = engine.frame_buffer(*size), engine.mask_buffer(*size)
                buffer[...] = random_frame(*size)
                assert engine.segment(buffer, mask) is mask
                np.testing.assert_array_equal(mask, expected)
                assert buffer.flags.c_contiguous and mask.flags.c_contiguous
            wide = np.full((*size, 2), 77, np.uint8)
            out = wide[::-1, :, 1]
            assert lanes.segment(random_frame(*size), out) is out
            np.testing.assert_array_equal(out, expected)
            assert (wide[..., 0] == 77).all()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_buffers_are_the_same_for_a_size_and_refused_once_closed(tmp_path, backend):
    with open_backend(built_engine(tmp_path, backend=backend)) as engine:
        buffer, mask = engine.frame_buffer(20, 30), engine.mask_buffer(20, 30)
        assert engine.frame_buffer(20, 30) is buffer and engine.mask_buffer(20, 30) is mask
        assert engine.frame_buffer(7, 9).shape == (7, 9, 3) and engine.frame_buffer(20, 30) is not buffer
        buffer[...] = random_frame(20, 30)  # still an ordinary array
        np.testing.assert_array_equal(engine.segment(buffer, mask), engine.segment(random_frame(20, 30)))
    for asked in (engine.frame_buffer, engine.mask_buffer):
        with pytest.raises(ValueError, match="the engine is closed"):
            asked(20, 30)
    np.testing.assert_array_equal(buffer, random_frame(20, 30))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_what_a_mask_cannot_be_written_to_is_refused_in_words_and_left(tmp_path, backend):
    with open_lanes(built_engine(tmp_path, backend=backend), 1) as lanes:
        for frame, out, words in outs():
            with pytest.raises(ValueError, match=words):
                lanes.segment(frame, out)
            with lanes.lane() as engine, pytest.raises(ValueError, match=words):
                engine.segment(frame, out)
        for size in ((0, 4), (4, -1), (2.0, 4), (True, 4), ("4", 4)):
            with lanes.lane() as engine, pytest.raises(ValueError, match="one pixel or more each way"):
                engine.frame_buffer(*size)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_stages_are_timed_and_close_may_be_called_twice(tmp_path, backend):
    engine = open_backend(built_engine(tmp_path, backend=backend))
    engine.segment(random_frame(40, 40))
    assert list(engine.stages_ms) == ["preprocess", "network", "postprocess"]
    assert all(ms >= 0 for ms in engine.stages_ms.values())
    engine.close()
    engine.close()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.dtype}{frame.shape}",
)
def test_what_is_no_frame_is_refused(tmp_path, backend, frame):
    with open_backend(built_engine(tmp_path, backend=backend)) as engine:
        for call in (engine.segment, engine.logits):
            with pytest.raises(FrameError, match="a frame is uint8"):
                call(frame)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_frame_that_may_not_be_written_is_taken_and_a_closed_engine_says_so(tmp_path, backend):
    engine = open_backend(built_engine(tmp_path, backend=backend))
    frame = random_frame(32, 64)
    mask = engine.segment(frame)
    frame.flags.writeable = False
    assert np.array_equal(engine.segment(frame), mask)
    engine.close()
    with pytest.raises(ValueError, match="the engine is closed"):
        engine.segment(frame)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_result_is_kept_when_the_next_frame_comes(tmp_path, backend):
    with open_backend(built_engine(tmp_path, backend=backend)) as engine:
        frame = random_frame(32, 64)
        mask, logits = engine.segment(frame), engine.logits(frame)
        kept = mask.copy(), logits.copy()
        engine.segment(255 - frame)
        engine.logits(255 - frame)
        assert np.array_equal(mask, kept[0])
        assert np.array_equal(logits, kept[1])


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_channel_order_and_mean_are_applied_once(tmp_path, order):
    import dataclasses

    spec = tiny_spec()
    spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, channel_order=order))
    judged, judge = (built_engine(tmp_path, backend=backend, spec=spec) for backend in CPU_BACKENDS)
    with open_backend(judged) as engine, open_backend(judge) as referee:
        frame = random_frame(32, 64)
        expected = referee.logits(frame)
        assert np.abs(engine.logits(frame) - expected).max() <= LOGITS["fp32"] * np.ptp(expected)


@pytest.mark.parametrize(
    ("capabilities", "features", "cap", "fp16"),
    [
        (["FP32", "INT8"], (), "", "f32"),
        (["FP32", "BF16", "INT8"], ("avx512_bf16",), "", "bf16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "avx512_fp16"), "", "bf16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "", "f16"),
        (["FP32", "FP16"], ("asimd",), "", "f16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX512_CORE_AMX_FP16", "f16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX512_CORE_AMX", "bf16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX512_CORE", "f32"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX512_CORE_VNNI", "f32"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX512_CORE_BF16", "bf16"),
        (["FP32", "BF16", "FP16"], ("amx_bf16", "amx_fp16"), "AVX2_VNNI", "f32"),
        (["FP32", "BF16", "INT8"], ("amx_bf16",), "avx2", "f32"),
        (["FP32", "FP16"], (), "AVX512_CORE_BF16", "f32"),
    ],
)
def test_fp16_runs_as_the_fastest_16_bit_type_that_the_library_may_use(monkeypatch, capabilities, features, cap, fp16):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    monkeypatch.setattr(openvino_backend, "cpu_features", lambda: features)
    found = {precision: openvino_backend.execution_type(precision, capabilities) for precision in PRECISIONS}
    assert found == {"fp32": "f32", "fp16": fp16, "int8": fp16}


@pytest.mark.parametrize(
    ("precision", "executed", "features", "cap", "found"),
    [
        ("int8", ["int8"], ("avx512f", "avx512_vnni"), "", "bf16"),
        ("int8", ["int8"], ("avx512f", "avx512_vnni"), "AVX512_CORE_VNNI", "bf16"),
        ("int8", ["int8"], ("avx512f", "avx512_vnni"), "AVX2", "f32"),
        ("int8", ["int8"], ("avx2",), "", "f32"),
        ("int8", ["int8", "fp32"], ("avx512f", "avx512_vnni"), "", "f32"),
        ("fp16", ["fp32"], ("avx512f",), "", "f32"),
        ("fp32", ["fp32"], ("avx512f",), "", "f32"),
    ],
)
def test_maps_are_kept_in_bf16_where_all_is_multiplied_in_int8(monkeypatch, precision, executed, features, cap, found):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    monkeypatch.setattr(openvino_backend, "cpu_features", lambda: features)
    assert openvino_backend.execution_of(precision, executed, ["FP32", "INT8"]) == found
    with_bf16 = openvino_backend.execution_of(precision, executed, ["FP32", "BF16", "INT8"])
    assert with_bf16 == ("bf16" if precision == "int8" and not cap else found)


@pytest.mark.parametrize("package", ["runtime", "engines"])
def test_openvino_reports_its_import_to_nobody(package):
    said = "import openvino, openvino.tools.ovc.telemetry_utils as used; print(used.tm.__name__)"
    command = [sys.executable, "-c", f"import {package}; {said}"]
    assert subprocess.check_output(command, text=True).strip() == "openvino.tools.ovc.telemetry_stub"


def test_openvino_s_converter_is_loaded_by_who_asks_for_it_and_by_no_engine():
    code = """
import sys
from runtime.backends.openvino import core
core()
import openvino
assert "openvino.tools.ovc" not in sys.modules and "torch" not in sys.modules
from openvino import convert_model
assert convert_model is openvino.convert_model is sys.modules["openvino.tools.ovc"].convert_model
assert not hasattr(openvino, "convert_models")
core()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("kind", "zero", "code"), [(np.uint8, 0, 255), (np.int8, 0, 127), (np.uint8, 128, 255)])
def test_the_referee_adds_products_of_8_bits_in_full(kind, zero, code):
    # Its own operators of integers give half of the first sum, and next to nothing of the others, without VNNI.
    channels, step = 16, 4096
    constants = {
        "scale": np.float32(1), "zero": kind(zero), "codes": np.full((32, channels, 1, 1), 127, np.int8),
        "scales": np.ones(32, np.float32), "zeros": np.zeros(32, np.int8), "step": np.float32(step), "from": kind(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["d", "w"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "step", "from"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "step", "from"], ["y"]),
    ]
    shapes = ("x", [1, channels, 8, 8]), ("y", [1, 32, 8, 8])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "sums", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    x = np.full((1, channels, 8, 8), code - zero, np.float32)
    options = onnxruntime_backend.session_options()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"x": x})[0] - (code - zero) * 127 * channels).max() <= step / 2


def test_a_library_held_to_fewer_units_is_another_target(monkeypatch):
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    free = openvino_backend.this_target("openvino")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "SSE41")
    assert openvino_backend.this_target("openvino").capability == f"{free.capability} max_cpu_isa=sse41".strip()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # the first of the two names that the library looks for
    assert openvino_backend.cpu_features()[-1] == "max_cpu_isa=avx2"
    for no_cap in ("ALL", "default", ""):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", no_cap)
        assert openvino_backend.this_target("openvino") == free


SIGNALLED = """
import faulthandler, gc, os, signal, sys
from pathlib import Path
from engines.build import build_engine
from runtime.backend import open_backend
faulthandler.enable()  # a stack for signals of its own, as a program or pytest may have it
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
for folder in "ab":
    engine = open_backend(build_engine(Path(sys.argv[1]), "fp16", "openvino", Path(sys.argv[2]) / folder))
    kept = engine
engine.close()
del engine, kept
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
assert seen
"""


def test_a_signal_after_engines_were_closed_is_handled(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(tiny_graph(precision="fp16"))
    given = [sys.executable, "-c", SIGNALLED, str(tmp_path / "tiny.onnx"), str(tmp_path)]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
