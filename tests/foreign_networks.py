"""Networks of other packages as their users export them: `python -m tests.foreign_networks FOLDER`.

Random weights, whose statistics of BatchNorm are those of the bundled street frame. It needs torch, torchvision,
transformers and segmentation-models-pytorch, in an environment of their own: nothing of this project needs them, and
what they make is not part of it. Beside each file stands how `tests.adopted_table` takes it.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

HEIGHT, WIDTH, CLASSES = 256, 512, 19
STREET = Path(__file__).parents[1] / "runtime" / "samples" / "street.jpg"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FREE = {0: "batch", 2: "height", 3: "width"}
TIMES = 4  # passes over the frame, after which the statistics have settled


class Joined(nn.Module):
    """Three deconvolutions, joins and SiLUs."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(self._block(before, after) for before, after in ((3, 16), (16, 32), (32, 64)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 2, 2) for before, after in ((64, 32), (64, 16), (32, 16))
        )
        self.last = nn.Conv2d(16, CLASSES, 1)

    @staticmethod
    def _block(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.SiLU())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Logits at the frame's size."""
        maps = [values]
        for block in self.down:
            maps.append(block(maps[-1]))
        found = self.up[0](maps[3])
        found = self.up[1](torch.cat([found, maps[2]], 1))
        return self.last(self.up[2](torch.cat([found, maps[1]], 1)))


class Logits(nn.Module):
    """The logits of a network that returns an object of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """At 1/4."""
        return self.network(values).logits


def lraspp() -> nn.Module:
    """torchvision's; a dictionary of one output."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)


def deeplab() -> nn.Module:
    """torchvision's, with its auxiliary output."""
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    return deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)


def segformer() -> nn.Module:
    """transformers', B0."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return Logits(SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES)))


def smp(kind: str, **settings: object) -> Callable[[], nn.Module]:
    """One of segmentation-models-pytorch."""

    def build() -> nn.Module:
        import segmentation_models_pytorch

        settings.setdefault("classes", CLASSES)
        return getattr(segmentation_models_pytorch, kind)("resnet18", encoder_weights=None, **settings)

    return build


# File -> the network, the exporter (dynamo or not), its opset, whether axes are free.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool, int, bool]] = {
    "tv-lraspp-mbv3-legacy17-free": (lraspp, False, 17, True),
    "tv-deeplabv3-mbv3-two-outputs-legacy17": (deeplab, False, 17, False),
    "hf-segformer-b0-legacy14-free": (segformer, False, 14, True),
    "smp-deeplabv3plus-r18-legacy16-free": (smp("DeepLabV3Plus"), False, 16, True),
    "smp-unet-r18-nearest-dynamo18": (smp("Unet"), True, 18, False),
    "smp-fpn-r18-binary-legacy17": (smp("FPN", classes=1), False, 17, False),
    "three-deconvolutions-silu-dynamo20": (Joined, True, 20, False),
}


def street() -> torch.Tensor:
    """The bundled frame as these networks take it, float32 (1, 3, HEIGHT, WIDTH)."""
    frame = np.asarray(Image.open(STREET).resize((WIDTH, HEIGHT)), np.float32) / 255
    return torch.from_numpy(((frame - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None].copy())


def settled(network: nn.Module) -> nn.Module:
    """The network, whose BatchNorms have seen the street frame and its mirror image."""
    frame = street()
    with torch.no_grad():
        for _ in range(TIMES):
            network.train()(torch.cat([frame, frame.flip(3)]))
    return network.eval()


def main() -> int:
    """Write each into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (build, dynamo, opset, free) in NETWORKS.items():
        torch.manual_seed(0)
        settings = {"input_names": ["image"], "dynamo": dynamo, "opset_version": opset}
        if free:
            settings["dynamic_axes"] = {"image": FREE}
        how = {"preprocess": "imagenet", "size": f"{HEIGHT}x{WIDTH}"}
        if "two-outputs" in name:
            settings["output_names"], how["output"] = ["out", "aux"], "out"
        torch.onnx.export(settled(build()), (street(),), str(folder / f"{name}.onnx"), **settings)
        (folder / f"{name}.json").write_text(json.dumps(how) + "\n")
        print(folder / f"{name}.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
