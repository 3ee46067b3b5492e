"""Networks as others publish them, run by the others' own code, in an environment that has it and none of ours.

`python tests/helpers/independent_networks.py DIR` leaves a checkpoint of each and what it computes.
Packages: REQUIRED; torchvision's compiled operators are not among them, which none of these networks uses.
"""

import importlib.machinery
import importlib.util
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch

# mmseg's configuration files, and sizes that no stride divides evenly where the network takes them
MMSEG = {
    "ddrnet": ("ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py", (72, 120)),
    "pidnet": ("pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py", (72, 120)),
    "fast_scnn": ("fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py", (72, 120)),
    "pspnet": ("pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py", (72, 120)),
    "deeplab": ("deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py", (72, 120)),
    "icnet18": ("icnet/icnet_r18-d8-in1k-pre_4xb2-160k_cityscapes-832x832.py", (64, 128)),
    "icnet50": ("icnet/icnet_r50-d8-in1k-pre_4xb2-160k_cityscapes-832x832.py", (64, 128)),
}


# Depth of timm's aligned Xception, output stride, and the module of the entry flow that DeepLabV3+ reads. Not 71 at 8:
# timm adds the map itself where the authors convolve it, as soon as a stride of the entry flow has become 1.
XCEPTIONS = ((41, 16, 1), (41, 8, 1), (65, 16, 1), (65, 8, 1), (71, 16, 2))


class Missing(types.ModuleType):
    """A module of whatever classes are asked of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__, self.__path__, self.__file__ = importlib.machinery.ModuleSpec(name, None), [], __file__

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def without_operators() -> None:
    """Let mmseg and torchvision be imported without their compiled operators."""
    sys.modules["mmcv.ops"] = Missing("mmcv.ops")
    found = Path(importlib.util.find_spec("torchvision").submodule_search_locations[0])
    texts = "".join((found / name).read_text() for name in ("_meta_registrations.py", "extension.py"))
    names = re.findall(r"torchvision::(\w+)", texts) + re.findall(r'register_meta\("(\w+)"', texts)
    library = torch.library.Library("torchvision", "DEF")
    for name in {*names, "nms"}:
        library.define(f"{name}(Tensor x) -> Tensor")
    globals()["_library"] = library  # what it defines is gone with it


def filled(network: torch.nn.Module) -> torch.nn.Module:
    """Every tensor away from 0 and 1, by its name."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            if tensor.dim() == 4:
                values = rng.normal(0, np.sqrt(2 / np.prod(tensor.shape[1:])), tensor.shape)
            elif name.endswith("running_var"):
                values = rng.uniform(0.5, 1.5, tensor.shape)
            elif name.endswith("weight"):
                values = rng.uniform(0.2, 0.8, tensor.shape)
            elif tensor.is_floating_point():
                values = rng.normal(0, 0.2, tensor.shape)
            else:
                continue
            tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return network.eval()


def picture(height: int, width: int) -> torch.Tensor:
    """float32 (1, 3, height, width)."""
    return torch.from_numpy(np.random.default_rng(5).normal(size=(1, 3, height, width)).astype(np.float32))


def save(folder: Path, name: str, network: torch.nn.Module, frame: torch.Tensor, **outputs: torch.Tensor) -> None:
    """The checkpoint as a training program leaves it, the frame and what the network makes of it."""
    torch.save({"state_dict": network.state_dict(), "meta": {}}, folder / f"{name}.pth")
    np.savez(folder / f"{name}.npz", frame=frame.numpy(), **{key: value.numpy() for key, value in outputs.items()})


def mmseg_networks(folder: Path) -> None:
    """mmsegmentation's, built from the configuration files of its model zoo."""
    import mmseg
    import mmseg.models
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    configs = Path(mmseg.__file__).parent / ".mim/configs"
    for name, (path, size) in MMSEG.items():
        model = Config.fromfile(configs / path).model
        model.backbone.pop("init_cfg", None)  # the weights that training begins with, downloaded
        network = filled(revert_sync_batchnorm(MODELS.build(model)))
        frame = picture(*size)
        with torch.inference_mode():
            logits = network.decode_head(network.extract_feat(frame))
        save(folder, name, network, frame, logits=logits)


def xceptions(folder: Path) -> None:
    """timm's aligned Xceptions: the last map, and what DeepLabV3+ reads at 1/4."""
    import timm

    for depth, stride, tap in XCEPTIONS:
        form = {"num_classes": 0, "global_pool": "", "output_stride": stride}
        network = filled(timm.create_model(f"xception{depth}", pretrained=False, **form))
        frame, taps = picture(73, 121), []
        network.blocks[tap].stack.conv2.register_forward_hook(lambda *args, to=taps: to.append(args[-1].clone()))
        with torch.inference_mode():
            last = network(frame)
        save(folder, f"xception{depth}-os{stride}", network, frame, last=last, low=taps[0])


def mobilenet(folder: Path) -> None:
    """torchvision's MobileNetV2 at output stride 16: the last map, and what DeepLabV3+ reads at 1/4.

    VainF's has its zeros before a block's first convolution, torchvision's after it: equal where that keeps zeros zero.
    """
    from torchvision.models import mobilenet_v2

    network = filled(mobilenet_v2(weights=None).features[:-1])
    network[14].conv[1][0].stride = (1, 1)
    for block in network[15:]:
        block.conv[1][0].dilation = block.conv[1][0].padding = (2, 2)
    for block in network[2:]:
        norm = block.conv[0][1]
        norm.bias.data = norm.running_mean * norm.weight.data / (norm.running_var + norm.eps).sqrt()
    frame = picture(73, 121)
    with torch.inference_mode():
        save(folder, "mobilenet", network, frame, last=network(frame), low=network[:4](frame))


def pyramid(folder: Path) -> None:
    """torchvision's ASPP, which VainF's DeepLabV3+ has."""
    from torchvision.models.segmentation.deeplabv3 import ASPP

    network, frame = filled(ASPP(320, [6, 12, 18])), picture(320, 135).reshape(1, 320, 9, 45)
    with torch.inference_mode():
        save(folder, "aspp", network, frame, out=network(frame))


def pspnet(folder: Path) -> None:
    """pytorchcv's PSPNet on a ResNet-50 of a deep stem: semseg's network by other names, in the same order."""
    from pytorchcv.models.pspnet import pspnet_resnetd50b_cityscapes

    network = filled(pspnet_resnetd50b_cityscapes(pretrained_backbone=False, fixed_size=False, num_classes=19))
    frame = picture(65, 129)
    with torch.inference_mode():
        save(folder, "pspnet_cv", network, frame, upsampled=network(frame)[0])


if __name__ == "__main__":
    without_operators()
    torch.set_num_threads(1)
    for write in (mmseg_networks, xceptions, mobilenet, pyramid, pspnet):
        write(Path(sys.argv[1]))
