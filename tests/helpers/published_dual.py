"""DDRNet-23-slim by its authors' names, and mmsegmentation's Fast-SCNN, written down a second time.

Source: ydhongHIT/DDRNet, segmentation/DDRNet_23_slim.py (MIT); open-mmlab/mmsegmentation, backbones/fast_scnn.py.
"""

import re
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


def up(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


def conv3(cin, cout, stride=1):
    return nn.Conv2d(cin, cout, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, cin, planes, stride=1, *, deep=False, relu=True):
        super().__init__()
        cout, self.deep, self.last = planes * (1 + deep), deep, relu
        if deep:
            self.conv1, self.conv2 = nn.Conv2d(cin, planes, 1, bias=False), conv3(planes, planes, stride)
            self.conv3, self.bn3 = nn.Conv2d(planes, cout, 1, bias=False), nn.BatchNorm2d(cout)
        else:
            self.conv1, self.conv2 = conv3(cin, planes, stride), conv3(planes, planes)
        self.bn1, self.bn2, self.downsample = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes), None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = self.bn3(self.conv3(F.relu(y))) if self.deep else y
        y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y) if self.last else y


def layer(cin, planes, stride=1):
    return nn.Sequential(Block(cin, planes, stride), Block(planes, planes, relu=False))


def deep_layer(cin, planes, stride=1):
    return nn.Sequential(Block(cin, planes, stride, deep=True, relu=False))


def before(cin, cout, kernel, *pool):
    return nn.Sequential(
        *pool, nn.BatchNorm2d(cin), nn.ReLU(), nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
    )


class DAPPM(nn.Module):
    def __init__(self):
        super().__init__()
        pools = [(nn.AvgPool2d(k, s, p),) for k, s, p in ((5, 2, 2), (9, 4, 4), (17, 8, 8))]
        for i, pool in enumerate(((), *pools, (nn.AdaptiveAvgPool2d(1),))):
            self.add_module(f"scale{i}", before(512, 128, 1, *pool))
        for i in range(1, 5):
            self.add_module(f"process{i}", before(128, 128, 3))
        self.compression, self.shortcut = before(640, 128, 1), before(512, 128, 1)

    def forward(self, x):
        found = [self.scale0(x)]
        for i in range(1, 5):
            found.append(getattr(self, f"process{i}")(up(getattr(self, f"scale{i}")(x), x) + found[-1]))
        return self.compression(torch.cat(found, 1)) + self.shortcut(x)


class SegmentHead(nn.Module):
    def __init__(self, cin, classes, inner=64):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(cin), conv3(cin, inner)
        self.bn2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, classes, 1)

    def forward(self, x):
        return self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class PublishedDDRNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        stem = []
        for cin in (3, 32):
            stem += [nn.Conv2d(cin, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
        self.conv1 = nn.Sequential(*stem)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            layer(*shape) for shape in ((32, 32), (32, 64, 2), (64, 128, 2), (128, 256, 2))
        )
        for i, cin in ((3, 128), (4, 256)):
            compression = nn.Sequential(nn.Conv2d(cin, 64, 1, bias=False), nn.BatchNorm2d(64))
            self.add_module(f"compression{i}", compression)
        self.down3 = nn.Sequential(conv3(64, 128, 2), nn.BatchNorm2d(128))
        self.down4 = nn.Sequential(*self.down3, nn.ReLU(), conv3(128, 256, 2), nn.BatchNorm2d(256))
        self.down4[0], self.down4[1] = conv3(64, 128, 2), nn.BatchNorm2d(128)
        self.layer3_, self.layer4_ = layer(64, 64), layer(64, 64)
        self.layer5_, self.layer5 = deep_layer(64, 64), deep_layer(256, 256, 2)
        self.spp, self.seghead_extra, self.final_layer = DAPPM(), SegmentHead(64, classes), SegmentHead(128, classes)

    def forward(self, x):
        second = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        third, high = self.layer3(second), self.layer3_(second)
        low = third + self.down3(F.relu(high))
        high = extra = high + up(self.compression3(F.relu(third)), high)
        fourth, high = self.layer4(F.relu(low)), self.layer4_(F.relu(high))
        low = fourth + self.down4(F.relu(high))
        high = high + up(self.compression4(F.relu(fourth)), high)
        high = self.layer5_(F.relu(high))
        return self.final_layer(up(self.spp(self.layer5(F.relu(low))), high) + high), self.seghead_extra(extra)


# What mmsegmentation calls the same modules; of several the first that matches counts.
MMSEG = (
    (r"conv1\.([03])\.(.*)", lambda m: f"backbone.stem.{int(m[1]) // 3}.conv.{m[2]}"),
    (r"conv1\.([14])\.(.*)", lambda m: f"backbone.stem.{int(m[1]) // 3}.bn.{m[2]}"),
    (r"layer([12])\.(.*)", lambda m: f"backbone.stem.{2 * int(m[1])}.{m[2]}"),
    (r"layer(\d)_\.(.*)", lambda m: f"backbone.spatial_branch_layers.{int(m[1]) - 3}.{m[2]}"),
    (r"layer(\d)\.(.*)", lambda m: f"backbone.context_branch_layers.{int(m[1]) - 3}.{m[2]}"),
    (r"compression(\d)\.([01])\.(.*)", lambda m: f"backbone.compression_{int(m[1]) - 2}.{PART[m[2]]}.{m[3]}"),
    (r"down3\.([01])\.(.*)", lambda m: f"backbone.down_1.{PART[m[1]]}.{m[2]}"),
    (r"down4\.(\d)\.(.*)", lambda m: f"backbone.down_2.{int(m[1]) // 3}.{PART[str(int(m[1]) % 3)]}.{m[2]}"),
    (r"spp\.scale0\.([02])\.(.*)", lambda m: f"backbone.spp.scales.0.{PART_BEFORE[m[1]]}.{m[2]}"),
    (
        r"spp\.scale(\d)\.([13])\.(.*)",
        lambda m: f"backbone.spp.scales.{m[1]}.1.{PART_BEFORE[str(int(m[2]) - 1)]}.{m[3]}",
    ),
    (r"spp\.process(\d)\.([02])\.(.*)", lambda m: f"backbone.spp.processes.{int(m[1]) - 1}.{PART_BEFORE[m[2]]}.{m[3]}"),
    (r"spp\.(\w+)\.([02])\.(.*)", lambda m: f"backbone.spp.{m[1]}.{PART_BEFORE[m[2]]}.{m[3]}"),
    (r"final_layer\.(bn|conv)1\.(.*)", r"decode_head.head.0.\1.\2"),
    (r"final_layer\.bn2\.(.*)", r"decode_head.head.1.\1"),
    (r"final_layer\.conv2\.(.*)", r"decode_head.conv_seg.\1"),
    (r"seghead_extra\.(bn|conv)1\.(.*)", r"decode_head.aux_head.0.\1.\2"),
    (r"seghead_extra\.bn2\.(.*)", r"decode_head.aux_head.1.\1"),
    (r"seghead_extra\.conv2\.(.*)", r"decode_head.aux_cls_seg.\1"),
)
PART, PART_BEFORE = {"0": "conv", "1": "bn"}, {"0": "bn", "2": "conv"}


def mmseg_names(tensors):
    """The authors' tensors as mmsegmentation has them, whose stem has no biases."""
    found = {}
    for name, tensor in tensors.items():
        if re.fullmatch(r"conv1\.[03]\.bias", name):
            continue
        pattern, new = next((p, n) for p, n in MMSEG if re.fullmatch(p, name))
        named = re.sub(pattern, new, name)
        block = re.search(r"(layers\.\d|stem\.[24])\.\d", named)
        if block and "downsample" not in named:
            named = re.sub(r"\.(conv|bn)(\d)\.", r".conv\2.\1.", named)
        found[named] = tensor
    return found


def unit(cin, cout, kernel=1, stride=1, groups=1, *, relu=True):
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(cout), activate=nn.ReLU() if relu else nn.Identity()))


def separable(cin, cout, stride=1):
    depthwise = unit(cin, cin, 3, stride, groups=cin, relu=False)
    return nn.Sequential(OrderedDict(depthwise_conv=depthwise, pointwise_conv=unit(cin, cout)))


class Inverted(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.residual, inner = stride == 1 and cin == cout, 6 * cin
        self.conv = nn.Sequential(
            unit(cin, inner), unit(inner, inner, 3, stride, groups=inner), unit(inner, cout, relu=False)
        )

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class Extractor(nn.Module):
    def __init__(self):
        super().__init__()
        for i, (cin, cout, stride) in enumerate(((64, 64, 2), (64, 96, 2), (96, 128, 1)), 1):
            blocks = (Inverted(cin, cout, stride), Inverted(cout, cout, 1), Inverted(cout, cout, 1))
            self.add_module(f"bottleneck{i}", nn.Sequential(*blocks))
        self.ppm = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), unit(128, 32)) for n in (1, 2, 3, 6))
        self.out = unit(256, 128, 3)

    def forward(self, x):
        x = self.bottleneck3(self.bottleneck2(self.bottleneck1(x)))
        return self.out(torch.cat([x, *(up(pool(x), x) for pool in self.ppm)], 1))


class FCNHead(nn.Module):
    def __init__(self, classes, channels, *convs):
        super().__init__()
        self.convs, self.conv_seg = nn.Sequential(*convs), nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        return self.conv_seg(self.convs(x))


class PublishedFastSCNN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.learning_to_downsample = nn.Sequential(
            OrderedDict(conv=unit(3, 32, 3, 2), dsconv1=separable(32, 48, 2), dsconv2=separable(48, 64, 2))
        )
        self.backbone.global_feature_extractor = Extractor()
        self.backbone.feature_fusion = nn.ModuleDict(
            {
                "dwconv": unit(128, 128, 3, groups=128), "conv_lower_res": unit(128, 128, relu=False),
                "conv_higher_res": unit(64, 128, relu=False),
            }
        )  # fmt: skip
        self.decode_head = FCNHead(classes, 128, separable(128, 128), separable(128, 128))
        self.auxiliary_head = nn.ModuleList(FCNHead(classes, 32, unit(cin, 32, 3)) for cin in (128, 64))

    def forward(self, x):
        fine = self.backbone.learning_to_downsample(x)
        deep = self.backbone.global_feature_extractor(fine)
        parts = self.backbone.feature_fusion
        coarse = parts["conv_lower_res"](parts["dwconv"](up(deep, fine)))
        logits = self.decode_head(F.relu(parts["conv_higher_res"](fine) + coarse))
        return logits, self.auxiliary_head[0](deep), self.auxiliary_head[1](fine)
