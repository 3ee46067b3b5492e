"""hszhao/semseg's PSPNet50 written down a second time, with its own modules' names and PyTorch's own pooling.

Source: hszhao/semseg 4f274c3, model/{pspnet,resnet}.py (MIT); what differs in mmsegmentation and in Caffe are options.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.published_mmseg import Residual


class CaffeResidual(Residual):
    """Its stride is on the first convolution."""

    def __init__(self, cin, planes, stride, dilation):
        super().__init__(cin, planes, stride, dilation, deep=True)
        self.conv1.stride, self.conv2.stride = (stride, stride), (1, 1)


class PublishedPSPNet(nn.Module):
    def __init__(self, classes, *, stem=(64, 64, 128), contract=False, caffe=False, align_corners=True):
        super().__init__()
        self.align_corners = align_corners
        layers, cin = [], 3
        for cout, stride in zip(stem, (2, 1, 1), strict=True):
            layers += [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            cin = cout
        self.layer0 = nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))
        for i, (count, stride, dilation) in enumerate(zip((3, 4, 6, 3), (1, 2, 1, 1), (1, 1, 2, 4), strict=True)):
            blocks = []
            for j in range(count):
                first = dilation // 2 if contract and dilation > 1 and j == 0 else dilation
                form = (cin, 64 << i, stride if j == 0 else 1, first)
                blocks.append(CaffeResidual(*form) if caffe else Residual(*form, deep=True))
                cin = (64 << i) * 4
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.ppm = nn.Module()
        self.ppm.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins), nn.Conv2d(2048, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU()
            )
            for bins in (1, 2, 3, 6)
        )
        self.cls, self.aux = (
            nn.Sequential(
                nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.Dropout2d(0.0),
                nn.Conv2d(cout, classes, 1),
            )
            for cin, cout in ((4096, 512), (1024, 256))
        )  # fmt: skip

    def forward(self, x):
        middle = self.layer3(self.layer2(self.layer1(self.layer0(x))))
        deep = self.layer4(middle)
        size, corners = deep.shape[2:], self.align_corners
        pools = [F.interpolate(f(deep), size, mode="bilinear", align_corners=corners) for f in self.ppm.features]
        return self.cls(torch.cat((deep, *pools), 1)), self.aux(middle)


def mmseg_names(tensors):
    """The same tensors by mmsegmentation's names."""
    found = {}
    for name, tensor in tensors.items():
        head, _, rest = name.partition(".")
        index, _, leaf = rest.partition(".")
        part = {"0": "conv", "1": "bn"}
        if head == "layer0":
            found[f"backbone.stem.{rest}"] = tensor
        elif head.startswith("layer"):
            found[f"backbone.{name}"] = tensor
        elif head == "ppm":
            level, which, leaf = leaf.split(".")
            found[f"decode_head.psp_modules.{level}.1.{part[str(int(which) - 1)]}.{leaf}"] = tensor
        else:
            base = {"cls": "decode_head.bottleneck", "aux": "auxiliary_head.convs.0"}[head]
            seg = {"cls": "decode_head.conv_seg", "aux": "auxiliary_head.conv_seg"}[head]
            found[f"{seg}.{leaf}" if index == "4" else f"{base}.{part[index]}.{leaf}"] = tensor
    return found


def caffe_arrays(tensors):
    """The same tensors as Caffe's layers have them, `{layer: {parameter: array}}`; conv5_4 reads 6, 3, 2, 1 bins."""
    found = {}

    def put(layer, conv, bn):
        weight = tensors[f"{conv}.weight"]
        if layer == "conv5_4":
            deep, one, two, three, six = weight.split([2048, 512, 512, 512, 512], dim=1)
            weight = torch.cat((deep, six, three, two, one), dim=1)
        found[layer] = {"weights": weight.numpy().transpose(2, 3, 1, 0)}
        leaves = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}
        found[f"{layer}_bn"] = {theirs: tensors[f"{bn}.{leaf}"].numpy() for theirs, leaf in leaves.items()}

    for i, layer in enumerate(("conv1_1_3x3_s2", "conv1_2_3x3", "conv1_3_3x3")):
        put(layer, f"layer0.{3 * i}", f"layer0.{3 * i + 1}")
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for i in range(count):
            ours, theirs = f"layer{stage}.{i}", f"conv{stage + 1}_{i + 1}"
            for k, part in enumerate(("1x1_reduce", "3x3", "1x1_increase"), 1):
                put(f"{theirs}_{part}", f"{ours}.conv{k}", f"{ours}.bn{k}")
            if i == 0:
                put(f"{theirs}_1x1_proj", f"{ours}.downsample.0", f"{ours}.downsample.1")
    for i, bins in enumerate((1, 2, 3, 6)):
        put(f"conv5_3_pool{bins}_conv", f"ppm.features.{i}.1", f"ppm.features.{i}.2")
    put("conv5_4", "cls.0", "cls.1")
    last = {"weights": tensors["cls.4.weight"].numpy().transpose(2, 3, 1, 0), "biases": tensors["cls.4.bias"].numpy()}
    return {**found, "conv6": last}
