"""What training leaves on disk: a checkpoint to go on from, the weights, the log."""

import csv
import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from export.checkpoints.torch_file import read_torch
from export.checkpoints.weights import CHECKSUM, read_weights, tensors_sha256
from export.training.recipe import Recipe
from runtime.artifacts import write_atomically
from runtime.cli import log
from runtime.errors import OutputError, WeightsError
from runtime.json_values import values_from_json

ANOTHER = "another --out DIR (make: OUT=DIR)"
# A checkpoint ends with its own checksum: the comment of the ZIP archive that torch.save writes, which any reader of
# ZIP passes over. The last two bytes of an archive without one are the comment's length, zero.
SEAL = b"street-segmentation sha256 "
SEAL_BYTES = len(SEAL) + 64
NO_COMMENT, SEALED = b"\0\0", SEAL_BYTES.to_bytes(2, "little")
BEFORE = "-before"  # of the checkpoint that the newest one took the place of
# What a whole file of another kind or make meets in what takes it over.
UNFIT = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)


class Pruned(NamedTuple):
    """One pruning of a network, as the metadata of its weights keeps it."""

    width: int  # before
    left: int  # after
    weights_sha256: str  # of the weights that were pruned


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


def save_checkpoint(path: Path, state: State, recipe: Recipe) -> None:
    """Everything that `load_checkpoint` needs; the checkpoint that was there is kept beside it, see `before`."""
    content = {
        "recipe": dataclasses.asdict(recipe),
        "net": state.net.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "counters": (state.epoch, state.step, state.spent_s),
        "rows": state.rows,
    }
    # Made in memory: torch's own writing reports a full disk as an error of its stream, without its cause.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = sealed(buffer.getvalue())
    if path.is_file():
        write_atomically(before(path), path.read_bytes())
    write_atomically(path, data)


def before(path: Path) -> Path:
    """Where the checkpoint stands that the one at `path` took the place of."""
    return path.with_name(f"{path.stem}{BEFORE}{path.suffix}")


def sealed(data: bytes) -> bytes:
    """The bytes of torch.save with their checksum at the end."""
    body = data[: -len(NO_COMMENT)]
    return body + SEALED + SEAL + hashlib.sha256(body).hexdigest().encode()


def is_whole(data: bytes) -> bool:
    """Whether a checkpoint is to the last bit what was written; one from before checksums is taken for it."""
    body, end = data[: -SEAL_BYTES - len(SEALED)], data[-SEAL_BYTES - len(SEALED) :]
    if end.startswith(SEALED + SEAL):
        return end[-64:] == hashlib.sha256(body).hexdigest().encode()
    return data.endswith(NO_COMMENT)


def load_checkpoint(path: Path, state: State, recipe: Recipe) -> None:
    """Continue from a checkpoint, of whichever device, on the state's own.

    Only the minutes may have changed; the rest of the schedule then fits itself to them. An older checkpoint lacks what
    recipes have since gained: it was begun with the defaults of that. Where the file is damaged the one before it is
    taken, and said.

    Raises:
        WeightsError: it is damaged or another file, and so is the one before it or there is none; or it is of another
            recipe, network or number of classes. The state is then not to be used.
        OSError: it cannot be read.
    """
    try:
        content = _content(path)
    except ValueError:
        earlier = before(path)
        if not earlier.is_file():
            raise _damaged(path) from None
        try:
            content = _content(earlier)
        except ValueError:
            raise _damaged(path) from None
        log(f"warning: {path} is damaged; the one before it is taken, {earlier.name}: an epoch is trained again")
    try:
        _take_over(path, content, state, recipe)
    except UNFIT:
        raise _damaged(path) from None


def _content(path: Path) -> dict[str, Any]:
    # ValueError: it is damaged, or another kind of file.
    data = path.read_bytes()
    if not is_whole(data):
        raise ValueError("another checksum than was written")
    file = read_torch(io.BytesIO(data))
    content = file.plain(file.content)
    if not isinstance(content, dict):
        raise ValueError("no dictionary")
    return content


def _take_over(path: Path, content: dict[str, Any], state: State, recipe: Recipe) -> None:
    begun = {**recipe_defaults(), "dataset": recipe.dataset, **content["recipe"]}
    refuse_changed(path, dataclasses.asdict(recipe), begun)
    refuse_other_network(path, state.net, content["net"])
    state.net.load_state_dict(content["net"])
    state.ema.load_state_dict(content["ema"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.epoch, state.step, state.spent_s = content["counters"]
    state.rows = content["rows"]


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is damaged, or no checkpoint of a training; delete it to begin anew, or give {ANOTHER}"
    )


def refuse_changed(path: Path, asked: dict[str, Any], begun: dict[str, Any]) -> None:
    """Raises WeightsError: the checkpoint was begun with another recipe than is asked."""
    free = {"minutes"} if asked["minutes"] and begun["minutes"] else set()
    changed = sorted(key for key in asked.keys() - free if begun.get(key) != asked[key])
    if changed:
        raise WeightsError(f"{path} was begun with another {', '.join(changed)}; give the same, or {ANOTHER}")


def refuse_other_network(path: Path, net: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Raises WeightsError: the checkpoint's tensors have other names or shapes than the network's."""
    own, given = ({key: tensor.shape for key, tensor in one.items()} for one in (net.state_dict(), tensors))
    if own != given:
        raise WeightsError(f"{path} is of another network or number of classes; give {ANOTHER}")


def recipe_defaults() -> dict[str, Any]:
    """The fields of a recipe that need not be given, with their values."""
    return {
        field.name: field.default for field in dataclasses.fields(Recipe) if field.default is not dataclasses.MISSING
    }


def load_start(net: nn.Module, path: Path, build: Callable[[int], nn.Module] | None = None) -> None:
    """Copy the tensors of a weights file that the network has too, by name and shape; its others keep their values.

    Args:
        net: takes them.
        path: of the file, as `read_weights` reads it.
        build: makes such a network, of a number of classes.

    Raises:
        WeightsError: the file cannot be read, or has no tensor in common with the network.
    """
    given, own = read_weights(path, build, named=False).tensors, net.state_dict()
    common = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not common:
        raise WeightsError(f"weights {path} have no tensor in common with the network; it has {next(iter(own))} ...")
    net.load_state_dict(common, strict=False)


def metadata_of(path: Path) -> dict[str, str]:
    """What a weights file says of itself; nothing where it is not safetensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def pruning_of(metadata: dict[str, str]) -> list[Pruned]:
    """Every pruning that led to some weights, the first one first.

    Raises:
        WeightsError: the metadata have it in another form.
    """
    try:
        history = values_from_json(metadata.get("pruned", "[]"))
        return [Pruned(int(width), int(left), str(sha)) for width, left, sha in history]
    except (ValueError, TypeError) as error:
        raise WeightsError(f"the weights tell what they were pruned from in a form that is not read: {error}") from None


def pruned_text(history: list[Pruned]) -> str:
    """What is added to the source of weights that were pruned; nothing for others."""
    widths = [str(history[0].width), *(str(pruning.left) for pruning in history)] if history else []
    return f", pruned from width {' to '.join(widths)}" if widths else ""


def check_out(out: Path, source: Path) -> None:
    """Refuse an output that would overwrite the weights it is made from, or would be read as another kind of file.

    Raises:
        OutputError: it is one of these.
    """
    if out.suffix != ".safetensors":
        raise OutputError(f"{out} would be written as safetensors: give --out a name that ends in .safetensors")
    if out.resolve() == source.resolve():
        raise OutputError(f"--out {out} is the file that is read; give another name")


def stored(net: nn.Module) -> dict[str, torch.Tensor]:
    """A network's parameters and statistics as kept: kernels in float16, half the file, the rest in float32."""
    return {
        key: value.detach().to(torch.float16 if value.ndim > 1 else torch.float32).contiguous()
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def save_weights(path: Path, net: nn.Module, metadata: dict[str, str]) -> None:
    """What is `stored` of a network as safetensors, with its checksum in the metadata."""
    tensors = stored(net)
    write_atomically(path, save(tensors, {**metadata, CHECKSUM: tensors_sha256(tensors, metadata)}))


def holds(path: Path, net: nn.Module) -> bool:
    """Whether that file is there with just the tensors that `save_weights` would write of the network."""
    try:
        tensors, expected = load_file(path), stored(net)
    except (SafetensorError, OSError):
        return False
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[key], expected[key]) for key in expected)


def write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    """The whole log as CSV, so that a resumed training repeats no row."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
