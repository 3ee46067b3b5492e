"""A build is held to its graph by what it computes: engines that are spoilt on purpose, and what is said of them."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines import openvino_build
from engines.build import build_engine, read_spec
from engines.proof import Engine, first_wrong_layer
from export import adopt
from export.adopting.options import Asked, Given
from runtime import prove as prove_command
from runtime.backend import open_backend
from runtime.cli import DONE, FAILED
from runtime.errors import EngineError
from runtime.manifest import manifest_path, read_manifest
from runtime.media.frames import read_frame
from runtime.proof import apart, bound, expected_path, noisy, read_expected, told
from runtime.samples import STREET
from runtime.spec import Proof
from tests.helpers.foreign import Foreign
from tests.helpers.graphs import tiny_graph, tiny_spec


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_graph(tiny_spec(), "fp32"))
    return path


def changed(data, change):
    """The bytes of a graph whose constants are changed by name."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        change(tensor.name, values)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


def spoilt(monkeypatch, change):
    """OpenVINO's builder builds another graph than it is given: `change` edits constants by name."""
    build = openvino_build.build

    def wrong(data, *rest, **form):
        return build(changed(data, change), *rest, **form)

    monkeypatch.setattr(openvino_build, "build", wrong)
    return wrong


def weight_changed(name, values):
    if name == "w2":
        values[0, 0, 0, 0] += 10


def channels_swapped(name, values):
    if name == "w2":
        values[[0, 1]] = values[[1, 0]]


def first_layer_off(name, values):
    if name == "w1":
        values *= 1.1


def test_what_was_measured_stands_in_the_manifest_and_beside_the_engine(graph, tmp_path, capsys):
    engine = build_engine(graph, "fp32", "openvino", tmp_path)
    proof = read_manifest(engine).proof
    assert proof.frames == 1 and proof.apart <= proof.bound and proof.masks_equal > 0.999
    assert "proven on 1 frame beside onnxruntime" in capsys.readouterr().err
    want = read_expected(engine)
    with open_backend(engine) as opened:
        assert want.shape == opened.logits(read_frame(STREET)).shape
    assert want.mask.shape == read_frame(STREET).shape[:2] and want.own > 0
    assert expected_path(engine).stat().st_size < 2**20


@pytest.mark.parametrize(
    ("change", "layer"), [(weight_changed, "w2"), (channels_swapped, "w2"), (first_layer_off, "w1")]
)
def test_a_build_of_something_else_is_refused_and_the_layer_named(graph, tmp_path, monkeypatch, change, layer):
    wrong = spoilt(monkeypatch, change)
    with pytest.raises(EngineError, match=r"fp32 engine of icnet on openvino does not compute what its graph says"):
        build_engine(graph, "fp32", "openvino", tmp_path)
    assert not list(tmp_path.glob("*.engine"))
    onnx_bytes = graph.read_bytes()
    spec = read_spec(onnx_bytes)
    engine = Engine(wrong(onnx_bytes, spec, "fp32", "openvino"), spec, "fp32", "openvino")
    assert first_wrong_layer(onnx_bytes, engine, read_frame(STREET), wrong) == layer


@pytest.mark.parametrize(("saturates", "precision"), [(True, "int8"), (False, "int8"), (True, "fp32")])
def test_where_smaller_weights_cost_too_much_it_is_built_with_whole_ones(
    graph, tmp_path, monkeypatch, capsys, saturates, precision
):
    build = openvino_build.build

    def smaller(data, spec, kind, backend, *, whole=False):
        return build(data if whole else changed(data, weight_changed), spec, "fp32", backend)

    monkeypatch.setattr(openvino_build, "build", smaller)
    # A float graph stands for the INT8 one: what is not quantized would run in BF16 where the CPU has it.
    monkeypatch.setattr("runtime.backends.openvino.execution_type", lambda *_: "f32")
    monkeypatch.setattr(openvino_build, "sums_saturate", lambda: saturates)
    monkeypatch.setattr("engines.build.graph_precision", lambda data: precision)
    monkeypatch.setattr("engines.build.prove_int8_share", lambda *told: None)
    if (saturates, precision) == (True, "int8"):
        engine = build_engine(graph, precision, "openvino", tmp_path)
        said = capsys.readouterr().err
        assert read_manifest(manifest_path(engine)).proof.frames == 1
        assert "building it again, with no weights made smaller" in said
    else:
        with pytest.raises(EngineError, match=r"does not compute what its graph says.*The first layer that differs"):
            build_engine(graph, precision, "openvino", tmp_path)


def test_a_deconvolution_that_is_wrong_is_named_in_the_message(tmp_path, monkeypatch):
    made = Foreign().conv(3, 8, 2)
    weight = made.random.normal(0, 0.3, (8, 8, 2, 2)).astype(np.float32)
    name = f"{made.add('ConvTranspose', weight, strides=[2, 2])}.0"
    path = made.conv(8, 5).give().save(tmp_path / "net.onnx")
    graph = adopt.adopt(path, Asked(given=Given("imagenet")), tmp_path)

    def spoil(tensor, values):
        if tensor == name:
            values[:, 0] += 1

    spoilt(monkeypatch, spoil)
    with pytest.raises(EngineError, match=rf"The first layer that differs is {name}\."):
        build_engine(graph, "fp32", "openvino", tmp_path)


def test_a_layer_that_was_not_wrong_is_not_named(graph):
    onnx_bytes = graph.read_bytes()
    spec, build = read_spec(onnx_bytes), openvino_build.build
    engine = Engine(build(onnx_bytes, spec, "fp32", "openvino"), spec, "fp32", "openvino")
    assert first_wrong_layer(onnx_bytes, engine, read_frame(STREET), build) is None


def test_without_proof_the_manifest_says_so_and_the_next_build_proves(graph, tmp_path, capsys):
    engine = build_engine(graph, "fp32", "openvino", tmp_path, prove=False)
    assert read_manifest(engine).proof.note == "--no-proof" and not expected_path(engine).exists()
    assert "not proven: --no-proof" in capsys.readouterr().err
    assert prove_command.main([str(engine)]) == FAILED
    assert "without the referee's logits" in capsys.readouterr().err
    assert build_engine(graph, "fp32", "openvino", tmp_path) == engine
    assert read_manifest(engine).proof.frames == 1


def test_frames_of_a_data_set_are_compared_too(graph, tmp_path):
    (tmp_path / "frames").mkdir()
    for name in "ab":
        (tmp_path / "frames" / f"{name}.jpg").write_bytes(STREET.read_bytes())
    engine = build_engine(graph, "fp32", "openvino", tmp_path, data=tmp_path / "frames")
    assert read_manifest(engine).proof.frames == 3


def test_an_engine_is_proven_where_it_runs_by_what_its_build_kept(graph, tmp_path, capsys):
    engine = build_engine(graph, "fp32", "openvino", tmp_path)
    assert prove_command.main([str(engine), "--json"]) == DONE
    assert '"frames": 1' in capsys.readouterr().out
    want = read_expected(engine)
    np.savez(expected_path(engine).open("wb"), **(want._asdict() | {"values": want.values + want.values.std()}))
    assert prove_command.main([str(engine)]) == FAILED
    assert "does not compute on this machine what its graph says" in capsys.readouterr().err
    for spoil in (b"PK\3\4 no archive", b"", expected_path(engine).read_bytes()[:500]):
        expected_path(engine).write_bytes(spoil)
        assert prove_command.main([str(engine)]) == FAILED
        assert "is damaged" in capsys.readouterr().err


def test_an_engine_of_an_older_program_is_refused_in_one_line(graph, tmp_path):
    engine = build_engine(graph, "fp32", "openvino", tmp_path)
    fields = json.loads(manifest_path(engine).read_text())
    del fields["proof"]
    manifest_path(engine).write_text(json.dumps(fields | {"version": 1}))
    with pytest.raises(EngineError, match=r"is of version 1, this program reads 3 and 4; build it again: make engine"):
        read_manifest(engine)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_what_is_not_finite_or_of_another_shape_is_infinitely_far(scale):
    x = scale * np.arange(6, dtype=np.float32)
    assert apart(x, x) == 0
    assert apart(x, np.full(6, np.nan, np.float32)) == apart(x, np.ones(5, np.float32)) == np.inf
    assert apart(x, x + 1) == (np.inf if scale == 0 else pytest.approx(1 / x.std()))


def test_noise_moves_half_of_the_values_by_one_and_wraps_none():
    frame = np.full((50, 50, 3), 255, np.uint8)
    frame[25:] = 10
    moved = noisy(frame)
    assert np.array_equal(moved[:25], frame[:25]) and 0.4 < (moved[25:] == 11).mean() < 0.6
    assert np.array_equal(noisy(frame), moved)


@pytest.mark.parametrize(("bound", "little"), [(0.05, False), (0.5, False), (1.0758, True)])
def test_a_proof_that_could_hardly_fail_says_so(bound, little):
    told_of = told(Proof("onnxruntime", 1, bound * 0.9, bound, 0.25))
    assert told_of.startswith("proven on 1 frame") and ("says little" in told_of) == little


def test_what_bfloat16_rounds_comes_beside_what_the_graph_rounds():
    mixed, alone = bound(0.08, {"int8": 72, "bf16": 18}), bound(0.08, {"int8": 72, "fp32": 18})
    assert alone == pytest.approx(0.088) and mixed == pytest.approx((0.088**2 + 0.05**2) ** 0.5)
    assert bound(0.0, {"bf16": 3}) == 0.05
