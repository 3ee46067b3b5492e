"""Caffe's .caffemodel, read with protobuf through the few fields that hold a layer's arrays."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

# BVLC/caffe and hszhao/PSPNet, src/caffe/proto/caffe.proto: message -> field, number, type (a message's name, or
# protobuf's own). What is not listed here is skipped. `layers` and the four sizes are from before 2014.
FIELDS = {
    "BlobShape": [("dim", 1, "packed int64")],
    "BlobProto": [
        ("num", 1, "int64"), ("channels", 2, "int64"), ("height", 3, "int64"), ("width", 4, "int64"),
        ("data", 5, "packed float"), ("shape", 7, "BlobShape"), ("double_data", 8, "packed double"),
    ],
    "V1LayerParameter": [("name", 4, "bytes"), ("blobs", 6, "repeated BlobProto")],
    "LayerParameter": [("name", 1, "bytes"), ("blobs", 7, "repeated BlobProto")],
    "NetParameter": [("layers", 2, "repeated V1LayerParameter"), ("layer", 100, "repeated LayerParameter")],
}  # fmt: skip
# A layer's arrays by their count, under the names that the .npy files give them. Four are those of PSPNet's own BN:
# slope, bias, moving mean, moving variance (hszhao/PSPNet, bn_layer.cpp), with an epsilon of 1e-5.
PARAMETERS = {1: ("weights",), 2: ("weights", "biases"), 4: ("scale", "offset", "mean", "variance")}


def net_parameter() -> Any:
    """The class of protobuf messages that a .caffemodel is one of."""
    return message_class("caffe", FIELDS, "NetParameter")


_MADE: dict[str, Any] = {}


def message_class(package: str, fields: dict[str, list[tuple[str, int, str]]], top: str) -> Any:
    """A class of protobuf messages of so many fields; unknown ones are skipped.

    Args:
        package: a name for all of them.
        fields: message -> field, number, type: a message's name or protobuf's own, `repeated` or `packed` before it.
        top: the message that a whole file is.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    if package not in _MADE:
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
        for name, listed in fields.items():
            message = file.message_type.add(name=name)
            for field, number, kind in listed:
                repeated, _, base = kind.rpartition(" ")
                added = message.field.add(name=field, number=number)
                added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
                if base in fields:
                    added.type_name = f".{package}.{base}"
                else:
                    added.type = getattr(added, f"TYPE_{base.upper()}")
                if repeated == "packed":
                    added.options.packed = True
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        _MADE[package] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{top}"))
    return _MADE[package]


def read_caffemodel(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of every layer that has some, as ICNet's .npy files name and lay them out.

    Returns:
        float32 by `layer.parameter`; a layer `conv/bn` becomes `conv_bn`, weights are (height, width, in, out).

    Raises:
        ValueError: it is no such file, is cut, or an array has not as many values as its shape says.
    """
    from google.protobuf.message import DecodeError

    net = net_parameter()()
    try:
        net.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"protobuf cannot read it: {error}") from None
    tensors = {}
    for layer in (*net.layers, *net.layer):
        # The array of another kind of layer has a number for a name, which no network of ours takes.
        names = PARAMETERS.get(len(layer.blobs), map(str, range(len(layer.blobs))))
        layer_name = _printable(layer.name)
        for name, blob in zip(names, layer.blobs, strict=True):
            array = _array(blob, layer_name)
            array = array.transpose(2, 3, 1, 0) if name == "weights" and array.ndim == 4 else array.flatten()
            tensors[f"{layer_name.replace('/', '_')}.{name}"] = torch.from_numpy(array)
    if not tensors:
        raise ValueError("no layer in it has arrays")
    return tensors


def _printable(name: bytes) -> str:
    # What is none of a name's characters in a damaged file would break the line of an error.
    return "".join(c if c.isprintable() else "?" for c in name.decode("utf-8", "replace"))


def _array(blob: Any, layer: str) -> np.ndarray:
    values = np.array(blob.double_data or blob.data, np.float32)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{values.size} values of layer {layer} are not of shape {shape}")
    return values.reshape(shape)
