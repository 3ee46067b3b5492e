"""DDRNet-23-slim: Hong, Pan, Sun, Jia 2021, arXiv:2101.06085, as its authors publish it (ydhongHIT/DDRNet, MIT)."""

import torch
import torch.nn.functional as F
from torch import nn

from export.models.layers import ConvBN, Gained

PLANES, HIGH, CONTEXT, HEAD = 32, 64, 128, 64  # channels: of the first stage, the fine branch, pyramid, classifier
POOLS = ((5, 2), (9, 4), (17, 8))  # kernel and stride of the pyramid's averages; the whole map is the last


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a sum, which is left without its ReLU at a stage's end."""

    def __init__(self, cin: int, cout: int, stride: int = 1, *, relu: bool) -> None:
        super().__init__()
        self.conv1 = ConvBN(cin, cout, 3, stride=stride)
        self.conv2 = ConvBN(cout, cout, 3, relu=False)
        self.project = ConvBN(cin, cout, 1, stride=stride, relu=False) if stride > 1 or cin != cout else None
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, ceil(h / stride), ceil(w / stride))."""
        x = (x if self.project is None else self.project(x)) + self.conv2(self.conv1(x))
        return F.relu(x) if self.relu else x


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1, to twice the channels, and a sum without a ReLU."""

    def __init__(self, cin: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBN(cin, inner, 1)
        self.conv2 = ConvBN(inner, inner, 3, stride=stride)
        self.conv3 = ConvBN(inner, 2 * inner, 1, relu=False)
        changes = stride > 1 or cin != 2 * inner
        self.project = ConvBN(cin, 2 * inner, 1, stride=stride, relu=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, 2 * inner, ceil(h / stride), ceil(w / stride))."""
        y: torch.Tensor = self.conv3(self.conv2(self.conv1(x)))
        return y + (x if self.project is None else self.project(x))


class BNConv(nn.Module):
    """Batch normalisation, ReLU, then a convolution that keeps the size."""

    def __init__(self, cin: int, cout: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(cin)
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> float (N, cout, h, w)."""
        y: torch.Tensor = self.conv(F.relu(self.bn(x)))
        return y


class Pyramid(nn.Module):
    """DAPPM, table 2: averages of ever larger windows, each convolved with the one before it, and joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        scales = len(POOLS) + 2
        self.scale = nn.ModuleList(BNConv(channels, CONTEXT, 1) for _ in range(scales))
        self.process = nn.ModuleList(BNConv(CONTEXT, CONTEXT, 3) for _ in range(scales - 1))
        self.compression = BNConv(scales * CONTEXT, CONTEXT, 1)
        self.shortcut = BNConv(channels, CONTEXT, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, channels, h, w) -> float (N, 128, h, w)."""
        pooled = [F.avg_pool2d(x, kernel, stride, kernel // 2) for kernel, stride in POOLS]
        maps = [self.scale[0](x)]
        for average, scale, process in zip(
            (*pooled, x.mean((2, 3), keepdim=True)), self.scale[1:], self.process, strict=True
        ):
            maps.append(process(resized(scale(average), x) + maps[-1]))
        y: torch.Tensor = self.compression(torch.cat(maps, dim=1)) + self.shortcut(x)
        return y


class Head(nn.Module):
    """A 3x3 convolution and the classifier, each after batch normalisation and ReLU."""

    def __init__(self, cin: int, classes: int, width: int = HEAD) -> None:
        super().__init__()
        self.conv = BNConv(cin, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, cin, h, w) -> logits float (N, classes, h, w)."""
        y: torch.Tensor = self.classifier(F.relu(self.bn(self.conv(x))))
        return y


class DDRNet23Slim(nn.Module):
    """DDRNet-23-slim for `classes` classes; in training also the auxiliary logits, read at the first exchange."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(biased(3, PLANES), biased(PLANES, PLANES))
        self.layer1 = stage(PLANES, PLANES, 1)
        self.layer2 = stage(PLANES, HIGH, 2)
        self.low3, self.high3 = stage(HIGH, 128, 2), stage(HIGH, HIGH, 1)
        self.low4, self.high4 = stage(128, 256, 2), stage(HIGH, HIGH, 1)
        self.low5, self.high5 = Bottleneck(256, 256, 2), Bottleneck(HIGH, HIGH)
        self.compression3, self.compression4 = (ConvBN(cin, HIGH, 1, relu=False) for cin in (128, 256))
        self.down3 = ConvBN(HIGH, 128, 3, stride=2, relu=False)
        self.down4 = nn.Sequential(ConvBN(HIGH, 128, 3, stride=2), ConvBN(128, 256, 3, stride=2, relu=False))
        self.pyramid = Pyramid(512)
        self.head, self.auxiliary = Head(CONTEXT, classes), Head(HIGH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W), multiples of 8 -> logits float (N, classes, H/8, W/8); in training the auxiliary too."""
        shared = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        low, first = self._exchange(self.low3(shared), self.high3(shared), self.down3, self.compression3)
        low, high = self._exchange(self.low4(F.relu(low)), self.high4(F.relu(first)), self.down4, self.compression4)
        context = self.pyramid(self.low5(F.relu(low)))
        high = self.high5(F.relu(high))
        logits: torch.Tensor = self.head(resized(context, high) + high)
        return (logits, self.auxiliary(first)) if self.training else logits

    @staticmethod
    def _exchange(
        low: torch.Tensor, high: torch.Tensor, down: nn.Module, compression: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Both branches' maps before either is given the other's.
        return low + down(F.relu(high)), high + resized(compression(F.relu(low)), high)


def resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, pixel centres at halves, to another map's height and width."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def biased(cin: int, cout: int) -> nn.Sequential:
    """A 3x3 convolution of stride 2 with a bias, batch normalisation and ReLU."""
    return nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout), nn.ReLU())


def stage(cin: int, cout: int, stride: int, count: int = 2) -> nn.Sequential:
    """So many blocks, of which the last gives its sum without a ReLU."""
    blocks = [BasicBlock(cin, cout, stride, relu=True)]
    return nn.Sequential(*blocks, *(BasicBlock(cout, cout, relu=i < count - 1) for i in range(1, count)))


def deployed_ddrnet(net: DDRNet23Slim, gain: torch.Tensor) -> nn.Module:
    """The same function of raw pixels, float (N, 3, H, W)."""
    return Gained(net, gain, "conv1.0.0")
