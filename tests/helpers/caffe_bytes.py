"""A .caffemodel written byte by byte, without protobuf: tags, lengths and little-endian numbers.

Source: protobuf.dev, "Encoding"; the numbers of the fields are BVLC/caffe's, src/caffe/proto/caffe.proto.
"""

VARINT, LENGTH, FIXED_32 = 0, 2, 5  # wire types


def varint(value):
    more, low = divmod(value, 128)
    return bytes([low]) if not more else bytes([low | 128]) + varint(more)


def number(field, value):
    return varint(field << 3 | VARINT) + varint(value)


def message(field, content):
    return varint(field << 3 | LENGTH) + varint(len(content)) + content


def blob(array, *, double=False, legacy=False, packed=True):
    """BlobProto: num channels height width 1-4, data 5, shape 7, double_data 8."""
    shape = (*(1,) * (4 - array.ndim), *array.shape) if legacy else array.shape
    sizes = b"".join(number(i, n) for i, n in enumerate(shape, 1))
    if not legacy:
        sizes = message(7, message(1, b"".join(map(varint, shape))))
    if packed:
        return sizes + message(8 if double else 5, array.astype("<f8" if double else "<f4").tobytes())
    return sizes + b"".join(varint(5 << 3 | FIXED_32) + value.tobytes() for value in array.astype("<f4").ravel())


def layer(name, arrays, kind="Convolution", **form):
    """LayerParameter in NetParameter: name 1, type 2, a bottom 3, blobs 7; a convolution's settings 106 are skipped."""
    content = message(1, name.encode()) + message(2, kind.encode()) + message(3, b"data") + message(106, number(1, 32))
    return message(100, content + b"".join(message(7, blob(array, **form)) for array in arrays))


def old_layer(name, arrays, **form):
    """V1LayerParameter in NetParameter: name 4, type 5 (an enumeration), blobs 6."""
    content = message(4, name.encode()) + number(5, 4)
    return message(2, content + b"".join(message(6, blob(array, **form)) for array in arrays))


def published(arrays, **form):
    """The bytes of a .caffemodel with the content of a .npy, `{layer: {parameter: array}}`, as Caffe lays it out."""
    parts = [message(1, b"icnet_cityscapes")]
    for name, content in arrays.items():
        if name.endswith("_bn"):
            statistics = [content[key].reshape(1, -1, 1, 1) for key in ("scale", "offset", "mean", "variance")]
            parts.append(layer(f"{name.removesuffix('_bn')}/bn", statistics, "BN", **form))
            continue
        biases = [content["biases"]] if "biases" in content else []
        parts.append(layer(name, [content["weights"].transpose(3, 2, 0, 1), *biases], **form))
        parts.append(layer(f"{name}/relu", [], "ReLU"))
    return b"".join(parts)
