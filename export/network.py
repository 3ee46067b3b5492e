"""What a network is to the pipeline: how it is built, deployed, and what it was trained on."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from runtime.spec import Upsample


class Normalization(NamedTuple):
    """What a network was trained on: `(value * scale - mean) / std`, channels in `channel_order`."""

    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: Literal["RGB", "BGR"] = "RGB"


class Network(NamedTuple):
    """A network that can be asked for by name.

    `build(classes)` makes it with random weights. Where `width_of` tells a width from tensors it can be pruned, and
    `build(classes, width=...)` makes one of that width. `deploy(network, gain)` gives the equal, cheaper form that is
    exported, which takes its input before it is multiplied with the gain and returns logits in blocks
    (`ModelSpec.block`); without one the network itself is exported, and frames are normalised before it.
    """

    name: str
    build: Callable[..., nn.Module]
    deploy: Callable[[Any, Tensor], nn.Module] | None
    size_multiple: int  # height and width must be multiples of it, plus `size_offset`
    output_stride: int  # of the logits, before they are upsampled to the frame
    block: int  # of the deployed form
    source: str
    normalization: Normalization = Normalization()
    size_offset: int = 0  # 1 where corners are aligned, so that sizes halve to whole cells
    upsample: Upsample = "half_pixel"  # how its logits become as large as the frame
    width_of: Callable[[Mapping[str, Tensor]], int] | None = None
    own: bool = False  # a user's, from outside of this project
