"""Checkpoints: read without running their code, hold to the network, refuse what does not fit."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from export.checkpoints.arrays import Budget, array_from, is_array
from export.checkpoints.caffemodel import read_caffemodel
from export.checkpoints.contents import (
    AVERAGED,
    DEEPEST,
    OF_TRAINING,
    Candidate,
    best_prefix,
    candidates,
    prefixes,
    unwrapped,
    without_wrapped,
)
from export.checkpoints.foreign import foreign_kind, is_safetensors, is_torch
from export.checkpoints.frozen_graph import read_frozen_graph
from export.checkpoints.layouts import Tensors, last_outputs, recognised, released
from export.checkpoints.named import classes_of, noted_classes
from export.checkpoints.npy import read_npy, read_npz
from export.checkpoints.pickles import ForeignError, Made, mapping_of
from export.checkpoints.published import Place, place_of, refuse_sibling
from export.checkpoints.sources import SHIPPED, check_file
from export.checkpoints.torch_file import USUAL, NotDenseError, TorchFile, read_torch
from runtime.artifacts import sha256_of
from runtime.cli import log
from runtime.commands import option
from runtime.errors import WeightsError
from runtime.labels import Label

RANDOM_SEED = 0
CHECKSUM = "sha256"  # of the tensors and metadata, in the metadata of safetensors
LISTED = 5  # tensors named in an error before it counts the rest
# The layer whose outputs are the classes, and along which axis.
CLASSIFIERS = {
    "conv6_cls.bias": 0,
    "fullconv.bias": 0,
    "fullconv.weight": 1,
    "head.classifier.bias": 0,
    "classifier.bias": 0,
}


class Found(NamedTuple):
    """A network's tensors in a file, where they stand in it, and what it says of itself."""

    where: str
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]
    classes: tuple[Label, ...] = ()


class Weights(NamedTuple):
    """Tensors by the network's own names, the classes they were trained on, and where they are from."""

    tensors: dict[str, torch.Tensor]
    classes: tuple[Label, ...]
    sha256: str
    source: str
    network: str = ""  # the one whose published layout they came in; empty where they have our own names


def read_weights(
    path: Path,
    build: Callable[[int], nn.Module] | None = None,
    *,
    averaged: bool = False,
    classes: tuple[Label, ...] = (),
    named: bool = True,
) -> Weights:
    """A checkpoint: safetensors, what torch.save wrote of a training, or ICNet's. What it is tells its content.

    Of several networks in it the one that fits is taken, and named; what wraps a network's names is taken off; objects
    of other programs beside the tensors are passed over. A published layout is recognised by its keys and given our
    names. ICNet was published as .npy and .caffemodel.

    Args:
        path: of the checkpoint.
        build: makes the network that it is for, of a number of classes: its names tell which tensors are the
            network's, its last layer how many classes the checkpoint has.
        averaged: take the average of the weights (EMA) where both are there.
        classes: names in place of those of the file; empty: its own, or of the data set that has so many.
        named: False where only the tensors are wanted: classes that nobody names are then no error, and there are none.

    Raises:
        WeightsError: missing, unreadable, or a pickle that wants to run code.
    """
    check_file(path)
    kind = foreign_kind(path)
    if kind:
        raise WeightsError(f"weights {path} {kind}")
    own = _names(build)
    found = [each._replace(tensors=without_wrapped(each.tensors, own)) for each in _read(path)]
    chosen = _chosen(path, found, own, averaged)
    place = place_of(chosen.tensors, own, averaged=averaged)
    layout = place.layout if place else None
    if place:
        tensors, other = _published_part(path, chosen, place, len(classes), averaged=averaged)
    else:
        bare = chosen.tensors if own else unwrapped(chosen.tensors)
        tensors, other = _own_part(path, bare, own, chosen.where, averaged=averaged)
    count, sha = _count(tensors, build), sha256_of(path)
    known = layout is not None and layout.is_of_cityscapes
    several = f"{sha} {chosen.where} {averaged}" if len(found) > 1 or other else ""
    return Weights(
        tensors,
        classes_of(path, count, chosen.metadata, chosen.classes, classes, published=known) if named else (),
        hashlib.sha256(several.encode()).hexdigest() if several else sha,
        chosen.metadata.get("source", path.name),
        layout.network if layout else "",
    )


def _read(path: Path) -> list[Found]:
    if is_safetensors(path) or (path.suffix == ".safetensors" and not is_torch(path)):
        tensors, metadata = _read_safetensors(path)
        _refuse_damaged(path, tensors, metadata)
        return [Found("", tensors, metadata)]
    reader = _READERS.get(path.suffix)
    return [Found("", reader(path), {})] if reader else _read_torch(path)


def _names(build: Callable[[int], nn.Module] | None) -> set[str]:
    if build is None:
        return set()
    with torch.device("meta"):
        return {name for name in build(2).state_dict() if not name.endswith("num_batches_tracked")}


def _chosen(path: Path, found: list[Found], own: set[str], averaged: bool) -> Found:
    # The one that most of the network's names are in; of equals the average where that is asked, then the first.
    def rank(each: Found) -> tuple[int, bool]:
        fit = len(own) if place_of(each.tensors, own) else max(prefixes(each.tensors, own).values())
        return fit, bool(AVERAGED.search(each.where)) == averaged

    best = max(found, key=rank)
    others = [each.where for each in found if each is not best]
    if others:
        log(f"{path.name}: {best.where} is taken, not {', '.join(others)}")
    return best


def _published_part(path: Path, chosen: Found, place: Place, classes: int, *, averaged: bool) -> tuple[Tensors, str]:
    # As `_own_part`, of a published layout: what has its names, by ours.
    part, layout = place.part(chosen.tensors), place.layout
    _tell_left(path, sorted(chosen.tensors.keys() - {place.prefix + name for name in part}), place.prefix)
    _refuse_no_average(path, chosen.where, place.prefix, averaged=averaged)
    refuse_sibling(path.name, layout.network, part)
    whole = layout.whole if classes == last_outputs(part) else None
    return (whole or layout.remap)(part), ", ".join(place.others)


def _own_part(
    path: Path, tensors: dict[str, torch.Tensor], own: set[str], within: str, *, averaged: bool
) -> tuple[dict[str, torch.Tensor], str]:
    # What has the network's names, by those names, and what another network in the same dictionary is called.
    counts = prefixes(tensors, own)
    prefix = best_prefix(tensors, own, averaged=averaged) if own else ""
    kept = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    kept = {name: tensor for name, tensor in kept.items() if name in own or not OF_TRAINING.match(name)}
    left = sorted(name for name in tensors if not name.startswith(prefix) or name.removeprefix(prefix) not in kept)
    _tell_left(path, left, prefix)
    _refuse_no_average(path, within, prefix, averaged=averaged)
    other = [each for each, count in counts.items() if each != prefix and count and count >= counts[prefix]]
    return kept, ", ".join(other)


def _tell_left(path: Path, left: list[str], prefix: str) -> None:
    where = f", which is {prefix}*" if prefix else ""
    if left:
        log(f"{path.name}: {_list('tensors', left)} are no part of the network{where}")


def _refuse_no_average(path: Path, within: str, prefix: str, *, averaged: bool) -> None:
    if averaged and not AVERAGED.search(f"{within}.{prefix}"):
        raise WeightsError(f"weights {path} hold no average of a training (--ema) that fits the network")


def load(network: nn.Module, weights: Weights) -> None:
    """Copy the tensors into the network; every one of both sides must fit.

    A network that is a part of another one passes over what only the other one has, which its `left_out` names.

    Raises:
        WeightsError: tensors are missing, extra or of another shape; it lists them.
    """
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    left_out: frozenset[str] = getattr(network, "left_out", frozenset())
    given = {k: v for k, v in weights.tensors.items() if k not in left_out and not k.endswith("num_batches_tracked")}
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
        raise WeightsError(f"weights {weights.source} {_misfit(problems, expected, given, weights.network)}")
    network.load_state_dict(given, strict=False)


def _misfit(problems: list[str], expected: Tensors, given: Tensors, network: str) -> str:
    hint = f". Their layout is that of {option('model', network)}" if network else ""
    if not expected.keys() & given.keys():
        unknown = "" if network else ", or in a layout that is not known"
        named = _list("tensors", sorted(given))
        return f"are of another network{unknown}: of their {named} none has a name of the network{hint}"
    is_a_part = not any(problems[1:]) and 2 * len(given) > len(expected)  # of the network that was asked
    return f"do not fit: {'; '.join(filter(None, problems))}{'' if is_a_part else hint}"


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


def _read_torch(path: Path) -> list[Found]:
    try:
        with path.open("rb") as file:
            return _networks(path, read_torch(file))
    except ForeignError as error:
        raise _refused_foreign(path, error) from None
    except NotDenseError as error:
        raise WeightsError(
            f"weights {path} hold sparse, complex or quantized tensors ({error}); dense real ones are read"
        ) from None
    except ValueError as error:
        raise WeightsError(f"weights {path} are damaged, or not a checkpoint that torch.save wrote: {error}") from None


def _networks(path: Path, file: TorchFile) -> list[Found]:
    found = list(candidates(file.content, lambda value: file.is_tensor(value) or is_array(value)))
    if not found:
        _refuse_objects(file.content, file)
        raise WeightsError(f"weights {path} are not a state_dict of tensors by name")
    budget, classes = Budget(path.stat().st_size), noted_classes(file.content)
    networks = [Found(each.where, _tensors(each, file, budget), {}, classes) for each in found]
    passed_over = [str(name) for name in file.names if name not in USUAL]
    if passed_over:
        log(f"{path.name}: {_list('objects', passed_over)} beside the tensors are passed over; nothing of them is run")
    return networks


def _tensors(candidate: Candidate, file: TorchFile, budget: Budget) -> dict[str, torch.Tensor]:
    # Numbers and texts among the tensors are a program's notes; an object there is one that the network may need.
    records = {name: value for name, value in candidate.values.items() if _is_record(value)}
    return {
        name: file.tensor(value) if file.is_tensor(value) else torch.from_numpy(array_from(value, budget))
        for name, value in records.items()
    }


def _refuse_objects(content: Any, file: TorchFile, depth: int = 0) -> None:
    # A network that is pickled whole is an object, at the top or under a key.
    values = mapping_of(content)
    if values is None and isinstance(content, Made) and not file.is_tensor(content):
        raise ForeignError(content.by)
    for value in (values or {}).values() if depth < DEEPEST else ():
        _refuse_objects(value, file, depth + 1)


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
        raise WeightsError(f"weights {path} are neither of ICNet nor of PSPNet: {_list('other layers', others)}")
    if others:
        log(f"{path.name}: {_list('layers', others)} are of its training alone and left out")
    return tensors


def _read_frozen_graph(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = read_frozen_graph(path)
    except (ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"weights {path} are damaged, or no frozen graph of TensorFlow: {error}") from None
    if recognised(tensors) is None:
        raise WeightsError(
            f"weights {path} are a TensorFlow graph of no network that is known here; convert it to ONNX (tf2onnx), "
            "and give that"
        )
    return tensors


_READERS = {
    ".npy": _read_numpy,
    ".npz": _read_numpy,
    ".caffemodel": _read_caffemodel,
    ".pb": _read_frozen_graph,
}


def _refused_foreign(path: Path, error: ForeignError) -> WeightsError:
    return WeightsError(
        f"weights {path} hold more than tensors ({error.name}) and are not loaded, since unpickling them runs their "
        "code. Save them again where you trust them: safetensors.torch.save_file(network.state_dict(), path)"
    )


def _count(tensors: dict[str, torch.Tensor], build: Callable[[int], nn.Module] | None) -> int | None:
    heads = ((tensors[name].shape, axis) for name, axis in CLASSIFIERS.items() if name in tensors)
    found = [shape[axis] for shape, axis in heads if len(shape) > axis]
    return found[0] if found else _count_of(tensors, build)


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
