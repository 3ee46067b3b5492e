"""Where a published network stands in a file, under what a training program put before its names; and whose it is."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from export.checkpoints.contents import AVERAGED, OF_TRAINING, prefixes
from export.checkpoints.layouts import LAYOUTS, Layout, Tensors
from runtime.commands import option
from runtime.errors import WeightsError


class Place(NamedTuple):
    """A published layout in a dictionary of tensors, and the prefix of its names there."""

    layout: Layout
    prefix: str
    others: tuple[str, ...]  # prefixes of the other networks beside it

    def part(self, tensors: Tensors) -> Tensors:
        """The tensors under the prefix, by the layout's names, without what is of a training alone."""
        named = {name.removeprefix(self.prefix): tensors[name] for name in _under(tensors, self.prefix, self.others)}
        return {name: tensor for name, tensor in named.items() if not OF_TRAINING.match(name)}


class Sibling(NamedTuple):
    """Another network of a family, whose files have the keys of one that is here."""

    name: str
    of: str  # the names of networks whose layout it has, as a pattern
    key: str  # a tensor that it alone has, as a pattern
    outputs: int = 0  # or that has more outputs than so many


SIBLINGS = (
    Sibling("DDRNet-39", "ddrnet23-slim", r"layer3_1\."),
    Sibling("DDRNet-23", "ddrnet23-slim", r"(conv1\.0|backbone\.stem\.0\.conv)\.weight$", 32),
    Sibling("PIDNet-L", "pidnet-s", r"(layer1|backbone\.stem\.2)\.2\."),
    Sibling("PIDNet-M", "pidnet-s", r"(conv1\.0|backbone\.stem\.0\.conv)\.weight$", 32),
    Sibling("a network on ResNet-152", ".*", r"(backbone\.)*layer3\.35\.|conv4_36_"),
    Sibling("a network on ResNet-101", ".*", r"(backbone\.)*layer3\.22\.|conv4_23_"),
)


def place_of(names: Collection[str], own: Collection[str], *, averaged: bool = False) -> Place | None:
    """The published layout that a dictionary's names are of; None where they are the network's own, or nobody's.

    Args:
        names: of its tensors.
        own: the network's names; where most of them are there, whoever called it so, no layout is looked for.
        averaged: of two that are equal take the average of a training.
    """
    if own and 2 * max(prefixes(names, own).values()) > len(own):
        return None
    found: dict[str, Layout] = {}
    for layout in LAYOUTS:
        for name in names:
            for at in _starts(name):
                if layout.key.match(name, at):
                    found.setdefault(name[:at], layout)
    if not found:
        return None

    def rank(prefix: str) -> tuple[int, bool, int]:
        count = len(list(_under(names, prefix, found)))
        return count, bool(AVERAGED.search(prefix)) == averaged, -len(prefix)

    best = max(found, key=rank)
    return Place(found[best], best, tuple(prefix for prefix in found if prefix != best))


def refuse_sibling(file: str, network: str, tensors: Tensors) -> None:
    """Refuse the file of another network of the same family, by the layout's names.

    Raises:
        WeightsError: it is one; it names which.
    """
    for sibling in SIBLINGS:
        if re.fullmatch(sibling.of, network) and any(_is_of(sibling, *each) for each in tensors.items()):
            raise WeightsError(
                f"weights {file} are those of {sibling.name}, which is not among the networks here; the one with such "
                f"keys is {option('model', network)}"
            )


def _is_of(sibling: Sibling, name: str, tensor: object) -> bool:
    outputs = tuple(getattr(tensor, "shape", ()))[:1]
    return bool(re.match(sibling.key, name)) and (not sibling.outputs or outputs > (sibling.outputs,))


def _starts(name: str) -> Iterator[int]:
    yield 0
    yield from (dot.end() for dot in re.finditer(r"\.", name))


def _under(names: Collection[str], prefix: str, others: Collection[str]) -> Iterator[str]:
    deeper = tuple(other for other in others if len(other) > len(prefix) and other.startswith(prefix))
    return (name for name in names if name.startswith(prefix) and not name.startswith(deeper))
