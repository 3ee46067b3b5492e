"""Which tensors of a file are a network's: the containers and prefixes that training programs put around them."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from export.checkpoints.pickles import mapping_of

T = TypeVar("T")
# What wraps a network without being part of it: DataParallel, torch.compile, Lightning, and what people call theirs.
WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "student", "segmentor", "_model", "_forward_module")
WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # no network calls a part of it so
AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa|shadow|teacher)([._\d]|$)", re.I)
# Beside the network in its own dictionary: torchmetrics, losses with weights, thop's counts, counters of averages.
OF_TRAINING = re.compile(
    r"(((\w+_)?loss(es)?|loss_fn|criterion|criteria|metrics?|(train|val|valid|test)_\w+)\..+|n_averaged|steps|"
    r"(.+\.)?total_(ops|params))$"
)
# What a checkpoint holds that is no network, though tensors may be in it.
OTHERS = re.compile(
    r"(optim|.*optimizer|.*sched|scaler|amp|message_hub|callbacks|loops|hyper_|args|config|rng|meta$)", re.I
)
DEEPEST = 4  # dictionaries in each other
ORDER = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "state")


class Candidate(NamedTuple):
    """A dictionary of a file that holds tensors by name."""

    where: str  # its keys from the top, joined by dots; empty at the top
    values: dict[str, Any]

    @property
    def averaged(self) -> bool:
        """Whether it is an average of a training's weights, by its name."""
        return bool(AVERAGED.search(self.where))


def candidates(content: Any, is_tensor: Any, where: str = "", depth: int = 0) -> Iterator[Candidate]:
    """Every dictionary that holds tensors and none that does so itself; optimizers and their like aside.

    Args:
        content: a file's, as records.
        is_tensor: tells of a record whether it is a tensor's or an array's.
        where: the keys that lead to it.
        depth: how many those are.
    """
    values = mapping_of(content)
    if values is None or depth > DEEPEST:
        return
    inner: list[Candidate] = []
    for key in sorted(filter(_is_text, values), key=_place):
        if not OTHERS.match(key):
            inner += candidates(values[key], is_tensor, f"{where}.{key}" if where else key, depth + 1)
    if inner:
        yield from inner
    elif any(isinstance(key, str) and is_tensor(value) for key, value in values.items()):
        yield Candidate(where, {key: value for key, value in values.items() if isinstance(key, str)})


def without_wrapped(tensors: Mapping[str, T], own: Collection[str]) -> dict[str, T]:
    """Without what wraps a part of a network, in the middle of its names: torch.compile, FSDP, DataParallel.

    Args:
        tensors: by name.
        own: the network's own names; of those that fit them better with `module` none is taken off.
    """
    bare = _without(tensors, WITHIN)
    parallel = _without(bare, ("module",))
    better = max(prefixes(parallel, own).values()) > max(prefixes(bare, own).values())
    return parallel if better else bare


def _without(tensors: Mapping[str, T], parts: Collection[str]) -> dict[str, T]:
    found = {".".join(part for part in name.split(".") if part not in parts): each for name, each in tensors.items()}
    return found if len(found) == len(tensors) else dict(tensors)


def unwrapped(tensors: Mapping[str, T]) -> dict[str, T]:
    """Without the names of wrappers that all tensors share, in whatever order they stand."""
    found = dict(tensors)
    while counted := {name: tensor for name, tensor in found.items() if not OF_TRAINING.match(name)}:
        first = next(iter(counted)).split(".")[0]
        if first not in WRAPPERS or not all(name.startswith(f"{first}.") for name in counted):
            break
        found = {name.removeprefix(f"{first}."): tensor for name, tensor in counted.items()}
    return found


def prefixes(names: Collection[str], expected: Collection[str]) -> dict[str, int]:
    """What may stand before a network's names, and before how many of them; the empty one is always there."""
    own, counts = set(expected), {"": 0}
    for name in names:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in own:
                prefix = "".join(f"{part}." for part in parts[:at])
                counts[prefix] = counts.get(prefix, 0) + 1
    return counts


def best_prefix(names: Collection[str], expected: Collection[str], *, averaged: bool) -> str:
    """The prefix under which most of the network is, of an average where that is asked, the shortest of equals."""
    counts = prefixes(names, expected)
    rank = {
        prefix: (count, bool(AVERAGED.search(prefix)) == averaged, -len(prefix)) for prefix, count in counts.items()
    }
    return max(rank, key=rank.__getitem__)


def _is_text(key: Any) -> bool:
    return isinstance(key, str)


def _place(key: str) -> tuple[int, bool]:
    return (ORDER.index(key) if key in ORDER else len(ORDER), bool(AVERAGED.search(key)))
