"""DeepLabV3+ written down a second time: TensorFlow's by its variables, VainF's and mmsegmentation's by their modules.

Source: tensorflow/models, research/deeplab (Apache-2.0); VainF/DeepLabV3Plus-Pytorch (MIT); mmseg, sep_aspp_head.py.
"""

import zlib
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.published_mmseg import ResNetV1c, module

SHORT = (128, 2), (256, 2), (728, 2)
ENTRY = {41: SHORT, 65: SHORT, 71: ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))}


class Variables:
    """Makes each variable where it is first asked for, from the seed that its name is, and keeps it."""

    def __init__(self, classes):
        self.arrays, self.classes = {}, classes

    def get(self, name, *shape):
        if name not in self.arrays:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            if len(shape) == 4:
                fan = shape[0] * shape[1] * (1 if "depthwise" in name else shape[2])
                values = rng.normal(0, np.sqrt(2 / fan), shape)
            else:
                values = (
                    rng.uniform(0.5, 1.0, shape) if name.endswith(("gamma", "variance")) else rng.normal(0, 0.2, shape)
                )
            self.arrays[name] = values.astype(np.float32)
        assert self.arrays[name].shape == shape
        return torch.from_numpy(self.arrays[name]).double()


def normalized(v, scope, x, eps):
    beta, gamma, mean, variance = (
        v.get(f"{scope}/BatchNorm/{leaf}", x.shape[1]) for leaf in ("beta", "gamma", "moving_mean", "moving_variance")
    )
    return F.batch_norm(x, mean, variance, gamma, beta, eps=eps)


def conv(v, scope, x, cout, kernel=1, stride=1, *, eps, relu=True):
    weight = v.get(f"{scope}/weights", kernel, kernel, x.shape[1], cout).permute(3, 2, 0, 1)
    x = normalized(v, scope, F.conv2d(x, weight, None, stride, kernel // 2), eps)
    return F.relu(x) if relu else x


def separable(v, scope, x, cout, *, stride=1, rate=1, eps, relu):
    channels = x.shape[1]
    weight = v.get(f"{scope}_depthwise/depthwise_weights", 3, 3, channels, 1).permute(2, 3, 0, 1)
    x = normalized(v, f"{scope}_depthwise", F.conv2d(x, weight, None, stride, rate, rate, channels), eps)
    return conv(v, f"{scope}_pointwise", F.relu(x) if relu else x, cout, eps=eps, relu=relu)


def unit(v, scope, x, widths, *, stride=1, rate=1, skip, inside=False):
    scope, given, tapped = f"{scope}/xception_module", x, None
    for i, width in enumerate(widths, 1):
        x = x if inside else F.relu(x)
        last = stride if i == 3 else 1
        x = separable(v, f"{scope}/separable_conv{i}", x, width, stride=last, rate=rate, eps=1e-3, relu=inside)
        tapped = x if i == 2 else tapped
    if skip == "conv":
        x = x + conv(v, f"{scope}/shortcut", given, widths[-1], 1, stride, eps=1e-3, relu=False)
    return (x + given if skip == "sum" else x), tapped


def tensorflow(v, x, depth=65, stride=16):
    """float64 (1, 3, 16k + 1, 16l + 1) in -1 to 1 -> logits at a quarter."""
    name = f"xception_{depth}"
    x = conv(v, f"{name}/entry_flow/conv1_1", x, 32, 3, 2, eps=1e-3)
    x = conv(v, f"{name}/entry_flow/conv1_2", x, 64, 3, eps=1e-3)
    low, reached, rate = None, 2, 1
    for i, (width, step) in enumerate(ENTRY[depth], 1):
        if reached == stride:
            rate, step = rate * step, 1
        reached *= step
        x, tapped = unit(v, f"{name}/entry_flow/block{i}/unit_1", x, (width,) * 3, stride=step, skip="conv")
        low = tapped if i == (3 if depth == 71 else 2) else low
    for i in range(1, 9 if depth == 41 else 17):
        x, _ = unit(v, f"{name}/middle_flow/block1/unit_{i}", x, (728,) * 3, rate=rate, skip="sum")
    x, _ = unit(v, f"{name}/exit_flow/block1/unit_1", x, (728, 1024, 1024), rate=rate, skip="conv")
    widths = 1536, 1536, 2048
    x, _ = unit(v, f"{name}/exit_flow/block2/unit_1", x, widths, rate=2 * rate, skip="none", inside=True)
    size, factor = x.shape[2:], 16 // stride
    parts = [conv(v, "image_pooling", x.mean((2, 3), keepdim=True), 256, eps=1e-5).expand(-1, -1, *size)]
    parts.append(conv(v, "aspp0", x, 256, eps=1e-5))
    parts += [separable(v, f"aspp{i}", x, 256, rate=6 * i * factor, eps=1e-5, relu=True) for i in (1, 2, 3)]
    x = conv(v, "concat_projection", torch.cat(parts, 1), 256, eps=1e-5)
    low = conv(v, "decoder/feature_projection0", low, 48, eps=1e-5)
    x = torch.cat((F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=True), low), 1)
    for i in (0, 1):
        x = separable(v, f"decoder/decoder_conv{i}", x, 256, eps=1e-5, relu=True)
    weight = v.get("logits/semantic/weights", 1, 1, 256, v.classes).permute(3, 2, 0, 1)
    return F.conv2d(x, weight, v.get("logits/semantic/biases", v.classes))


def chained(cin, cout, kernel, stride=1, dilation=1, groups=1, padding=None):
    padding = dilation * (kernel // 2) if padding is None else padding
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, padding, dilation, groups, bias=False), nn.BatchNorm2d(cout), nn.ReLU6()
    )


class Inverted(nn.Module):
    def __init__(self, cin, cout, stride, dilation, expand):
        super().__init__()
        inner, self.residual, self.margin = cin * expand, stride == 1 and cin == cout, dilation
        first = [chained(cin, inner, 1)] if expand != 1 else []
        middle = chained(inner, inner, 3, stride, dilation, inner, padding=0)
        self.conv = nn.Sequential(*first, middle, nn.Conv2d(inner, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.conv(F.pad(x, (self.margin,) * 4))
        return x + y if self.residual else y


class VainfDeepLab(nn.Module):
    def __init__(self, classes):
        super().__init__()
        features, cin = [chained(3, 32, 3, 2)], 32
        for expand, cout, count, stride, first, rest in (
            (1, 16, 1, 1, 1, 1), (6, 24, 2, 2, 1, 1), (6, 32, 3, 2, 1, 1), (6, 64, 4, 2, 1, 1), (6, 96, 3, 1, 1, 1),
            (6, 160, 3, 1, 1, 2), (6, 320, 1, 1, 2, 2),
        ):  # fmt: skip
            for i in range(count):
                features.append(Inverted(cin, cout, 1 if i else stride, rest if i else first, expand))
                cin = cout
        self.backbone = nn.Module()
        whole = nn.Sequential(*features)
        self.backbone.low_level_features, self.backbone.high_level_features = whole[:4], whole[4:]
        self.classifier = nn.Module()
        self.classifier.project = point(24, 48)
        self.classifier.aspp = nn.Module()
        self.classifier.aspp.convs = nn.ModuleList([point(320, 256)])
        for rate in (6, 12, 18):
            conv = nn.Conv2d(320, 256, 3, padding=rate, dilation=rate, bias=False)
            self.classifier.aspp.convs.append(nn.Sequential(conv, nn.BatchNorm2d(256), nn.ReLU()))
        self.classifier.aspp.convs.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *point(320, 256)))
        self.classifier.aspp.project = point(1280, 256)
        last = nn.Conv2d(304, 256, 3, padding=1, bias=False)
        self.classifier.classifier = nn.Sequential(last, nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, classes, 1))

    def forward(self, x):
        low = self.backbone.low_level_features(x)
        deep = self.backbone.high_level_features(low)
        head = self.classifier
        parts = [conv(deep) for conv in head.aspp.convs]
        parts[-1] = F.interpolate(parts[-1], deep.shape[2:], mode="bilinear", align_corners=False)
        deep = head.aspp.project(torch.cat(parts, 1))
        deep = F.interpolate(deep, low.shape[2:], mode="bilinear", align_corners=False)
        return head.classifier(torch.cat((head.project(low), deep), 1))


def point(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


def mmseg_separable(cin, cout, dilation=1):
    depthwise = module(cin, cin, 3, dilation=dilation)
    depthwise.conv = nn.Conv2d(cin, cin, 3, 1, dilation, dilation, cin, bias=False)
    return nn.Sequential(OrderedDict(depthwise_conv=depthwise, pointwise_conv=module(cin, cout, 1)))


class MmsegDeepLab(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = (
            ResNetV1c((3, 4, 6, 3), deep=True),
            nn.Module(),
            nn.Module(),
        )
        head = self.decode_head
        head.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), module(2048, 512, 1))
        head.aspp_modules = nn.ModuleList([module(2048, 512, 1)])
        head.aspp_modules.extend(mmseg_separable(2048, 512, rate) for rate in (12, 24, 36))
        head.bottleneck, head.c1_bottleneck = module(2560, 512, 3), module(256, 48, 1)
        head.sep_bottleneck = nn.Sequential(mmseg_separable(560, 512), mmseg_separable(512, 512))
        head.conv_seg = nn.Conv2d(512, classes, 1)
        self.auxiliary_head.convs = nn.Sequential(module(1024, 256, 3))
        self.auxiliary_head.conv_seg = nn.Conv2d(256, classes, 1)

    def forward(self, x):
        body, head = self.backbone, self.decode_head
        low = body.layer1(F.max_pool2d(body.stem(x), 3, 2, 1))
        middle = body.layer3(body.layer2(low))
        deep = body.layer4(middle)
        pooled = F.interpolate(head.image_pool(deep), deep.shape[2:], mode="bilinear", align_corners=False)
        deep = head.bottleneck(torch.cat((pooled, *(conv(deep) for conv in head.aspp_modules)), 1))
        deep = F.interpolate(deep, low.shape[2:], mode="bilinear", align_corners=False)
        logits = head.conv_seg(head.sep_bottleneck(torch.cat((deep, head.c1_bottleneck(low)), 1)))
        return logits, self.auxiliary_head.conv_seg(self.auxiliary_head.convs(middle))


def varint(value):
    more, low = divmod(value, 128)
    return bytes([low]) if not more else bytes([low | 128]) + varint(more)


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def frozen_graph(arrays, *, listed=()):
    """The bytes of a GraphDef with these constants, and nodes that are none; `listed` ones hold float_val."""
    nodes = [field(1, field(1, b"ImageTensor") + field(2, b"Placeholder"))]
    for name, array in arrays.items():
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        raw = array.astype("<f4").tobytes()
        tensor = field(1, 1) + field(2, shape) + field(5 if name in listed else 4, raw)
        entry = field(1, b"value") + field(2, field(8, tensor))
        nodes.append(field(1, field(1, name.encode()) + field(2, b"Const") + field(5, entry)))
    return b"".join(nodes)
