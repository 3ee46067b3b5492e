"""What every stage of a network gives for seeded weights and a seeded frame.

`python -m tests.helpers.golden` writes tests/golden/<network>.json again for every registered network: run it where a
network is changed on purpose, and say why in the commit.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from export import registry
from tests.helpers.networks import seeded, size_of

GOLDEN = Path(__file__).parents[1] / "golden"
CLASSES = 19
VALUES = 8  # of every stage, evenly spaced from its first to its last
DIGITS = 8


def summary(x: torch.Tensor) -> dict[str, list[float]]:
    """Shape, statistics and a few values of a tensor."""
    flat = x.flatten()
    picked = flat[np.linspace(0, len(flat) - 1, VALUES).astype(int)]
    statistics = torch.stack([x.mean(), x.std(), x.min(), x.max()])
    return {
        "shape": list(x.shape),
        "mean_std_min_max": [float(f"{value:.{DIGITS}g}") for value in statistics],
        "values": [float(f"{value:.{DIGITS}g}") for value in picked],
    }


def stages(name: str) -> dict[str, dict[str, list[float]]]:
    """The summary of what each of a network's modules gives, in the order in which they run, then of its logits.

    In float64, where the order of sums does not show and no two maxima are equal but for rounding.
    """
    entry = registry.find(name)
    network = seeded(entry.build(CLASSES)).double()
    found: dict[str, dict[str, list[float]]] = {}

    def keep(stage: str):
        def hook(_: nn.Module, __: tuple, output: torch.Tensor | tuple) -> None:
            found[stage] = summary(output if isinstance(output, torch.Tensor) else output[0])

        return hook

    for stage, module in network.named_children():
        module.register_forward_hook(keep(stage))
    frame = np.random.default_rng(0).normal(size=(1, 3, *size_of(entry)))
    with torch.inference_mode():
        logits = network(torch.from_numpy(frame))
    return {**found, "logits": summary(logits)}


def path_of(name: str) -> Path:
    """Where the golden summary of a network is kept."""
    return GOLDEN / f"{name}.json"


def main() -> None:
    """Write all of them."""
    for name in registry.names():
        lines = [f"{json.dumps(stage)}: {json.dumps(values)}" for stage, values in stages(name).items()]
        path_of(name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
