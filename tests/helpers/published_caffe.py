"""The released ICNet written down a second time: its layers by caffe's names, run one by one.

Source: hszhao/ICNet, icnet_cityscapes.prototxt; the names of arrays are hellochick/ICNet-tensorflow's, network.py.
"""

import zlib

import numpy as np
import torch
import torch.nn.functional as F

# Name, kernel, input and output channels.
HEAD = [("conv1_1_3x3_s2", 3, 3, 32), ("conv1_2_3x3", 3, 32, 32), ("conv1_3_3x3", 3, 32, 64)]
TAIL = [
    ("conv5_4_k1", 1, 1024, 256), ("conv_sub4", 3, 256, 128), ("conv3_1_sub2_proj", 1, 256, 128),
    ("conv_sub2", 3, 128, 128), ("conv1_sub1", 3, 3, 32), ("conv2_sub1", 3, 32, 32), ("conv3_sub1", 3, 32, 64),
    ("conv3_sub1_proj", 1, 64, 128),
]  # fmt: skip
STAGES = ((2, 3, 32), (3, 4, 64), (4, 6, 128), (5, 3, 256))  # stage, blocks, inner channels
# Kernels and strides of the pooling, written for maps of 33x65 and, alike, of 7x9.
POOLS = {
    (33, 65): [((33, 65), (33, 65)), ((17, 33), (16, 32)), ((13, 25), (10, 20)), ((8, 15), (5, 10))],
    (7, 9): [((7, 9), (7, 9)), ((4, 5), (3, 4)), ((3, 5), (2, 2)), ((2, 4), (1, 1))],
}


def convolutions():
    layers, cin = [*HEAD], 64
    for stage, count, inner in STAGES:
        for i in range(1, count + 1):
            block = f"conv{stage}_{i}"
            if i == 1:
                layers.append((f"{block}_1x1_proj", 1, cin, 4 * inner))
            layers += [(f"{block}_1x1_reduce", 1, cin, inner), (f"{block}_3x3", 3, inner, inner)]
            layers.append((f"{block}_1x1_increase", 1, inner, 4 * inner))
            cin = 4 * inner
    return [*layers, *TAIL]


def published(*, merged, classes=19):
    """`{layer: {parameter: array}}`, each array from the seed that its name is."""
    arrays = {}
    for name, kernel, cin, cout in convolutions():
        arrays[name] = {"weights": values(name, (kernel, kernel, cin, cout), (2 / (kernel**2 * cin)) ** 0.5)}
        if merged:
            arrays[name]["biases"] = values(f"{name}/b", (cout,), 0.2)
            continue
        arrays[f"{name}_bn"] = {
            "mean": values(f"{name}/m", (cout,), 0.2),
            "variance": np.abs(values(f"{name}/v", (cout,), 0.5)) + 0.5,
            "scale": np.abs(values(f"{name}/s", (cout,), 0.3)) + 0.3,
            "offset": values(f"{name}/o", (cout,), 0.2),
        }
    arrays["conv6_cls"] = {
        "weights": values("conv6_cls", (1, 1, 128, classes), 0.1), "biases": values("conv6_cls/b", (classes,), 0.1),
    }  # fmt: skip
    return arrays


def values(name, shape, deviation):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.normal(0, deviation, shape).astype(np.float32)


def run(arrays, x):
    """float64 (N, 3, 32k + 1, 32l + 1) -> logits of the same size."""

    def conv(name, x, stride=1, dilation=1, *, relu=True):
        weight = torch.from_numpy(arrays[name]["weights"].transpose(3, 2, 0, 1).copy()).double()
        bias = arrays[name].get("biases")
        bias = None if bias is None else torch.from_numpy(bias).double()
        x = F.conv2d(x, weight, bias, stride, dilation * (weight.shape[2] // 2), dilation)
        if f"{name}_bn" in arrays:
            bn = {key: torch.from_numpy(array).double() for key, array in arrays[f"{name}_bn"].items()}
            x = F.batch_norm(x, bn["mean"], bn["variance"], bn["scale"], bn["offset"], eps=1e-5)
        return F.relu(x) if relu else x

    def block(name, x, stride=1, dilation=1):
        shortcut = conv(f"{name}_1x1_proj", x, stride, relu=False) if name.endswith("_1") else x
        out = conv(f"{name}_3x3", conv(f"{name}_1x1_reduce", x, stride), dilation=dilation)
        return F.relu(shortcut + conv(f"{name}_1x1_increase", out, relu=False))

    fine = resized(x, 1 / 2)
    for name, stride in zip((layer[0] for layer in HEAD), (2, 1, 1), strict=True):
        fine = conv(name, fine, stride)
    fine = F.max_pool2d(fine, 3, 2, 1, ceil_mode=True)
    for name, stride in (("conv2_1", 1), ("conv2_2", 1), ("conv2_3", 1), ("conv3_1", 2)):
        fine = block(name, fine, stride)
    deep = resized(fine, 1 / 2)
    for stage, first, last, dilation in ((3, 2, 4, 1), (4, 1, 6, 2), (5, 1, 3, 4)):
        for i in range(first, last + 1):
            deep = block(f"conv{stage}_{i}", deep, 1, dilation)
    pooled = [F.avg_pool2d(deep, kernel, stride) for kernel, stride in POOLS[tuple(deep.shape[2:])]]
    deep = deep + sum(F.interpolate(p, deep.shape[2:], mode="bilinear", align_corners=True) for p in pooled)
    sub4 = resized(conv("conv5_4_k1", deep), 2)
    sub24 = F.relu(conv("conv_sub4", sub4, dilation=2, relu=False) + conv("conv3_1_sub2_proj", fine, relu=False))
    finest = conv("conv3_sub1", conv("conv2_sub1", conv("conv1_sub1", x, 2), 2), 2)
    sub12 = conv("conv_sub2", resized(sub24, 2), dilation=2, relu=False) + conv("conv3_sub1_proj", finest, relu=False)
    return resized(conv("conv6_cls", resized(F.relu(sub12), 2), relu=False), 4)


def resized(x, factor):
    """Caffe's Interp: corners aligned, from n to (n - 1) * factor + 1."""
    size = [round((n - 1) * factor) + 1 for n in x.shape[2:]]
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
