"""PyTorch-ENet written down a second time, with its own modules' names and PyTorch's own unpooling.

Source: davidtvs/PyTorch-ENet e17d404, models/enet.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Name, output channels, dilation; where there is an "a" the convolution is 5x1 and then 1x5.
ENCODER = """
downsample1_0 64 1, regular1_1 64 1, regular1_2 64 1, regular1_3 64 1, regular1_4 64 1,
downsample2_0 128 1, regular2_1 128 1, dilated2_2 128 2, asymmetric2_3 128 a, dilated2_4 128 4, regular2_5 128 1,
dilated2_6 128 8, asymmetric2_7 128 a, dilated2_8 128 16,
regular3_0 128 1, dilated3_1 128 2, asymmetric3_2 128 a, dilated3_3 128 4, regular3_4 128 1, dilated3_5 128 8,
asymmetric3_6 128 a, dilated3_7 128 16
"""
DECODER = "upsample4_0 64 1, regular4_1 64 1, regular4_2 64 1, upsample5_0 16 1, regular5_1 16 1"


def rows(text):
    return [tuple(row.split()) for row in text.split(",")]


def unit(cin, cout, kernel, activation, **options):
    return [nn.Conv2d(cin, cout, kernel, bias=False, **options), nn.BatchNorm2d(cout), activation()]


class Initial(nn.Module):
    def __init__(self):
        super().__init__()
        self.main_branch = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.batch_norm = nn.BatchNorm2d(16)
        self.out_activation = nn.PReLU()

    def forward(self, x):
        both = torch.cat((self.main_branch(x), F.max_pool2d(x, 3, 2, 1)), 1)
        return self.out_activation(self.batch_norm(both))


class Block(nn.Module):
    def __init__(self, cin, cout, dilation, activation, *, pools):
        super().__init__()
        inner, self.pools = cin // 4, pools
        step = 2 if pools else 1
        self.ext_conv1 = nn.Sequential(*unit(cin, inner, step, activation, stride=step))
        if dilation == "a":
            down = unit(inner, inner, (5, 1), activation, padding=(2, 0))
            self.ext_conv2 = nn.Sequential(*down, *unit(inner, inner, (1, 5), activation, padding=(0, 2)))
        else:
            same = {"padding": int(dilation), "dilation": int(dilation)}
            self.ext_conv2 = nn.Sequential(*unit(inner, inner, 3, activation, **same))
        self.ext_conv3 = nn.Sequential(*unit(inner, cout, 1, activation))
        self.out_activation = activation()

    def forward(self, x, stack):
        main = x
        if self.pools:
            main, indices = F.max_pool2d(x, 2, return_indices=True)
            stack.append(indices)
        ext = self.ext_conv3(self.ext_conv2(self.ext_conv1(x)))
        zeros = ext.new_zeros(len(ext), ext.shape[1] - main.shape[1], *ext.shape[2:])
        return self.out_activation(torch.cat((main, zeros), 1) + ext)


class Up(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        inner = cin // 4
        self.main_conv1 = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))
        self.ext_conv1 = nn.Sequential(*unit(cin, inner, 1, nn.ReLU))
        self.ext_tconv1 = nn.ConvTranspose2d(inner, inner, 2, stride=2, bias=False)
        self.ext_tconv1_bnorm = nn.BatchNorm2d(inner)
        self.ext_conv2 = nn.Sequential(nn.Conv2d(inner, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x, stack):
        main = F.max_unpool2d(self.main_conv1(x), stack.pop(), 2)
        ext = self.ext_conv2(F.relu(self.ext_tconv1_bnorm(self.ext_tconv1(self.ext_conv1(x)))))
        return F.relu(main + ext)


class PublishedENet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.initial_block = Initial()
        channels, self.order = 16, []
        for part, activation in ((ENCODER, nn.PReLU), (DECODER, nn.ReLU)):
            for name, cout, dilation in rows(part):
                cout = int(cout)
                up, pools = name.startswith("up"), name.startswith("down")
                block = Up(channels, cout) if up else Block(channels, cout, dilation, activation, pools=pools)
                self.add_module(name, block)
                self.order.append(name)
                channels = cout
        self.transposed_conv = nn.ConvTranspose2d(16, classes, 3, stride=2, padding=1, bias=False)

    def forward(self, x):
        size, stack = x.shape[2:], []
        x = self.initial_block(x)
        for name in self.order:
            x = getattr(self, name)(x, stack)
        return self.transposed_conv(x, output_size=size)
