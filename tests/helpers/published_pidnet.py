"""PIDNet-S by its authors' names, written down a second time.

Source: XuJiacong/PIDNet, models/{pidnet,model_utils}.py (MIT), as PIDNet-S: m=2, n=3, planes=32.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.published_dual import Block, SegmentHead, before, conv3, deep_layer, up


def normed(conv):
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


def point(cin, cout):
    return normed(nn.Conv2d(cin, cout, 1, bias=False))


def layer(cin, planes, count, stride=1):
    last = (Block(planes, planes, relu=i < count - 1) for i in range(1, count))
    return nn.Sequential(Block(cin, planes, stride), *last)


class PagFM(nn.Module):
    def __init__(self):
        super().__init__()
        self.f_x, self.f_y = point(64, 32), point(64, 32)

    def forward(self, x, y):
        alike = torch.sigmoid(torch.sum(self.f_x(x) * up(self.f_y(y), x), 1).unsqueeze(1))
        return (1 - alike) * x + alike * up(y, x)


class PAPPM(nn.Module):
    def __init__(self):
        super().__init__()
        pools = [(nn.AvgPool2d(k, s, p),) for k, s, p in ((5, 2, 2), (9, 4, 4), (17, 8, 8))]
        for i, pool in enumerate(((), *pools, (nn.AdaptiveAvgPool2d(1),))):
            self.add_module(f"scale{i}", before(512, 96, 1, *pool))
        grouped = nn.Conv2d(384, 384, 3, padding=1, groups=4, bias=False)
        self.scale_process = nn.Sequential(nn.BatchNorm2d(384), nn.ReLU(), grouped)
        self.compression, self.shortcut = before(480, 128, 1), before(512, 128, 1)

    def forward(self, x):
        first = self.scale0(x)
        found = [up(getattr(self, f"scale{i}")(x), x) + first for i in range(1, 5)]
        return self.compression(torch.cat([first, self.scale_process(torch.cat(found, 1))], 1)) + self.shortcut(x)


class LightBag(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_p, self.conv_i = point(128, 128), point(128, 128)

    def forward(self, p, i, d):
        edge = torch.sigmoid(d)
        return self.conv_p((1 - edge) * i + p) + self.conv_i(i + edge * p)


class PublishedPIDNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        stem = []
        for cin in (3, 32):
            stem += [nn.Conv2d(cin, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
        self.conv1 = nn.Sequential(*stem)
        self.layer1, self.layer2 = layer(32, 32, 2), layer(32, 64, 2, 2)
        self.layer3, self.layer4 = layer(64, 128, 3, 2), layer(128, 256, 3, 2)
        second = Block(512, 256, deep=True, relu=False)
        self.layer5 = nn.Sequential(Block(256, 256, 2, deep=True, relu=False), second)
        self.compression3, self.compression4 = point(128, 64), point(256, 64)
        self.pag3, self.pag4 = PagFM(), PagFM()
        self.layer3_, self.layer4_, self.layer5_ = layer(64, 64, 2), layer(64, 64, 2), deep_layer(64, 64)
        self.layer3_d, self.layer4_d = Block(64, 32, relu=False), deep_layer(32, 32)
        self.layer5_d = deep_layer(64, 64)
        self.diff3, self.diff4 = normed(conv3(128, 32)), normed(conv3(256, 64))
        self.spp, self.dfm = PAPPM(), LightBag()
        self.seghead_p, self.seghead_d = SegmentHead(64, classes, 128), SegmentHead(64, 1, 32)
        self.final_layer = SegmentHead(128, classes, 128)

    def forward(self, x):
        x = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        p, d = self.layer3_(x), self.layer3_d(x)
        x = F.relu(self.layer3(x))
        p = extra = self.pag3(p, self.compression3(x))
        d = d + up(self.diff3(x), d)
        x = F.relu(self.layer4(x))
        p, d = self.layer4_(F.relu(p)), self.layer4_d(F.relu(d))
        p = self.pag4(p, self.compression4(x))
        d = d + up(self.diff4(x), d)
        p, d = self.layer5_(F.relu(p)), self.layer5_d(F.relu(d))
        x = up(self.spp(self.layer5(x)), p)
        return self.final_layer(self.dfm(p, x, d)), self.seghead_p(extra)
