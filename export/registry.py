"""Names -> networks."""

from collections.abc import Mapping

from torch import Tensor, nn

from export.models.ddrnet import DDRNet23Slim, deployed_ddrnet
from export.models.deeplab import (
    deeplab_mmseg_r50,
    deeplab_mobilenetv2,
    deeplab_xception41,
    deeplab_xception41_os8,
    deeplab_xception65,
    deeplab_xception65_os8,
    deeplab_xception71,
    deeplab_xception71_os8,
    deployed_deeplab,
)
from export.models.enet import DeployedENet, ENet
from export.models.enet_davidtvs import ENetDavidtvs, deployed_enet_davidtvs
from export.models.fast_scnn import FastSCNN, deployed_fast_scnn, fast_scnn_mmseg
from export.models.icnet import FULL_WIDTH, ICNet, width_of
from export.models.icnet_branches import DeployedSub4, DeployedSub24, ICNetSub4, ICNetSub24
from export.models.icnet_caffe import ICNetCaffe
from export.models.icnet_deployed import DeployedICNet
from export.models.icnet_mmseg import DeployedICNetMmseg, icnet_mmseg_r18, icnet_mmseg_r50
from export.models.pidnet import PIDNetS, deployed_pidnet
from export.models.pspnet import DeployedPSPNet, PSPNet, pspnet50_caffe, pspnet50_mmseg
from export.models.pspnet_sum import (
    DeployedPSPNetSum,
    PSPNetSum,
    pspnet50_sum_half,
    pspnet50_sum_os16,
    pspnet50_sum_os32,
    pspnet50_sum_quarter,
)
from export.network import Network, Normalization
from export.own_code import own_source
from export.own_network import network_of
from runtime.cli import closest
from runtime.commands import option
from runtime.errors import ModelError

OWN_PAGE = f"{option('model', 'path/to/net.py:build')}, docs/adding-a-network.md"
_NETWORKS: dict[str, Network] = {}


def register(network: Network) -> None:
    """Make a network known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if network.name in _NETWORKS:
        raise ValueError(f"network {network.name!r} is already registered")
    _NETWORKS[network.name] = network


def find(name: str, said: Normalization | None = None) -> Network:
    """The network of that name, or a user's own (`export.own_code`): `path/to/net.py:build`, or an entry point.

    Args:
        name: of the network.
        said: how frames are normalised for a user's own (`export.own_normalization`); None: as its code says.

    Raises:
        ModelError: there is none; it names the closest, and the page that tells how to bring one. Or a user's own
            cannot be loaded. Or one of ours is asked to take frames normalised in another way than it does.
    """
    if name in _NETWORKS:
        if said not in (None, _NETWORKS[name].normalization):
            raise ModelError(f"{name} normalises frames in its own way; --preprocess is for a network of your own")
        return _NETWORKS[name]
    source = own_source(name)
    if source is None:
        raise ModelError(f"{closest(name, _NETWORKS, 'model')}. For one of your own: {OWN_PAGE}")
    return network_of(source, said)


def names() -> tuple[str, ...]:
    """Every registered name, in alphabetical order."""
    return tuple(sorted(_NETWORKS))


def build_like(network: Network, classes: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with random weights, of the width that the tensors have where it can have several."""
    return network.build(classes, width=network.width_of(tensors)) if network.width_of else network.build(classes)


def source_of(network: Network, module: nn.Module) -> str:
    """Where a network is from, and its width where it can have several."""
    return f"{network.source}, width {module.width} of {FULL_WIDTH}" if network.width_of else network.source


def nearest_size(network: Network, height: int, width: int) -> tuple[int, int]:
    """The height and width nearest to these that the network can take."""
    step, offset = network.size_multiple, network.size_offset
    near = [max(step, round((n - offset) / step) * step) + offset for n in (height, width)]
    return near[0], near[1]


def check_size(network: Network, height: int, width: int) -> None:
    """Refuse a size that the network cannot take, naming the nearest that it can.

    Raises:
        ModelError: height or width is not a positive multiple of the network's, plus its offset.
    """
    near = nearest_size(network, height, width)
    if near != (height, width):
        plus = f" plus {network.size_offset}" if network.size_offset else ""
        raise ModelError(
            f"{network.name} takes heights and widths that are multiples of {network.size_multiple}{plus}, "
            f"got {height}x{width}; the nearest is {near[0]}x{near[1]}: {option('size', near)}"
        )


register(Network("enet", ENet, DeployedENet, 8, 1, 2, "Paszke et al. 2016, arXiv:1606.02147"))
ICNET = "Zhao et al. 2018, arXiv:1704.08545"
register(Network("icnet", ICNet, DeployedICNet, 32, 4, 1, ICNET, width_of=width_of))
# Its branches by themselves, with the weights of the whole (`export.checkpoints.sources.PART_OF`).
register(Network("icnet-sub4", ICNetSub4, DeployedSub4, 32, 16, 1, ICNET, width_of=width_of))
register(Network("icnet-sub24", ICNetSub24, DeployedSub24, 32, 8, 1, ICNET, width_of=width_of))
CAFFE = Normalization(1.0, (103.939, 116.779, 123.68), channel_order="BGR")
# Published checkpoints of other definitions: export/checkpoints/layouts.py gives their tensors our names.
register(Network("enet-davidtvs", ENetDavidtvs, deployed_enet_davidtvs, 8, 1, 2, "davidtvs/PyTorch-ENet, MIT"))
register(
    Network(
        "icnet-caffe", ICNetCaffe, DeployedICNet, 32, 4, 1,
        f"{ICNET}, hszhao/ICNet, icnet_cityscapes.prototxt",
        CAFFE, 1, "align_corners", width_of=width_of,
    )
)  # fmt: skip
IMAGENET = Normalization(1.0, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
for _name, _build in (("icnet-mmseg-r18", icnet_mmseg_r18), ("icnet-mmseg-r50", icnet_mmseg_r50)):
    register(
        Network(
            _name, _build, DeployedICNetMmseg, 32, 8, 1, "open-mmlab/mmsegmentation, configs/icnet, Apache-2.0",
            IMAGENET,
        )
    )  # fmt: skip
DEEPLAB, TENSORFLOW = "Chen et al. 2018, arXiv:1802.02611", Normalization(2 / 255, (1.0, 1.0, 1.0))
for _name, _made in (
    ("deeplabv3plus-xception41", deeplab_xception41),
    ("deeplabv3plus-xception41-os8", deeplab_xception41_os8),
    ("deeplabv3plus-xception65", deeplab_xception65),
    ("deeplabv3plus-xception65-os8", deeplab_xception65_os8),
    ("deeplabv3plus-xception71", deeplab_xception71),
    ("deeplabv3plus-xception71-os8", deeplab_xception71_os8),
):
    register(
        Network(
            _name, _made, deployed_deeplab, 16, 4, 1, f"{DEEPLAB}, tensorflow/models, Apache-2.0", TENSORFLOW,
            1, "align_corners",
        )
    )  # fmt: skip
register(
    Network(
        "deeplabv3plus-mobilenetv2", deeplab_mobilenetv2, deployed_deeplab, 16, 4, 1,
        f"{DEEPLAB}, VainF/DeepLabV3Plus-Pytorch, MIT", IMAGENET,
    )
)  # fmt: skip
register(
    Network(
        "deeplabv3plus-mmseg-r50", deeplab_mmseg_r50, deployed_deeplab, 8, 4, 1,
        f"{DEEPLAB}, open-mmlab/mmsegmentation, configs/deeplabv3plus, Apache-2.0", IMAGENET,
    )
)  # fmt: skip
PSPNET = "Zhao et al. 2017, arXiv:1612.01105"
register(
    Network("pspnet50", PSPNet, DeployedPSPNet, 8, 8, 1, f"{PSPNET}, hszhao/semseg, MIT", IMAGENET, 1, "align_corners")
)
register(
    Network(
        "pspnet50-caffe", pspnet50_caffe, DeployedPSPNet, 8, 8, 1, f"{PSPNET}, hszhao/PSPNet",
        CAFFE, 1, "align_corners",
    )
)  # fmt: skip
register(
    Network(
        "pspnet50-mmseg", pspnet50_mmseg, DeployedPSPNet, 8, 8, 1,
        f"{PSPNET}, open-mmlab/mmsegmentation, configs/pspnet, Apache-2.0", IMAGENET,
    )
)  # fmt: skip
for _name, _sum, _stride in (
    ("pspnet50-sum", PSPNetSum, 8),
    ("pspnet50-sum-os16", pspnet50_sum_os16, 16),
    ("pspnet50-sum-os32", pspnet50_sum_os32, 32),
    ("pspnet50-sum-half", pspnet50_sum_half, 8),
    ("pspnet50-sum-quarter", pspnet50_sum_quarter, 8),
):
    register(Network(_name, _sum, DeployedPSPNetSum, _stride, _stride, 1, f"{ICNET}, section 4.2"))
register(
    Network(
        "ddrnet23-slim", DDRNet23Slim, deployed_ddrnet, 8, 8, 1,
        "Hong et al. 2021, arXiv:2101.06085, ydhongHIT/DDRNet, MIT", IMAGENET,
    )
)  # fmt: skip
register(
    Network(
        "pidnet-s", PIDNetS, deployed_pidnet, 8, 8, 1,
        "Xu et al. 2023, arXiv:2206.02066, XuJiacong/PIDNet, MIT", IMAGENET,
    )
)  # fmt: skip
register(Network("fast-scnn", FastSCNN, deployed_fast_scnn, 8, 8, 1, "Poudel et al. 2019, arXiv:1902.04502", IMAGENET))
register(
    Network(
        "fast-scnn-mmseg", fast_scnn_mmseg, deployed_fast_scnn, 8, 8, 1,
        "open-mmlab/mmsegmentation, configs/fastscnn, Apache-2.0", IMAGENET,
    )
)  # fmt: skip
