"""Names -> networks."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from export.models.enet import DeployedENet, ENet
from export.models.icnet import ICNet
from export.models.icnet_deployed import DeployedICNet
from runtime.cli import closest
from runtime.errors import ModelError


class Normalization(NamedTuple):
    """What a network was trained on: `(value * scale - mean) / std`, channels in `channel_order`."""

    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["RGB", "BGR"] = "RGB"


class Network(NamedTuple):
    """A network that can be asked for by name.

    `build(classes)` makes it with random weights; `deploy(network, gain)` gives the equal, cheaper form that is
    exported, which takes its input before it is multiplied with the gain and returns logits in blocks
    (`ModelSpec.block`).
    """

    name: str
    build: Callable[[int], nn.Module]
    deploy: Callable[[Any, Tensor], nn.Module]
    size_multiple: int  # height and width must be multiples of it
    output_stride: int  # of the logits, before they are upsampled to the frame
    block: int  # of the deployed form
    source: str
    normalization: Normalization = Normalization()


_NETWORKS: dict[str, Network] = {}


def register(network: Network) -> None:
    """Make a network known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if network.name in _NETWORKS:
        raise ValueError(f"network {network.name!r} is already registered")
    _NETWORKS[network.name] = network


def find(name: str) -> Network:
    """The network of that name.

    Raises:
        ModelError: there is none; it names the closest.
    """
    if name not in _NETWORKS:
        raise closest(name, _NETWORKS, "model")
    return _NETWORKS[name]


def names() -> tuple[str, ...]:
    """Every registered name, in alphabetical order."""
    return tuple(sorted(_NETWORKS))


def check_size(network: Network, height: int, width: int) -> None:
    """Refuse a size that the network cannot take, naming the nearest that it can.

    Raises:
        ModelError: height or width is not a positive multiple of the network's.
    """
    step = network.size_multiple
    near = [max(step, round(n / step) * step) for n in (height, width)]
    if near != [height, width]:
        raise ModelError(
            f"{network.name} takes heights and widths that are multiples of {step}, got {height}x{width}; "
            f"the nearest is {near[0]}x{near[1]}: SIZE={near[0]}x{near[1]}"
        )


register(Network("enet", ENet, DeployedENet, 8, 1, 2, "Paszke et al. 2016, arXiv:1606.02147"))
register(Network("icnet", ICNet, DeployedICNet, 32, 4, 1, "Zhao et al. 2018, arXiv:1704.08545, half width as released"))
