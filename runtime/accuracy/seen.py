"""What the labels of a split hold, told before anything is trained on them or measured with them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from runtime.accuracy.datasets import LOOKED, Pair, read_label, spread
from runtime.cli import log, progress
from runtime.errors import DatasetError
from runtime.labels import IGNORED, Label

MOST_TOLD = 30  # classes named in the line
MOSTLY = 0.5  # a share ignored from which it is a warning


class Seen(NamedTuple):
    """How many pixels of each train id so many labels of a split hold."""

    counts: np.ndarray  # int64 (256,)
    labels: int
    of: int


def seen_in(labels: Iterable[np.ndarray], of: int) -> Seen:
    """Counts every label, uint8 (H, W) train ids; `of`: how many the split has."""
    counts, looked = np.zeros(256, np.int64), 0
    for label in labels:
        counts += np.bincount(label.ravel(), minlength=256)
        looked += 1
    return Seen(counts, looked, of)


def look(pairs: Sequence[Pair], classes: Sequence[Label], what: str, *, needed: bool = True) -> Seen:
    """Read labels of a split, at most `LOOKED` of them at even distances, and tell what they hold.

    Where those hold nothing that counts the others are read too, before the split is refused.

    Args:
        pairs: the split.
        classes: of the data set.
        what: the split's name in messages.
        needed: refuse labels of which nothing counts, as those of a test split; else they are a warning.

    Raises:
        DatasetError: a label cannot be read, or no pixel of any counts and they are needed.
    """
    chosen = spread(pairs, LOOKED)
    seen = seen_in((_label(pair) for pair in progress(chosen, f"labels of {what}", unit="label")), len(pairs))
    if not seen.counts[: len(classes)].any() and len(chosen) < len(pairs):
        seen = seen_in(map(_label, pairs), len(pairs))
    if needed or seen.counts[: len(classes)].any():
        tell(seen, classes, what)
    else:
        log(f"warning: {_void(seen, what)}: no figure comes of them")
    return seen


def tell(seen: Seen, classes: Sequence[Label], what: str) -> None:
    """One line with each class's share of the pixels that count and the share ignored; warnings on lines of their own.

    Raises:
        DatasetError: no pixel counts.
    """
    counts, ignored = seen.counts[: len(classes)], int(seen.counts[IGNORED])
    which = f"{seen.labels} labels" if seen.labels == seen.of else f"{seen.labels} of {seen.of} labels looked at"
    if not counts.any():
        raise DatasetError(_void(seen, what))
    void = ignored / (ignored + int(counts.sum()))
    shares = _shares(counts, classes)
    log(f"{what}, {which}: {shares}; {void:.1%} of the pixels do not count")
    if len(classes) == 1:
        log(f"warning: {classes[0].name} is the only class: every mask is all of it; name what it is not as a second")
    missing = [label.name for label, count in zip(classes, counts, strict=True) if not count]
    if missing:
        log(f"warning: none of these labels holds {_listed(missing)}: {_learnt(len(missing))}")
    if void > MOSTLY:
        log(f"warning: {void:.1%} of {what} does not count; if 255 stands for a class, give it an id of its own")


def _void(seen: Seen, what: str) -> str:
    return f"none of the {seen.labels} labels of {what} has a pixel that counts: all are ignored"


def _label(pair: Pair) -> np.ndarray:
    return read_label(*pair[1:])


def _shares(counts: np.ndarray, classes: Sequence[Label]) -> str:
    largest = sorted(np.flatnonzero(counts).tolist(), key=lambda each: -counts[each])
    told = [f"{classes[each].name} {counts[each] / counts.sum():.1%}" for each in sorted(largest[:MOST_TOLD])]
    left = len(largest) - len(told)
    return ", ".join(told) + (f" and {left} rarer classes" if left else "")


def _listed(names: Sequence[str]) -> str:
    left = len(names) - MOST_TOLD
    return ", ".join(names[:MOST_TOLD]) + (f" and {left} more" if left > 0 else "")


def _learnt(count: int) -> str:
    return f"{'it is' if count == 1 else 'they are'} neither learnt nor measured with them"
