"""Checkpoints: read without running their code, hold to the network, refuse what does not fit."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from export.checkpoints.arrays import Budget, array_from
from export.checkpoints.caffemodel import read_caffemodel
from export.checkpoints.layouts import recognised, released
from export.checkpoints.npy import read_npy, read_npz
from export.checkpoints.pickles import ForeignError, Made, mapping_of
from export.checkpoints.sources import SHIPPED, check_file
from export.checkpoints.torch_file import USUAL, NotDenseError, TorchFile, read_torch
from runtime.artifacts import sha256_of
from runtime.cli import log
from runtime.commands import option
from runtime.errors import WeightsError
from runtime.json_values import values_from_json
from runtime.labels import CAMVID, CITYSCAPES, Label

RANDOM_SEED = 0
DATASETS = {"camvid": CAMVID, "cityscapes": CITYSCAPES}
CHECKSUM = "sha256"  # of the tensors and metadata, in the metadata of safetensors
LISTED = 5  # tensors named in an error before it counts the rest
# The layer whose outputs are the classes, and along which axis.
CLASSIFIERS = {"conv6_cls.bias": 0, "fullconv.bias": 0, "fullconv.weight": 1, "head.classifier.bias": 0}


class Weights(NamedTuple):
    """Tensors by the network's own names, the classes they were trained on, and where they are from."""

    tensors: dict[str, torch.Tensor]
    classes: tuple[Label, ...]
    sha256: str
    source: str
    network: str = ""  # the one whose published layout they came in; empty where they have our own names


def read_weights(path: Path, build: Callable[[int], nn.Module] | None = None) -> Weights:
    """A checkpoint: safetensors, what torch.save wrote of tensors alone (a bare or nested `state_dict`), or ICNet's.

    ICNet was published as .npy and .caffemodel. A published layout is recognised by its keys and given our names.

    Args:
        path: of the checkpoint.
        build: makes the network that it is for, of a number of classes: its last layer tells how many the checkpoint
            has, where neither its metadata nor a layout that is known do.

    Raises:
        WeightsError: missing, unreadable, or a pickle that wants to run code.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        _refuse_damaged(path, tensors, metadata)
    else:
        tensors, metadata = _READERS.get(path.suffix, _read_torch)(path), {}
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}  # DataParallel's names
    layout = recognised(tensors)
    tensors = layout.remap(tensors) if layout else tensors
    source = metadata.get("source", path.name)
    network = layout.network if layout else ""
    return Weights(tensors, _classes(tensors, metadata, path, build), sha256_of(path), source, network)


def load(network: nn.Module, weights: Weights) -> None:
    """Copy the tensors into the network; every one of both sides must fit.

    Raises:
        WeightsError: tensors are missing, extra or of another shape; it lists them.
    """
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in weights.tensors.items() if not k.endswith("num_batches_tracked")}
    problems = [
        _list("missing", sorted(expected.keys() - given.keys())),
        _list("unknown", sorted(given.keys() - expected.keys())),
        _list(
            "of another shape",
            [
                f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
                for name in sorted(expected.keys() & given.keys())
                if given[name].shape != expected[name].shape
            ],
        ),
    ]
    if any(problems):
        hint = f". Their layout is that of {option('model', weights.network)}" if weights.network else ""
        raise WeightsError(f"weights {weights.source} do not fit: {'; '.join(filter(None, problems))}{hint}")
    network.load_state_dict(given, strict=False)


def random_weights(network: nn.Module, classes: tuple[Label, ...]) -> Weights:
    """The network's own initial weights, named as what they are: its masks mean nothing."""
    return Weights(network.state_dict(), classes, f"random-seed-{RANDOM_SEED}", "random weights")


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)} {what} ({', '.join(names[:LISTED])}{more})"


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path} are not readable as safetensors: {error}") from None


def tensors_sha256(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """One sha256 over the names, types, shapes and bytes of tensors, and over what their file says of itself."""
    digest = hashlib.sha256(json.dumps({k: v for k, v in metadata.items() if k != CHECKSUM}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_damaged(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    # What a training wrote holds its checksum, of what is shipped the card beside it does, of others' files nothing.
    card = path.with_suffix(".md")
    shipped = path.resolve().parent == SHIPPED.resolve() and card.is_file()
    changed = CHECKSUM in metadata and metadata[CHECKSUM] != tensors_sha256(tensors, metadata)
    if changed or (shipped and sha256_of(path) not in card.read_text()):
        raise WeightsError(f"weights {path} are damaged: their checksum is another than was written")


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    try:
        with path.open("rb") as file:
            return _state_dict(path, read_torch(file))
    except ForeignError as error:
        raise _refused_foreign(path, error) from None
    except NotDenseError as error:
        raise WeightsError(
            f"weights {path} hold sparse, complex or quantized tensors ({error}); dense real ones are read"
        ) from None
    except ValueError as error:
        raise WeightsError(f"weights {path} are damaged, or not a checkpoint that torch.save wrote: {error}") from None


def _state_dict(path: Path, file: TorchFile) -> dict[str, torch.Tensor]:
    content = mapping_of(file.content)
    if content is not None and mapping_of(content.get("state_dict")) is not None:
        content = mapping_of(content["state_dict"])
    if content is None and not file.is_tensor(file.content) and isinstance(file.content, Made):
        raise ForeignError(file.content.by)
    if not content or not all(map(_is_record, content.values())):
        raise WeightsError(f"weights {path} are not a state_dict of tensors by name")
    budget = Budget(path.stat().st_size)
    tensors = {
        str(name): file.tensor(value) if file.is_tensor(value) else torch.from_numpy(array_from(value, budget))
        for name, value in content.items()
    }
    passed_over = [str(name) for name in file.names if name not in USUAL]
    if passed_over:
        log(f"{path.name}: {_list('objects', passed_over)} beside the tensors are passed over; nothing of them is run")
    return tensors


def _is_record(value: object) -> bool:
    return isinstance(value, Made) and mapping_of(value) is None


def _read_numpy(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_npz(path) if path.suffix == ".npz" else read_npy(path)
    except ForeignError as error:
        raise _refused_foreign(path, error) from None
    except ValueError as error:
        raise WeightsError(f"weights {path} are damaged, or not a checkpoint of arrays by layer: {error}") from None


def _read_caffemodel(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors, others = released(read_caffemodel(path))
    except (ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"weights {path} are damaged, or not a .caffemodel: {error}") from None
    if not tensors:
        raise WeightsError(f"weights {path} are not of ICNet: {_list('other layers', others)}")
    if others:
        log(f"{path.name}: {_list('layers', others)} are of its training alone and left out")
    return tensors


_READERS = {".npy": _read_numpy, ".npz": _read_numpy, ".caffemodel": _read_caffemodel}


def _refused_foreign(path: Path, error: ForeignError) -> WeightsError:
    return WeightsError(
        f"weights {path} hold more than tensors ({error.name}) and are not loaded, since unpickling them runs their "
        "code. Save them again where you trust them: safetensors.torch.save_file(network.state_dict(), path)"
    )


def _classes(
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str],
    path: Path,
    build: Callable[[int], nn.Module] | None,
) -> tuple[Label, ...]:
    if "classes" in metadata:
        try:
            return tuple(_label(name, *color) for name, color in values_from_json(metadata["classes"]))
        except (ValueError, TypeError) as error:
            raise WeightsError(f"weights {path} name their classes in a form that is not read: {error}") from None
    if metadata.get("dataset") in DATASETS:
        return DATASETS[metadata["dataset"]]
    counts = {len(classes): classes for classes in DATASETS.values()}
    heads = ((tensors[name].shape, axis) for name, axis in CLASSIFIERS.items() if name in tensors)
    found = [shape[axis] for shape, axis in heads if len(shape) > axis]
    count = found[0] if found else _count_of(tensors, build)
    if count is None:
        log(f"{path} does not tell its classes: they are taken for Cityscapes' {len(CITYSCAPES)}")
        return CITYSCAPES
    if count not in counts:
        raise WeightsError(f"weights {path} have {count} classes and do not name them; known are {sorted(counts)}")
    return counts[count]


def _count_of(tensors: dict[str, torch.Tensor], build: Callable[[int], nn.Module] | None) -> int | None:
    # What is longer in a network of three classes than in one of two is as long as the classes are many.
    if build is None:
        return None
    with torch.device("meta"):
        two, three = build(2).state_dict(), build(3).state_dict()
    for name, tensor in two.items():
        if name in tensors and tensors[name].ndim == tensor.ndim:
            for axis, (of_two, of_three) in enumerate(zip(tensor.shape, three[name].shape, strict=True)):
                if of_three != of_two:
                    return tensors[name].shape[axis] // (of_three - of_two)
    return None


def _label(name: object, *color: object) -> Label:
    red, green, blue = (int(value) for value in color if isinstance(value, int) and 0 <= value <= 255)
    if not isinstance(name, str):
        raise ValueError(f"a class is named {name!r}")
    return Label(name, (red, green, blue))
