"""mmsegmentation's ICNet written down a second time, with its own modules' names and PyTorch's own pooling.

Source: open-mmlab/mmsegmentation, configs/_base_/models/icnet_r50-d8.py and the modules it names.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn


def resize(x, **to):
    return F.interpolate(x, mode="bilinear", align_corners=False, **to)


def module(cin, cout, kernel, stride=1, dilation=1):
    conv = nn.Conv2d(cin, cout, kernel, stride, dilation * (kernel - 1) // 2, dilation, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(cout), activate=nn.ReLU()))


class Residual(nn.Module):
    def __init__(self, cin, planes, stride, dilation, *, deep):
        super().__init__()
        cout, self.deep = planes * (4 if deep else 1), deep
        wide = {"stride": stride, "padding": dilation, "dilation": dilation, "bias": False}
        if deep:
            self.conv1 = nn.Conv2d(cin, planes, 1, bias=False)
            self.conv2 = nn.Conv2d(planes, planes, 3, **wide)
            self.conv3, self.bn3 = nn.Conv2d(planes, cout, 1, bias=False), nn.BatchNorm2d(cout)
        else:
            self.conv1 = nn.Conv2d(cin, planes, 3, **wide)
            self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.deep:
            out = self.bn3(self.conv3(F.relu(out)))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNetV1c(nn.Module):
    def __init__(self, blocks, *, deep):
        super().__init__()
        layers, cin = [], 3
        for cout, stride in ((32, 2), (32, 1), (64, 1)):
            layers += [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            cin = cout
        self.stem = nn.Sequential(*layers)
        for i, (count, stride, dilation) in enumerate(zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)):
            stage = []
            for j in range(count):
                first = dilation // 2 if dilation > 1 and j == 0 else dilation
                stage.append(Residual(cin, 64 << i, stride if j == 0 else 1, first, deep=deep))
                cin = (64 << i) * (4 if deep else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))


class Backbone(nn.Module):
    def __init__(self, blocks, *, deep):
        super().__init__()
        middle, last = (512, 2048) if deep else (128, 512)
        self.backbone = ResNetV1c(blocks, deep=deep)
        pools = [nn.Sequential(nn.AdaptiveAvgPool2d(bins), module(last, 512, 1)) for bins in (1, 2, 3, 6)]
        self.psp_modules = nn.ModuleList(pools)
        self.psp_bottleneck = module(last + 4 * 512, 512, 3)
        self.conv_sub1 = nn.Sequential(module(3, 32, 3, 2), module(32, 32, 3, 2), module(32, 64, 3, 2))
        self.conv_sub2, self.conv_sub4 = module(middle, 256, 1), module(512, 256, 1)

    def forward(self, x):
        sub1, net = self.conv_sub1(x), self.backbone
        x = net.stem(resize(x, scale_factor=0.5))
        x = net.layer2(net.layer1(F.max_pool2d(x, 3, 2, 1, ceil_mode=True)))
        sub2 = self.conv_sub2(x)
        x = net.layer4(net.layer3(resize(x, scale_factor=0.5)))
        pooled = [resize(pool(x), size=x.shape[2:]) for pool in self.psp_modules]
        return sub1, sub2, self.conv_sub4(self.psp_bottleneck(torch.cat([*pooled, x], 1)))


class Fusion(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.conv_low, self.conv_high = module(low, 128, 3, dilation=2), module(high, 128, 1)

    def forward(self, low, high):
        low = self.conv_low(resize(low, size=high.shape[2:]))
        return F.relu(low + self.conv_high(high)), low


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.cff_24, self.cff_12 = Fusion(256, 256), Fusion(128, 64)

    def forward(self, sub1, sub2, sub4):
        sub24, guide_24 = self.cff_24(sub4, sub2)
        sub124, guide_12 = self.cff_12(sub24, sub1)
        return guide_24, guide_12, sub124


class Head(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv_seg = nn.Conv2d(128, classes, 1)
        self.convs = nn.Sequential(module(128, 128, 3))

    def forward(self, x):
        return self.conv_seg(self.convs(x))


class PublishedICNet(nn.Module):
    """Gives the logits, and those of both auxiliary heads."""

    def __init__(self, classes, depth):
        super().__init__()
        blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]
        self.backbone, self.neck = Backbone(blocks, deep=depth == 50), Neck()
        self.decode_head = Head(classes)
        self.auxiliary_head = nn.ModuleList([Head(classes), Head(classes)])

    def forward(self, x):
        guide_24, guide_12, sub124 = self.neck(*self.backbone(x))
        return self.decode_head(sub124), self.auxiliary_head[0](guide_24), self.auxiliary_head[1](guide_12)
