"""What exporters write that are not here: each graph as theirs, a few operators small."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import adopt
from export.adopting.options import Asked, Given
from export.adopting.source import read_source
from runtime.errors import GraphError
from tests.helpers.foreign import CLASSES, HEIGHT, WIDTH, Foreign

IMAGENET = Asked(size=(HEIGHT, WIDTH), given=Given("imagenet"))


def found_of(tmp_path, model, **save):
    """What an adoption found, which held the graph to the file on the street frame."""
    onnx.save(model, str(tmp_path / "net.onnx"), **save)
    return dict(adopt.adopted(read_source(tmp_path / "net.onnx"), IMAGENET).found)


def resized_to(made, sizes):
    """Upsampled to a tensor of lengths, with the empty roi and scales that old opsets want."""
    made.tensors["none"] = np.zeros(0, np.float32)
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    made.nodes.append(helper.make_node("Resize", [made.at, "none", "none", sizes], ["wide"], **how))
    made.at = "wide"
    return made


def paddle():
    """paddle2onnx: BatchNormalization, lengths that are written out, ArgMax without its axis, int32."""
    made = Foreign()
    made.add("Conv", made.random.normal(0, 0.4, (8, 3, 3, 3)).astype(np.float32), pads=[1] * 4, strides=[2, 2])
    made.add("BatchNormalization", *(made.random.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4)))
    made.add("Relu")
    made.conv(8, CLASSES).tensors["sizes"] = np.array([1, CLASSES, HEIGHT, WIDTH], np.int64)
    resized_to(made, "sizes").add("ArgMax", axis=1, keepdims=0)
    made.add("Cast", to=TensorProto.INT32)
    return made.give(TensorProto.INT32, "fetch_name_0").model(opset=11)


def dynamic(opset=11):
    """mmdeploy: free axes, lengths from Shape, Slice and Concat, ArgMax that keeps its axis."""
    made = Foreign(("batch", 3, "height", "width")).body()
    for name, value in (("zero", 0), ("two", 2), ("four", 4)):
        made.tensors[name] = np.array([value], np.int64)
    for tensor, shape, part, first, end in (("image", "s0", "hw", "two", "four"), (made.at, "s1", "nc", "zero", "two")):
        made.nodes.append(helper.make_node("Shape", [tensor], [shape]))
        made.nodes.append(helper.make_node("Slice", [shape, first, end, "zero"], [part]))
    made.nodes.append(helper.make_node("Concat", ["nc", "hw"], ["sizes"], axis=0))
    resized_to(made, "sizes").add("ArgMax", axis=1, keepdims=1)
    return made.give(TensorProto.INT64, "output").model(opset=opset)


def ids_as_floats():
    """Class ids, cast to float at the end."""
    made = Foreign().body().resize()
    made.add("ArgMax", axis=1, keepdims=0)
    made.add("Cast", to=TensorProto.FLOAT)
    return made.give().model()


@pytest.mark.parametrize("model", [paddle, dynamic, lambda: dynamic(17), ids_as_floats])
def test_ids_behind_an_upsampling_become_the_logits_before_it(tmp_path, model):
    found = found_of(tmp_path, model())
    assert "ArgMax, Resize; the runtime upsamples: half_pixel" in found["cut off"]
    assert found["segments by"].startswith(f"logits, {CLASSES} classes") and found["checked"].startswith("100.0000%")


@pytest.mark.parametrize("opset", [21, 22, 23, 24, 25, onnx.defs.onnx_opset_version()])
def test_opsets_up_to_the_newest_are_taken(tmp_path, opset):
    model = Foreign().body().resize().give().model(opset=opset)
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    assert found_of(tmp_path, model)["checked"].startswith("100.0000%")


def test_detections_beside_prototypes_are_refused_and_taken_where_they_are_named(tmp_path):
    made = Foreign().body()
    body = made.at
    made.add("Reshape", np.array([1, CLASSES, -1], np.int64))
    made.give(name="output0").at = body
    path = made.conv(CLASSES, 32).give(name="output1").save(tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"output0 1x5x128 beside output1 1x32x8x16: .*prototypes.*--output output1"):
        adopt.adopted(read_source(path), IMAGENET)
    found = dict(adopt.adopted(read_source(path), IMAGENET._replace(output="output1")).found)
    assert found["segments by"].startswith("logits, 32 classes")


def branch(name, operator, tensor):
    output = f"{name}.out"
    node = helper.make_node(operator, [tensor], [output], domain="theirs" if operator == "Special" else "")
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def deciding(by, operator="Neg"):
    """An If on a constant, on a length, or on what the network computes."""
    made = Foreign().body()
    logits = made.at
    made.tensors["zero"] = np.array(0, np.float32)
    if by == "constant":
        made.tensors["condition"] = np.array(True)
    elif by == "length":
        made.tensors |= {"axis": np.array(1, np.int64), "one": np.array(1, np.int64)}
        made.nodes.append(helper.make_node("Shape", [logits], ["shape"]))
        made.nodes.append(helper.make_node("Gather", ["shape", "axis"], ["channels"]))
        made.nodes.append(helper.make_node("Greater", ["channels", "one"], ["condition"]))
    else:
        made.nodes.append(helper.make_node("ReduceMax", [logits], ["largest"], keepdims=0))
        made.nodes.append(helper.make_node("Greater", ["largest", "zero"], ["condition"]))
    branches = {"then_branch": branch("yes", "Relu", logits), "else_branch": branch("no", operator, logits)}
    made.nodes.append(helper.make_node("If", ["condition"], ["decided"], **branches))
    made.at = "decided"
    return made.give().model()


def test_what_a_graph_decides_before_it_runs_is_decided_and_nothing_else_is_taken(tmp_path):
    for by in ("constant", "length"):
        assert found_of(tmp_path, deciding(by))["checked"].startswith("100.0000%")
    with pytest.raises(GraphError, match=r"the graph decides while it runs \(If\)"):
        found_of(tmp_path, deciding("values"))
    with pytest.raises(GraphError, match=r"not ONNX's own: theirs\.Special"):
        found_of(tmp_path, deciding("constant", "Special"))


def test_a_loop_is_refused_and_a_sequence_of_one_place_is_none(tmp_path):
    made = Foreign().body()
    value = {name: helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in (
        ("i", TensorProto.INT64, []), ("on", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, None),
        ("on.out", TensorProto.BOOL, []), ("x.out", TensorProto.FLOAT, None))}  # fmt: skip
    nodes = [helper.make_node("Relu", ["x"], ["x.out"]), helper.make_node("Identity", ["on"], ["on.out"])]
    names = ("i", "on", "x"), ("on.out", "x.out")
    body = helper.make_graph(nodes, "body", *([value[name] for name in each] for each in names))
    logits, made.tensors["times"], made.tensors["true"] = made.at, np.array(2, np.int64), np.array(True)
    made.nodes.append(helper.make_node("Loop", ["times", "true", logits], ["looped"], body=body))
    made.at = "looped"
    with pytest.raises(GraphError, match=r"the graph decides while it runs \(Loop\)"):
        found_of(tmp_path, made.give().model())
    made = Foreign().body()
    made.tensors["first"] = np.array(0, np.int64)
    made.nodes.append(helper.make_node("SequenceConstruct", [made.at, made.at], ["both"]))
    made.nodes.append(helper.make_node("SequenceAt", ["both", "first"], ["taken"]))
    made.at = "taken"
    assert found_of(tmp_path, made.give().model())["checked"].startswith("100.0000%")


def of_type(kind, as_numpy, *, keep_io):
    """The whole graph in another type, between casts or to its ends."""
    model = Foreign().body().give().model(opset=22)
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(as_numpy), tensor.name))
    if keep_io:
        model.graph.node[0].input[0], model.graph.node[-1].output[0] = "narrow", "ended"
        model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["narrow"], to=kind))
        last = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Cast", ["ended"], [last], to=TensorProto.FLOAT))
    else:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("keep_io", [True, False])
def test_a_graph_in_half_precision_is_taken_and_one_of_types_without_convolutions_refused(tmp_path, keep_io):
    half = found_of(tmp_path, of_type(TensorProto.FLOAT16, np.float16, keep_io=keep_io))
    assert float(half["checked"].split("%")[0]) > 99.5
    for kind, as_numpy, name in (
        (TensorProto.DOUBLE, np.float64, "float64"), (TensorProto.BFLOAT16, ml_dtypes.bfloat16, "bfloat16")
    ):  # fmt: skip
        with pytest.raises(GraphError, match=f"computes in {name}, .*export it in float32 or float16"):
            found_of(tmp_path, of_type(kind, as_numpy, keep_io=keep_io))


def test_weights_that_are_kept_in_bfloat16_and_computed_in_float_are_taken(tmp_path):
    model = Foreign().body().give().model()
    weight = model.graph.initializer[0]
    name = weight.name
    narrow = numpy_helper.to_array(weight).astype(ml_dtypes.bfloat16)
    weight.CopyFrom(numpy_helper.from_array(narrow, f"{name}.narrow"))
    model.graph.node.insert(0, helper.make_node("Cast", [f"{name}.narrow"], [name], to=TensorProto.FLOAT))
    assert found_of(tmp_path, model)["checked"].startswith("100.0000%")


def test_every_tensor_in_a_file_of_its_own_is_read(tmp_path):
    each = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    assert found_of(tmp_path, Foreign().body().give().model(), **each)["checked"].startswith("100.0000%")
    assert len(list(tmp_path.iterdir())) > 3


@pytest.mark.parametrize("kind", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_a_graph_that_is_quantized_already_is_refused(tmp_path, kind):
    made = Foreign().body()
    made.tensors |= {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)}
    if kind == "QuantizeLinear":
        made.nodes.append(helper.make_node(kind, [made.at, "scale", "zero"], ["codes"]))
    else:
        del made.tensors["scale"], made.tensors["zero"]
        made.nodes.append(helper.make_node(kind, [made.at], ["codes", "scale", "zero"]))
    made.nodes.append(helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"]))
    made.at = "values"
    with pytest.raises(GraphError, match="quantized already: give the float file"):
        found_of(tmp_path, made.give().model())


def with_functions(inner):
    """A module of theirs that calls another, both kept as functions."""
    model = Foreign().body().give().model(opset=18)
    (output,) = model.graph.output
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 18), ("theirs", 1))]
    domain = "theirs" if inner == "Special" else ""
    bodies = {
        "Inner": [helper.make_node(inner, ["a"], ["b"], domain=domain)],
        "Outer": [helper.make_node("Inner", ["a"], ["t"], domain="theirs"), helper.make_node("Neg", ["t"], ["b"])],
    }
    model.graph.node.append(helper.make_node("Outer", [output.name], ["ended"], domain="theirs"))
    output.name = "ended"
    model.functions.extend(
        helper.make_function("theirs", name, ["a"], ["b"], body, opsets) for name, body in bodies.items()
    )
    model.opset_import.append(opsets[1])
    return model


def test_local_functions_are_inlined_and_what_they_hold_is_looked_at(tmp_path):
    assert found_of(tmp_path, with_functions("Relu"))["checked"].startswith("100.0000%")
    with pytest.raises(GraphError, match=r"not ONNX's own: theirs\.Special"):
        found_of(tmp_path, with_functions("Special"))
