"""ICNet's branches by themselves, as its training guides them: what each step of the cascade is worth, and costs.

Zhao et al. 2018, arXiv:1704.08545, section 4.3: sub4 is the deep branch alone, sub24 the two deeper ones fused, sub124
the network. A trained ICNet holds the classifiers of all three; of what else it holds a branch takes its part.
"""

import torch

from export.models.icnet import RELEASED_WIDTH, ICNet, double, halve
from export.models.icnet_deployed import CommutedFusion, DeployedTrunk

SHALLOW = ("conv1_sub1", "conv2_sub1", "conv3_sub1", "fusion_12", "conv6_cls")  # what the third branch adds


class _Branch(ICNet):
    # An ICNet without some of its modules; `left_out` are their tensors, which a checkpoint of the whole also holds.
    without: tuple[str, ...] = ()

    def __init__(self, classes: int, *, width: int = RELEASED_WIDTH) -> None:
        super().__init__(classes, width=width)
        whole = set(self.state_dict())
        for name in self.without:
            delattr(self, name)
        self.left_out = frozenset(whole - set(self.state_dict()))

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (N, 3, H, W) -> conv3_1 at 1/16, and conv5_4 doubled to the same size."""
        fine = self.shared(halve(x, align_corners=False))
        deep = self.deep(halve(fine, align_corners=False))
        return fine, double(self.conv5_4(self.pyramid(deep)), align_corners=False)


class ICNetSub4(_Branch):
    """The deepest branch alone."""

    without = (*SHALLOW, "fusion_24", "conv6_sub2")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W), H and W multiples of 32 -> logits float (N, classes, H/16, W/16)."""
        return self.conv6_sub4(self.maps(x)[1])


class ICNetSub24(_Branch):
    """The two deeper branches, fused."""

    without = (*SHALLOW, "conv6_sub4")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W), H and W multiples of 32 -> logits float (N, classes, H/8, W/8)."""
        fine, sub4 = self.maps(x)
        return self.conv6_sub2(double(self.fusion_24(sub4, fine), align_corners=False))


class DeployedSub4(DeployedTrunk):
    """The same function of raw pixels in an equal, cheaper form: its classifier runs before the doubling."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, H/16, W/16), as the network gives for `x * gain`."""
        return double(self.net.conv6_sub4(self.maps(x)[1]), align_corners=False)


class DeployedSub24(DeployedTrunk):
    """The same function of raw pixels in an equal, cheaper form: fusion and classifier run before the doubling."""

    def __init__(self, net: ICNetSub24, gain: torch.Tensor) -> None:
        """Copy `net`, in evaluation mode; gain is float32 (3,), what each input channel is multiplied with."""
        super().__init__(net, gain)
        self.fusion_24 = CommutedFusion(self.net.fusion_24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (N, 3, H, W) -> logits float (N, classes, H/8, W/8), as the network gives for `x * gain`."""
        fine, context = self.maps(x)
        return double(self.net.conv6_sub2(self.fusion_24(context, fine)), align_corners=False)
