import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from calib.graphs import load_graph
from export import adopt
from export.adopting.options import Asked, Given
from runtime.errors import GraphError
from tests.helpers.foreign import HEIGHT, WIDTH, Foreign, nhwc_bytes

IMAGENET = Asked(given=Given("imagenet"))


def refused(tmp_path, made, words, asked=IMAGENET, **settings):
    with pytest.raises(GraphError, match=words) as caught:
        adopt.adopt(made.save(tmp_path / "net.onnx", **settings), asked, tmp_path / "graphs")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "graphs").glob("*.onnx"))


def two_outputs():
    made = Foreign().body(5).give(name="aux")
    return made.conv(5, 5).give(name="main")


def test_where_several_outputs_could_segment_they_are_named(tmp_path):
    refused(tmp_path, two_outputs(), r"several outputs .* \(aux 1x5x8x16, main 1x5x8x16\): name one with --output")
    refused(tmp_path, two_outputs(), "has no output mian; it has aux, main", IMAGENET._replace(output="mian"))
    path = two_outputs().save(tmp_path / "net.onnx")
    model, _ = load_graph(adopt.adopt(path, IMAGENET._replace(output="main"), tmp_path), "fp32")
    assert [value.name for value in model.graph.output] == ["logits"] and len(model.graph.node) == 6


def test_an_output_that_segments_nothing_is_dropped_without_a_question(tmp_path):
    made = Foreign().body()
    body = made.at
    made.add("ReduceMean", axes=[2, 3], keepdims=0)
    made.give(name="score")
    made.at = body
    path = made.give(name="mask").save(tmp_path / "net.onnx")
    model, _ = load_graph(adopt.adopt(path, IMAGENET, tmp_path), "fp32")
    assert "ReduceMean" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("kind", ["classification", "detection"])
def test_what_is_no_segmentation_is_refused(tmp_path, kind):
    made = Foreign().body(6)
    if kind == "classification":
        made.add("ReduceMean", axes=[2, 3], keepdims=0)
    else:
        made.add("Reshape", np.array([1, -1, 6], np.int64))
    refused(tmp_path, made.give(), "no output of .* is a map of classes .*detection and classification are not taken")


def test_several_inputs_and_an_input_that_is_no_picture_are_refused(tmp_path):
    made = Foreign().body()
    made.inputs.append(helper.make_tensor_value_info("prompt", TensorProto.FLOAT, [1, 2]))
    made.add("Identity")
    refused(tmp_path, made.give(), r"has 2 inputs \(image, prompt\), expected one")
    refused(tmp_path, Foreign((1, 4, HEIGHT, WIDTH)).conv(4, 5).give(), "is float 1x4x32x64, expected one picture")
    refused(tmp_path, Foreign((8, 3, HEIGHT, WIDTH)).body().give(), "is float 8x3x32x64, expected one picture")
    tokens = Foreign((1, 77))
    tokens.add("Relu")
    refused(tmp_path, tokens.give(), "is float 1x77, expected one picture")


def test_another_size_than_the_file_is_exported_for_is_refused_with_its_own(tmp_path):
    refused(
        tmp_path, Foreign().body().give(), "is for frames of 32x64, asked was 64x64", IMAGENET._replace(size=(64, 64))
    )


def test_a_size_that_is_baked_in_behind_free_axes_is_refused(tmp_path):
    made = Foreign(("n", 3, "h", "w")).body(5)
    made.add("Add", np.zeros((1, 5, 8, 16), np.float32))
    refused(tmp_path, made.give(), "does not run at 64x64, its sizes are baked in", IMAGENET._replace(size=(64, 64)))


def test_no_normalisation_is_guessed(tmp_path):
    refused(tmp_path, Foreign().body().give(), "is not in the file.*--preprocess FILE.*imagenet, minus1to1", Asked())
    part = Asked(given=Given(scale=1 / 255))
    refused(tmp_path, Foreign().body().give(), r"is not in the file \(mean and std\)", part)
    bytes_in = nhwc_bytes().body()
    refused(tmp_path, bytes_in.give(), "the file takes the frame's bytes, nothing can stand in front", IMAGENET)


def test_the_order_of_a_file_that_takes_bytes_is_asked_for_where_nothing_tells_it(tmp_path):
    made = Foreign((1, HEIGHT, WIDTH, 3), TensorProto.UINT8)
    made.add("Cast", to=TensorProto.FLOAT)
    made.add("Transpose", perm=[0, 3, 1, 2])
    made.body().give()
    refused(tmp_path, made, "RGB or BGR is not in it: --order RGB or BGR", Asked())
    path = made.save(tmp_path / "net.onnx")
    spec = load_graph(adopt.adopt(path, Asked(given=Given(order="BGR")), tmp_path), "fp32")[1]
    assert spec.preprocess.channel_order == "BGR" and spec.preprocess.mean == (0, 0, 0)


def test_metadata_tell_the_normalisation_and_the_classes(tmp_path):
    told = {"mean": "[0, 0, 0]", "std": "[1, 1, 1]", "scale": "0.5", "channel_order": "BGR"}
    names = {"names": str({i: f"kind {i}" for i in range(5)})}
    path = Foreign().body().give().save(tmp_path / "net.onnx", metadata={**told, **names})
    spec = load_graph(adopt.adopt(path, Asked(), tmp_path), "fp32")[1]
    assert spec.preprocess.channel_order == "BGR" and spec.classes[4].name == "kind 4"


def test_classes_are_counted_against_the_channels(tmp_path):
    rows = [{"name": f"c{i}", "color": [i, 9, 9]} for i in range(4)]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": rows}))
    asked = IMAGENET._replace(classes=tmp_path / "classes.json")
    refused(tmp_path, Foreign().body().give(), "names 4 classes, the output has 5", asked)
    refused(tmp_path, Foreign().body(300).give(), "no output of")
