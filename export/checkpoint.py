"""What training leaves on disk: a checkpoint to go on from, the weights, the log."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from export.recipe import Recipe
from export.weights import read_weights
from runtime.errors import WeightsError


@dataclasses.dataclass(slots=True)
class State:
    """What a checkpoint holds: training goes on from it as if it had never stopped."""

    net: nn.Module
    ema: nn.Module  # the average of the network's weights, which is what is validated and shipped
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0
    spent_s: float = 0.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary path)`, then give the file its name, so that a kill leaves the old one whole."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    temporary.chmod(0o644)  # safetensors writes 0600, which would hide the file from everyone else
    temporary.replace(path)


def save_checkpoint(path: Path, state: State, recipe: Recipe) -> None:
    """Everything that `load_checkpoint` needs."""
    content = {
        "recipe": dataclasses.asdict(recipe),
        "net": state.net.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "counters": (state.epoch, state.step, state.spent_s),
        "rows": state.rows,
    }
    write_atomic(path, lambda part: torch.save(content, part))


def load_checkpoint(path: Path, state: State, recipe: Recipe) -> None:
    """Continue from a checkpoint; only the minutes may have changed, the rest of the schedule then fits itself to them.

    Raises:
        WeightsError: it is of another recipe.
    """
    content = torch.load(path, weights_only=True)
    asked = dataclasses.asdict(recipe)
    free = {"minutes"} if recipe.minutes and content["recipe"]["minutes"] else set()
    changed = sorted(key for key in asked.keys() - free if content["recipe"].get(key) != asked[key])
    if changed:
        raise WeightsError(f"{path} was begun with another {', '.join(changed)}; give the same, or another --out DIR")
    state.net.load_state_dict(content["net"])
    state.ema.load_state_dict(content["ema"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.epoch, state.step, state.spent_s = content["counters"]
    state.rows = content["rows"]


def load_start(net: nn.Module, path: Path) -> None:
    """Copy the tensors of a weights file that the network has too, by name and shape; its others keep their values.

    Raises:
        WeightsError: the file cannot be read, or has no tensor in common with the network.
    """
    given, own = read_weights(path).tensors, net.state_dict()
    common = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not common:
        raise WeightsError(f"weights {path} have no tensor in common with the network; it has {next(iter(own))} ...")
    net.load_state_dict(common, strict=False)


def save_weights(path: Path, net: nn.Module, metadata: dict[str, str]) -> None:
    """A network's parameters and statistics as safetensors: kernels in float16, half the file, the rest in float32."""
    tensors = {
        key: value.detach().to(torch.float16 if value.ndim > 1 else torch.float32).contiguous()
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    write_atomic(path, lambda part: save_file(tensors, part, metadata))


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """The whole log as CSV, so that a resumed training repeats no row."""

    def write(part: Path) -> None:
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    write_atomic(path, write)
