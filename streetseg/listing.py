"""What there is: `engines` on disk, and `models` that engines are made of."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.lookup import Found, found_engines
from runtime.manifest import ENGINES
from streetseg.stages import SIZE, naming_extras

if TYPE_CHECKING:
    from torch import nn

LICENCE = re.compile(r"^Licence: (.*)$", re.MULTILINE)  # in a model card


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine on disk. Where its manifest cannot be read, `fault` says why and the fields from it are None."""

    path: Path
    model: str | None
    size: tuple[int, int] | None  # height, width of the network's input
    precision: str | None
    executed: dict[str, int] | None  # weighted layers by the type that they run in
    backend: str | None
    fits: bool  # whether this machine opens it
    fault: str  # why not
    age_s: float | None  # since it was built, or asked to be built, last

    @property
    def name(self) -> str:
        """Its file's name without the suffix."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class Model:
    """A network that can be exported, at one size."""

    name: str
    parameters: int
    size: tuple[int, int]  # height, width of its input
    gmac: float  # multiplications with addition of convolutions and matrix products a frame, in 1e9
    weights: Path | None  # shipped with the project
    licence: str  # of those weights
    source: str


def engines(folder: str | Path = ENGINES) -> list[Engine]:
    """The engines in a folder, the newest first; those that this machine does not open are among them.

    Args:
        folder: where `build` keeps them.
    """
    now_ns = time.time_ns()
    return [_engine(found, now_ns) for found in found_engines(Path(folder))]


@naming_extras
def models(size: tuple[int, int] = SIZE, names: Sequence[str] = ()) -> list[Model]:
    """The registered networks, in alphabetical order.

    Args:
        size: (height, width) that GMAC is counted at; a network that cannot take it is counted at its nearest.
        names: only these; none: all.

    Raises:
        ModelError: one of the names is unknown; it tells the closest.
        LibraryError: torch is not installed; it names the extra.
    """
    from export import registry

    return [_model(registry.find(name), size) for name in names or registry.names()]


def _engine(found: Found, now_ns: int) -> Engine:
    manifest = found.manifest
    if manifest is None:
        return Engine(found.path, None, None, None, None, None, fits=False, fault=found.fault, age_s=None)
    at = manifest.spec.preprocess
    return Engine(
        found.path, manifest.spec.name, (at.height, at.width), manifest.precision, manifest.executed, manifest.backend,
        fits=not found.fault, fault=found.fault, age_s=max(0, now_ns - found.asked_ns) / 1e9,
    )  # fmt: skip


def _model(network, size: tuple[int, int]) -> Model:  # type: ignore[no-untyped-def]  # its type is behind torch
    import torch

    from export import registry
    from export.checkpoints.sources import default_weights
    from runtime.labels import CAMVID

    near = registry.nearest_size(network, *size)
    with torch.device("meta"):  # shapes alone: nothing is computed
        module: nn.Module = network.build(len(CAMVID)).eval()
        gmac = gmac_of(module, near)
    weights = default_weights(network.name)
    parameters = sum(tensor.numel() for tensor in module.parameters())
    return Model(network.name, parameters, near, gmac, weights, _licence(weights), network.source)


def gmac_of(module: "nn.Module", size: tuple[int, int]) -> float:
    """Multiplications with addition of a frame of that size, (height, width), in 1e9, on the module's own device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, *size))
    return float(counter.get_total_flops()) / 2e9  # it counts a multiplication and its addition as two


def _licence(weights: Path | None) -> str:
    card = weights.with_suffix(".md") if weights else None
    found = LICENCE.search(card.read_text()) if card and card.is_file() else None
    return found[1] if found else ""
