import random

import numpy as np
import pytest
import torch

from export import registry
from export.checkpoints.caffemodel import net_parameter, read_caffemodel
from export.checkpoints.weights import load, read_weights
from runtime.errors import WeightsError
from runtime.labels import CITYSCAPES
from tests.helpers import caffe_bytes, published_caffe

WEIGHTS = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3) / 4  # (out, in, height, width)


def write(path, *parts):
    path.write_bytes(b"".join(parts))
    return path


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refused(path):
    with pytest.raises(WeightsError) as raised:
        load(registry.find("icnet-caffe").build(19), read_weights(path))
    message = str(raised.value)
    assert path.name in message and "\n" not in message
    return message


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize(
    "form",
    [{}, {"double": True}, {"legacy": True}, {"double": True, "legacy": True}, {"packed": False}],
    ids=["floats", "doubles", "four sizes", "doubles in four sizes", "floats one by one"],
)
def test_it_holds_what_the_npy_holds(merged, form, tmp_path):
    arrays = published_caffe.published(merged=merged)
    if form.get("packed") is False:  # the whole network one by one takes a minute
        arrays = {
            name: arrays[name] for name in ("conv1_1_3x3_s2", "conv1_1_3x3_s2_bn", "conv2_1_1x1_reduce") & arrays.keys()
        }
    np.save(tmp_path / "icnet.npy", arrays, allow_pickle=True)
    write(tmp_path / "icnet.caffemodel", caffe_bytes.published(arrays, **form))
    npy, caffemodel = (read_weights(tmp_path / f"icnet.{suffix}") for suffix in ("npy", "caffemodel"))
    assert same(npy.tensors, caffemodel.tensors)
    assert caffemodel.network == "icnet-caffe" and caffemodel.classes == CITYSCAPES


def test_the_released_icnet_gives_its_logits_from_it(tmp_path):
    arrays = published_caffe.published(merged=False)
    weights = read_weights(write(tmp_path / "icnet.caffemodel", caffe_bytes.published(arrays)))
    network = registry.find(weights.network).build(len(weights.classes))
    load(network, weights)
    frame = torch.from_numpy(np.random.default_rng(5).normal(size=(1, 3, 193, 257)))
    with torch.inference_mode():
        got, expected = published_caffe.resized(network.eval().double()(frame), 4), published_caffe.run(arrays, frame)
    assert (got - expected).abs().max() < 1e-6 * (expected.max() - expected.min())


def test_weights_are_turned_and_vectors_laid_flat(tmp_path):
    bias = np.float32([1, 2, 3, 4])
    path = write(tmp_path / "a.caffemodel", caffe_bytes.layer("a", [WEIGHTS, bias.reshape(1, 1, 1, 4)]))
    tensors = read_caffemodel(path)
    assert tensors["a.weights"].shape == (2, 3, 1, 4) and tensors["a.weights"][1, 2, 0, 3] == WEIGHTS[3, 0, 1, 2]
    assert torch.equal(tensors["a.biases"], torch.from_numpy(bias))


def test_layers_in_the_form_of_before_2014_are_read(tmp_path):
    old = read_caffemodel(write(tmp_path / "old.caffemodel", caffe_bytes.old_layer("a", [WEIGHTS], legacy=True)))
    new = read_caffemodel(write(tmp_path / "new.caffemodel", caffe_bytes.layer("a", [WEIGHTS])))
    assert same(old, new)


def test_protobuf_writes_the_bytes_that_were_written_by_hand():
    net = net_parameter()()
    layer = net.layer.add(name=b"a")
    layer.blobs.add(data=WEIGHTS.ravel()).shape.dim.extend(WEIGHTS.shape)
    blob = caffe_bytes.message(5, WEIGHTS.tobytes()) + caffe_bytes.message(
        7, caffe_bytes.message(1, bytes(WEIGHTS.shape))
    )
    by_hand = caffe_bytes.message(100, caffe_bytes.message(1, b"a") + caffe_bytes.message(7, blob))
    assert net.SerializeToString() == by_hand


def test_layers_of_the_training_alone_are_left_out_and_named(tmp_path, capsys):
    arrays = published_caffe.published(merged=True)
    more = [
        caffe_bytes.layer("conv6_sub4", [WEIGHTS]),
        caffe_bytes.layer("loss/weights", [WEIGHTS] * 3),
        caffe_bytes.layer("data_sub1", [np.ones(3)], "Scale"),
    ]
    path = write(tmp_path / "icnet.caffemodel", caffe_bytes.published(arrays), *more)
    load(registry.find("icnet-caffe").build(19), read_weights(path))
    said = capsys.readouterr().err
    assert (
        said
        == "icnet.caffemodel: 3 layers (conv6_sub4, data_sub1, loss_weights) are of its training alone and left out\n"
    )


def test_a_scaled_input_is_not_left_out(tmp_path):
    arrays = published_caffe.published(merged=True)
    scale = caffe_bytes.layer("data_sub1", [np.float32([1, 1, 0.5])], "Scale")
    message = refused(write(tmp_path / "icnet.caffemodel", caffe_bytes.published(arrays), scale))
    assert "1 unknown (data_sub1.weights)" in message


def test_what_is_missing_is_listed(tmp_path):
    arrays = published_caffe.published(merged=False)
    del arrays["conv5_4_k1"], arrays["conv_sub4_bn"]
    message = refused(write(tmp_path / "icnet.caffemodel", caffe_bytes.published(arrays)))
    assert "5 missing (conv5_4.conv.weight, fusion_24.conv.bn.bias, " in message


def test_another_network_is_refused_by_its_layers(tmp_path):
    path = write(tmp_path / "vgg.caffemodel", caffe_bytes.layer("fc6", [WEIGHTS]), caffe_bytes.layer("fc7", [WEIGHTS]))
    assert "neither of ICNet nor of PSPNet: 2 other layers (fc6, fc7)" in refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "are empty: 0 bytes"),
        (b"hello world, this is no network", "damaged, or not a .caffemodel"),
        (b"\0" * 64, "protobuf cannot read it"),
        (b"PK\x03\x04" + b"\0" * 60, "damaged, or not a .caffemodel"),
        (caffe_bytes.layer("a", []), "no layer in it has arrays"),
        (caffe_bytes.layer("a", [WEIGHTS])[:-1], "protobuf cannot read it"),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_refused(content, said, tmp_path):
    assert said in refused(write(tmp_path / "a.caffemodel", content))


@pytest.mark.parametrize("shape", [(4, 1, 2), (4, 1, 2, 4), (), (2**62, 2**62), (2**64 - 24,)])
def test_an_array_of_another_shape_than_its_values_is_refused(shape, tmp_path):
    sizes = caffe_bytes.message(7, caffe_bytes.message(1, b"".join(map(caffe_bytes.varint, shape))))
    blob = sizes + caffe_bytes.message(5, WEIGHTS.tobytes())
    content = caffe_bytes.message(100, caffe_bytes.message(1, b"conv") + caffe_bytes.message(7, blob))
    assert "24 values of layer conv are not of shape" in refused(write(tmp_path / "a.caffemodel", content))


def test_whatever_byte_is_damaged_ends_in_an_error_or_in_tensors(tmp_path):
    path, rng = tmp_path / "a.caffemodel", random.Random(0)
    layers = [
        ("conv1_1_3x3_s2", [WEIGHTS]),
        ("conv1_1_3x3_s2/bn", [np.ones(4)] * 4),
        ("conv6_cls", [WEIGHTS, np.ones(4)]),
    ]
    whole, outcomes = b"".join(caffe_bytes.layer(*each) for each in layers), set()
    for _ in range(600):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([None, rng.randrange(len(whole))])])
        try:
            outcomes.add(type(read_caffemodel(path)))
        except ValueError:
            outcomes.add(ValueError)
        try:
            read_weights(path)
        except WeightsError as error:
            assert "\n" not in str(error)
    assert len(outcomes) == 2
