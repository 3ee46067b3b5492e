import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from calib.graphs import load_graph
from engines.build import build_engine
from export import adopt
from export.adopting.options import Asked, Given
from runtime import open_backend, reference
from runtime.errors import GraphError
from runtime.media.frames import read_frame
from runtime.samples import STREET
from runtime.spec import Preprocess, to_json
from tests.helpers.foreign import CLASSES, HEIGHT, MEAN, STD, WIDTH, Foreign, nhwc_bytes

IMAGENET = Asked(given=Given("imagenet"))
SIZE = (HEIGHT, WIDTH)
FLOAT32_SUMS = 2e-5  # a gain that went into weights, a mean that is subtracted before it is divided


def adopted(tmp_path, made, asked=IMAGENET, **settings):
    path = made.save(tmp_path / "net.onnx", **settings)
    graph = adopt.adopt(path, asked, tmp_path / "graphs")
    return (path, *load_graph(graph, asked.precision))


def frames():
    random = np.random.default_rng(1)
    return [reference.resize_frame(read_frame(STREET), *SIZE), random.integers(0, 256, (*SIZE, 3), np.uint8)]


def of_file(path, frame, preprocess=None):
    """What the file says of a frame, by itself and NumPy alone."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    if preprocess is None:
        values = frame[None]
    else:
        values = ((frame / 255 - preprocess[0]) / preprocess[1]).transpose(2, 0, 1)[None].astype(np.float32)
    wanted = session.get_inputs()[0]
    return session.run(None, {wanted.name: values.astype(np.float16 if "16" in wanted.type else values.dtype)})[0]


def of_graph(model, spec, frame):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"frame": reference.preprocess(frame, spec.preprocess)})[0]


RGB = np.array(MEAN) / 255, np.array(STD) / 255


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20, 21])
def test_a_file_of_every_opset_gives_the_logits_that_it_gave(tmp_path, opset):
    path, model, spec = adopted(tmp_path, Foreign().body().give(), opset=opset)
    assert (spec.output_stride, spec.upsample, len(spec.classes), spec.name) == (4, "half_pixel", CLASSES, "net")
    assert model.opset_import[0].version == 20
    for frame in frames():
        np.testing.assert_allclose(of_graph(model, spec, frame), of_file(path, frame, RGB), atol=FLOAT32_SUMS * 20)


ENDINGS = {
    "nothing": (lambda it: it.give(), "half_pixel", 4),
    "half-pixel": (lambda it: it.resize().give(), "half_pixel", 4),
    "corners aligned": (lambda it: it.resize(how="align_corners").give(), "align_corners", 4),
    "nearest": (lambda it: it.resize("nearest", "asymmetric").give(), "half_pixel", 1),
    "cubic": (lambda it: it.resize("cubic").give(), "half_pixel", 1),
    "half of the way": (lambda it: it.resize(by=2).give(), "half_pixel", 2),
}


def end_is_coarse(made):
    return not any(node.op_type == "Resize" and made.tensors[node.input[2]][2] == 4 for node in made.nodes)


@pytest.mark.parametrize("decision", ["logits", "softmax", "argmax", "argmax in 4 axes as bytes"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_gives_the_files_mask(tmp_path, ending, decision):
    end, upsample, stride = ENDINGS[ending]
    made = Foreign().body()
    end(made)
    made.outputs.clear()
    if decision == "softmax":
        made.add("Softmax", axis=1)
    elif decision != "logits":
        made.add("ArgMax", axis=1, keepdims=int("4 axes" in decision))
    if "bytes" in decision:
        made.add("Cast", to=TensorProto.UINT8)
    made.give(
        {"l": TensorProto.FLOAT, "s": TensorProto.FLOAT}.get(
            decision[0], TensorProto.INT64 if "bytes" not in decision else TensorProto.UINT8
        )
    )
    path, model, spec = adopted(tmp_path, made)
    assert (spec.upsample, spec.output_stride) == (upsample, stride)
    kinds = {node.op_type for node in model.graph.node}
    # Of coarse probabilities what is between them is not what is between logits.
    assert "ArgMax" not in kinds and ("Softmax" in kinds) == (decision == "softmax" and end_is_coarse(made))
    for frame in frames():
        found = reference.segment(of_graph(model, spec, frame), spec, SIZE)
        file = of_file(path, frame, RGB)
        wanted = file.reshape(file.shape[-2:]) if file.dtype.kind in "iu" else None
        if wanted is None:
            wanted = reference.postprocess(file, *SIZE)
        elif wanted.shape != SIZE:
            found = reference.segment(of_graph(model, spec, frame), spec, wanted.shape)
        assert (found == wanted).mean() > 0.999


@pytest.mark.parametrize("ending", ["bare", "sigmoid", "decided", "squeezed"])
def test_a_binary_mask_is_class_1_exactly_where_the_file_says_so(tmp_path, ending):
    made = Foreign().body(1)
    made.resize()
    if ending != "bare":
        made.add("Sigmoid")
    if ending == "decided":
        made.add("Greater", np.array(0.3, np.float32))
        made.add("Cast", to=TensorProto.UINT8)
    if ending == "squeezed":
        made.add("Squeeze", np.array([1], np.int64))
    made.give(TensorProto.UINT8 if ending == "decided" else TensorProto.FLOAT)
    path, model, spec = adopted(tmp_path, made)
    assert len(spec.classes) == 2
    for frame in frames():
        file = of_file(path, frame, RGB).reshape(SIZE)
        wanted = {"bare": file > 0, "decided": file == 1}.get(ending, file > 0.5)
        assert (reference.segment(of_graph(model, spec, frame), spec, SIZE) == wanted).mean() > 0.999


@pytest.mark.parametrize("flip", [True, False])
def test_a_file_that_takes_bytes_keeps_its_own_normalisation_in_the_runtime(tmp_path, flip):
    made = nhwc_bytes(flip).body().resize()
    made.add("ArgMax", axis=1, keepdims=0)
    path, model, spec = adopted(tmp_path, made.give(TensorProto.INT64), Asked())
    assert spec.preprocess.channel_order == "RGB"  # ImageNet's mean behind the flip tells it
    np.testing.assert_allclose(spec.preprocess.mean, MEAN, rtol=1e-5)
    assert next(node.op_type for node in model.graph.node) == "Conv"
    for frame in frames():
        file = of_file(path, frame[..., ::-1].copy() if flip else frame)[0]
        assert (reference.segment(of_graph(model, spec, frame), spec, SIZE) == file).mean() > 0.999


def test_ids_that_the_graph_makes_itself_stay_and_are_resized_nearest(tmp_path):
    made = Foreign().body()
    made.add("ArgMax", axis=1, keepdims=0)
    made.add("Gather", after="table", axis=0)
    made.nodes[-1].input[:] = ["table", made.nodes[-2].output[0]]
    made.tensors["table"] = np.array([0, 2, 1, 3, 4], np.int64)  # renumbers: no argmax says that
    classes = tmp_path / "classes.json"
    rows = [{"name": f"c{i}", "color": [i, 9, 9]} for i in range(CLASSES)]
    classes.write_text(json.dumps({"classes": rows}))
    made.give(TensorProto.INT64)
    path, model, spec = adopted(tmp_path, made, IMAGENET._replace(classes=classes))
    assert (spec.upsample, spec.output_stride, spec.classes[3].name) == ("nearest", 4, "c3")
    for frame in frames():
        ids = of_file(path, frame, RGB)[0]
        large = reference.segment(of_graph(model, spec, frame), spec, (2 * HEIGHT, 2 * WIDTH))
        assert np.array_equal(large, ids.repeat(8, 0).repeat(8, 1))
    with pytest.raises(GraphError, match="nothing in the file tells how many: --classes"):
        adopt.adopt(path, IMAGENET, tmp_path / "graphs")


def test_logits_with_the_channels_last_are_turned(tmp_path):
    made = Foreign().body()
    made.add("Transpose", perm=[0, 2, 3, 1])
    path, model, spec = adopted(tmp_path, made.give())
    found = of_graph(model, spec, frames()[0])
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), of_file(path, frames()[0], RGB), atol=FLOAT32_SUMS * 20)


def test_free_axes_take_the_size_that_is_asked(tmp_path):
    made = Foreign(("n", 3, "h", "w")).body().resize()
    _, model, spec = adopted(tmp_path, made.give(), IMAGENET._replace(size=(64, 96)))
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 96]
    assert (spec.preprocess.height, spec.preprocess.width) == (64, 96)


def half(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_in_half_precision_is_a_source_like_any_other(tmp_path, precision):
    path = tmp_path / "half.onnx"
    onnx.save(half(Foreign().body().give().model()), str(path))
    graph = adopt.adopt(path, IMAGENET._replace(precision=precision), tmp_path)
    model, _ = load_graph(graph, precision)
    assert {tensor.data_type for tensor in model.graph.initializer} == {
        TensorProto.FLOAT if precision == "fp32" else TensorProto.FLOAT16
    }


def test_an_engine_is_built_of_an_adopted_graph_and_proven(tmp_path):
    path = Foreign().body().resize(how="align_corners").give().save(tmp_path / "net.onnx")
    graph = adopt.adopt(path, IMAGENET._replace(precision="fp16"), tmp_path)
    engine = build_engine(graph, "fp16", "openvino", tmp_path)
    with open_backend(engine) as backend:
        frame = frames()[0]
        wanted = reference.postprocess(of_file(path, frame, RGB), *SIZE)
        assert (backend.segment(frame) == wanted).mean() > 0.99
        assert backend.spec.upsample == "align_corners"


def test_the_same_file_and_options_are_adopted_once_and_another_option_anew(tmp_path, capsys):
    path = Foreign().body().give().save(tmp_path / "net.onnx")
    first = adopt.adopt(path, IMAGENET, tmp_path)
    assert adopt.adopt(path, IMAGENET, tmp_path) == first
    assert f"{first} is up to date" in capsys.readouterr().err
    assert adopt.adopt(path, Asked(given=Given("minus1to1")), tmp_path) != first


def test_the_command_says_what_it_found_and_prints_the_path(tmp_path, capsys):
    path = Foreign().body().give().save(tmp_path / "net.onnx")
    out = tmp_path / "ours.onnx"
    assert adopt.main([str(path), "--preprocess", "imagenet", "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"
    for words in ("NCHW float, at 32x64", "said by: preset imagenet", "logits, 5 classes, at 1/4", "named by nobody"):
        assert words in told.err


def test_an_adoption_that_is_not_the_file_is_refused(tmp_path, monkeypatch):
    from export.adopting import endings

    monkeypatch.setattr(endings, "_peel_resize", lambda editor, node, state, size: _wrongly(node, state))
    path = Foreign().body().resize(how="align_corners").give().save(tmp_path / "net.onnx")
    with pytest.raises(GraphError, match="the adopted graph of net is not the file"):
        adopt.adopt(path, IMAGENET, tmp_path)
    assert not list(tmp_path.glob("net-*.onnx"))


def _wrongly(node, state):
    state.is_resized = node.op_type == "Resize"  # as if it were half-pixel
    return state.is_resized


def test_adopting_loads_no_torch(tmp_path):
    path = Foreign().body().give().save(tmp_path / "net.onnx")
    asked = [str(path), "--preprocess", "imagenet", "-o", str(tmp_path / "ours.onnx")]
    code = f"import sys; from export import adopt; adopt.main({asked!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_preprocess_as_json_and_single_options_say_the_same(tmp_path):
    path = Foreign().body().give().save(tmp_path / "net.onnx")
    own = Preprocess(*SIZE, 1 / 255, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "BGR")
    (tmp_path / "pre.json").write_text(json.dumps({name: getattr(own, name) for name in Preprocess.__slots__}))
    by_file = Asked(given=Given(str(tmp_path / "pre.json")))
    by_options = Asked(given=Given(None, own.scale, own.mean, own.std, own.channel_order))
    specs = [load_graph(adopt.adopt(path, asked, tmp_path), "fp32")[1] for asked in (by_file, by_options)]
    assert specs[0] == specs[1] and specs[0].preprocess.channel_order == "BGR"
    np.testing.assert_allclose(specs[0].preprocess.mean, [25.5, 51, 76.5])
    assert specs[0].preprocess.fit == "stretch"
    (tmp_path / "pre.json").write_text(to_json(dataclasses.replace(own, fit="pad")))
    assert load_graph(adopt.adopt(path, by_file, tmp_path), "fp32")[1].preprocess.fit == "pad"
    (tmp_path / "pre.json").write_text(to_json(dataclasses.replace(own, fit="pad")).replace("pad", "crop"))
    with pytest.raises(GraphError, match=r"fit is 'crop', expected one of stretch, pad, auto"):
        adopt.adopt(path, by_file, tmp_path)
