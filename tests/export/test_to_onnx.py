import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import check, registry, to_onnx
from export.check import FP32_LOGITS
from export.models.icnet import ICNet
from export.to_onnx import Request
from runtime import cli, reference
from runtime.artifacts import sha256_of
from runtime.errors import GraphError, WeightsError
from runtime.labels import CAMVID, Label
from runtime.spec import ModelSpec, Preprocess, from_json
from tests.export.conftest import CLASSES
from tests.helpers.networks import size_of

ROOT = Path(__file__).parents[2]
PRECISIONS = ("fp32", "fp16")
# What an engine does not take, or would run slowly; and BatchNorm, which is to be folded.
FORBIDDEN = {
    "NonZero", "If", "Loop", "Cast", "Transpose", "BatchNormalization", "Gather", "GatherElements", "GatherND",
    "Scatter", "ScatterElements", "ScatterND", "MaxUnpool",
}  # fmt: skip
# One more is a question to answer: what was not folded, or which rewrite of the exporter was lost?
NODES = {
    "enet": {
        "Conv": 90, "DepthToSpace": 2, "PRelu": 67, "Relu": 15, "Add": 28, "Pad": 2, "MaxPool": 5, "Reshape": 12,
        "GreaterOrEqual": 2, "Equal": 2, "Where": 4,
    },
    "icnet": {
        "Conv": 68, "Relu": 57, "Add": 20, "AveragePool": 1, "MaxPool": 2, "MatMul": 2, "Reshape": 2, "Resize": 7,
        "Slice": 10, "Concat": 2, "Pad": 1,
    },
}  # fmt: skip
# One export of the network as PyTorch has it, of a batch of two, tests both options: an export takes long.
PLAIN_PAIR = {"plain": True, "batch": 2}
# A maximum that is one but for rounding may be unpooled elsewhere where the batch is summed in another order.
MOVED = 1e-3

# The two that the commands speak of; exports of every registered network would take minutes.
either_model = pytest.mark.parametrize("name", NODES)
either_precision = pytest.mark.parametrize("precision", PRECISIONS)


def run_session(graph, values):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {to_onnx.INPUT: values})[0]


def spec_of(graph):
    (entry,) = graph.metadata_props
    assert entry.key == to_onnx.SPEC_KEY
    return from_json(ModelSpec, entry.value)


@either_model
@either_precision
def test_a_graph_holds_no_operation_that_an_engine_does_not_take(graph, name, precision):
    nodes = graph(name, precision).graph.node
    assert FORBIDDEN & {node.op_type for node in nodes} == set()
    assert {node.domain for node in nodes} == {""}


@either_model
@either_precision
def test_a_graph_has_exactly_these_nodes(graph, name, precision):
    assert Counter(node.op_type for node in graph(name, precision).graph.node) == NODES[name]


@either_model
@either_precision
def test_every_shape_is_static(graph, name, precision):
    inferred = onnx.shape_inference.infer_shapes(graph(name, precision), strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    assert len(values) > len(inferred.node)
    for value in values:
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name


@pytest.mark.parametrize(
    ("name", "form"),
    [("enet", {}), ("icnet", {}), ("enet", PLAIN_PAIR), pytest.param("icnet", PLAIN_PAIR, marks=pytest.mark.slow)],
    ids=["enet", "icnet", "enet, plain, batch of 2", "icnet, plain, batch of 2"],
)
def test_input_and_output_are_as_the_spec_says(graph, name, form):
    model = graph(name, **form)
    spec, step = spec_of(model), registry.find(name).output_stride * spec_of(model).block
    height, width = size_of(registry.find(name))
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "frame": [spec.batch, 3, height, width],
        "logits": [spec.batch, len(CLASSES) * spec.block**2, height // step, width // step],
    }


@either_model
@either_precision
def test_the_spec_travels_in_the_graph(graph, networks, weights, name, precision):
    entry, spec = registry.find(name), spec_of(graph(name, precision))
    assert spec == ModelSpec(
        name=name,
        preprocess=spec.preprocess,
        classes=tuple(Label(label, tuple(color)) for label, color in CLASSES),
        output_stride=entry.output_stride,
        block=entry.block,
        batch=1,
        weights_sha256=sha256_of(weights(name)),
        source=f"{registry.source_of(entry, networks(name))}; seeded",
    )
    # The deployed form multiplies by itself: pixels go in as they are, but for a mean.
    norm = entry.normalization
    mean = tuple(value / norm.scale for value in norm.mean)
    assert spec.preprocess == Preprocess(*size_of(entry), 1.0, mean, (1.0, 1.0, 1.0), norm.channel_order, "auto")


@either_model
def test_a_plain_graph_takes_what_the_network_was_trained_on(graph, name):
    spec = spec_of(graph(name, **PLAIN_PAIR))
    assert spec.block == 1 and spec.preprocess == Preprocess(
        *size_of(registry.find(name)), *registry.find(name).normalization, "auto"
    )


@either_model
def test_a_plain_batch_of_two_is_two_single_runs_of_the_deployed_form(graph, name):
    pair, single = graph(name, **PLAIN_PAIR), graph(name)
    # Noise: the flat parts of a picture are full of maxima that are equal but for rounding.
    frames = np.random.default_rng(0).integers(0, 256, (2, *size_of(registry.find(name)), 3), np.uint8)
    inputs = [[reference.preprocess(frame, spec_of(model).preprocess) for frame in frames] for model in (pair, single)]
    both = run_session(pair, np.concatenate(inputs[0]))
    alone = [reference.unblock(run_session(single, values), spec_of(single).block) for values in inputs[1]]
    assert (np.abs(both - np.concatenate(alone)) > FP32_LOGITS * np.ptp(both)).mean() < MOVED
    assert (np.abs(both[0] - both[1]) > FP32_LOGITS * np.ptp(both)).mean() > 0.9


@either_model
@either_precision
def test_a_graph_names_no_place_on_the_machine_that_made_it(exported, weights, name, precision):
    content = exported(name, precision).read_bytes()
    for place in (ROOT, weights(name).parent, Path.home(), sys.prefix):
        assert bytes(place) not in content if isinstance(place, Path) else place.encode() not in content
    assert b"site-packages" not in content


@either_model
def test_a_second_export_is_a_cache_hit_without_torch_or_onnx(exported, weights, folder, name):
    made = exported(name)
    before = made.stat()
    blocked = "import sys; sys.modules.update(torch=None, onnx=None, onnxscript=None, onnxruntime=None)"
    command = [
        "--model",
        name,
        "--size",
        "x".join(map(str, size_of(registry.find(name)))),
        "--weights",
        str(weights(name)),
    ]
    code = f"{blocked}; sys.path.insert(0, {str(ROOT)!r}); from export import to_onnx; to_onnx.main({command!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (folder / done.stdout.strip(), done.returncode) == (made, 0), done.stderr
    assert "is up to date" in done.stderr
    assert made.stat() == before


@pytest.mark.parametrize("damage", [lambda graph: graph[:-1], lambda graph: graph.replace(b"frame", b"FRAME")])
def test_a_graph_that_was_cut_or_edited_is_exported_again(tmp_path, monkeypatch, damage):
    graph = onnx.helper.make_model(onnx.helper.make_graph([], "frame", [], []))
    monkeypatch.setattr(to_onnx, "build_graph", lambda request, weights: graph)
    path = to_onnx.export(Request("enet", "fp32", 64, 128), None, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert to_onnx.export(Request("enet", "fp32", 64, 128), None, tmp_path) == path
    assert path.read_bytes() == graph.SerializeToString()


def test_the_pyramid_of_a_full_size_graph_is_constants_too():
    class Pyramid(ICNet):
        forward = ICNet.pyramid

    # The pyramid's map at 1024x2048: its matrices are larger than what the exporter folds unasked.
    preprocess = Preprocess(32, 64, 1.0, (0.0,) * 3, (1.0,) * 3, "RGB")
    spec = ModelSpec("pyramid", preprocess, CAMVID, 1, 1, 1, "", "")
    nodes = to_onnx.trace(Pyramid(3, width=1).eval(), spec).graph.node
    assert Counter(node.op_type for node in nodes) == {"Reshape": 2, "MatMul": 2, "Add": 1}


def test_another_request_weights_packages_or_code_is_another_key(weights, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights("enet").read_bytes()[:-4] + bytes(4))
    first = Request("enet", "fp32", 64, 128)
    changes = {"model": "icnet", "precision": "fp16", "height": 72, "width": 136, "batch": 2, "plain": True}
    changes |= {"classes": CAMVID, "averaged": True, "fit": "pad", "batch_free": True, "normalization": "another"}
    requests = [first, *(first._replace(**{field: value}) for field, value in changes.items())]
    assert set(changes) == set(Request._fields)
    keys = [to_onnx.export_key(request._asdict(), weights("enet")) for request in requests]
    keys += [to_onnx.export_key(first._asdict(), path) for path in (other, None)]
    monkeypatch.setattr("export.checkpoints.sources.sources_sha256", lambda *_: "other code")
    keys.append(to_onnx.export_key(first._asdict(), weights("enet")))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "other version")
    keys.append(to_onnx.export_key(first._asdict(), weights("enet")))
    assert len(set(keys)) == len(keys)


def command(monkeypatch, capsys, *argv):
    """Exit code, and the lines on stdout and stderr, of the command as the shell would see it."""
    monkeypatch.setattr(sys, "argv", ["export.to_onnx", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        cli.run(to_onnx.main)
    printed = capsys.readouterr()
    return ended.value.code, printed.out.splitlines(), printed.err.splitlines()


def test_the_command_prints_the_path_alone(exported, weights, folder, monkeypatch, capsys):
    made = exported("enet").relative_to(folder)
    monkeypatch.chdir(folder)
    code, out, _ = command(monkeypatch, capsys, "--model", "enet", "--size", "64x128", "--weights", weights("enet"))
    assert (code, out) == (cli.DONE, [str(made)])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model", "enett"], ["unknown model 'enett'", "Did you mean enet?", "icnet"]),
        (["--model", "../enet"], ["unknown model '../enet'"]),
        (["--model", "enet", "--precision", "fp61"], ["unknown precision 'fp61'", "Did you mean fp16?"]),
        (["--model", "icnet", "--size", "100x200"], ["multiples of 32", "got 100x200", "--size 96x192"]),
        (["--model", "enet", "--weights", "none.pth"], ["none.pth does not exist", "--weights path"]),
        (["--model", "enet", "--weights", "."], ["is a folder", "--weights path"]),
        (["--model", "enet", "--weights", "garbage.pth"], ["garbage.pth", "damaged"]),
        (["--model", "enet", "--weights", "other.pth"], ["are of another network", "of their 2 tensors (a, b) none"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("garbage.pth").write_bytes(b"hello world")
    torch.save({"a": torch.zeros(1), "b": torch.zeros(2)}, "other.pth")
    code, out, err = command(monkeypatch, capsys, *argv)
    assert (code, out) == (cli.FAILED, [])
    assert [line for line in err if "error" in line] == err[-1:] and err[-1].startswith("error: ")
    assert all(part in err[-1] for part in said)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert left == {"garbage.pth", "other.pth"}


@pytest.mark.parametrize(
    "argv",
    [
        [], ["--model", "enet", "--size", "1024"],
        ["--model", "enet", "--size", "0x8"], ["--model", "enet", "--batch", "0"],
        ["--model", "enet", "--batch", "two"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_code_2(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(monkeypatch, capsys, *argv)
    assert (code, out) == (cli.USAGE, []) and "usage:" in err[0] and "error:" in err[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_one_line_to_the_shell(tmp_path):
    run = "import runpy; runpy.run_module('export.to_onnx', run_name='__main__')"
    argv = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {run}", "--model", "icnt"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (cli.FAILED, "")
    known, page = ", ".join(registry.names()), "--model path/to/net.py:build, docs/adding-a-network.md"
    said = f"error: unknown model 'icnt'. Did you mean icnet? There are: {known}. For one of your own: {page}\n"
    assert done.stderr == said
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_fails_its_check_is_not_kept(exported, weights, tmp_path, monkeypatch):
    exported("enet")  # its trace is used again

    def fail(*_):
        raise GraphError("not its network")

    monkeypatch.setattr(check, "check_graph", fail)
    with pytest.raises(GraphError):
        to_onnx.export(Request("enet", "fp32", 64, 128), weights("enet"), tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_an_unknown_precision_is_not_taken_for_another(weights, tmp_path):
    with pytest.raises(ValueError, match="int8"):
        to_onnx.export(Request("enet", "int8", 64, 128), weights("enet"), tmp_path)


def test_the_shipped_weights_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setattr("export.checkpoints.sources.SHIPPED", tmp_path)
    asked = []
    monkeypatch.setattr(to_onnx, "build_graph", lambda _, weights: asked.append(weights) or onnx.ModelProto())
    to_onnx.export(Request("enet"), folder=tmp_path)
    shipped = tmp_path / "enet-camvid.safetensors"
    shipped.write_bytes(b"weights")
    to_onnx.export(Request("enet"), folder=tmp_path)
    assert asked == [None, shipped]
    assert len(list(tmp_path.glob("enet-fp32-1024x2048-*.onnx"))) == 2


def test_random_weights_are_named_as_what_they_are(exported, monkeypatch, capsys):
    specs = []

    def keep(_, spec):
        specs.append(spec)
        raise WeightsError("far enough")

    monkeypatch.setattr(to_onnx, "trace", keep)
    with pytest.raises(WeightsError, match="far enough"):
        to_onnx.build_graph(Request("enet", "fp32", 64, 128), None)
    assert specs[0].weights_sha256 == "random-seed-0" and specs[0].source.endswith("; random weights")
    assert len(specs[0].classes) != len(CAMVID) and "masks will mean nothing" in capsys.readouterr().err
