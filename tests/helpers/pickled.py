"""Pickles that no program writes: honest ones with their steps shuffled, states forged, bytes changed."""

import pickle
import pickletools
from collections import OrderedDict

import numpy as np

from export.checkpoints.pickles import Made, Name, OddKey, Stored

INERT = (type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict, Name, Made, Stored, OddKey)
NAMES = (b"cos\nsystem\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cbuiltins\neval\n", b"cnumpy\nload\n",
         b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n")  # fmt: skip
FORGED = (
    b"R", b"b", b"\x81", b"\x92", b"o", b"s", b"u", b"e", b"a", b"(", b"t", b"\x85", b"\x86", b"}", b"]", b"0", b"2",
    b"\x94", b"Q", b"K\x07", b"J\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"C\x04abcd", b"N", b".",
)  # fmt: skip


def honest():
    """Pickles of what checkpoints hold, by every protocol."""
    arrays = {"layer": {"weights": np.ones((2, 3), np.float32), "scale": np.float64(2), "biases": np.arange(3)}}
    contents = [arrays, OrderedDict(a=1, b=[1, (2.5, None)], c={"d": b"x", 3: {True}}), np.array(arrays, object)]
    return [pickle.dumps(content, protocol) for content in contents for protocol in range(6)]


def steps_of(pickled):
    """The pickle's opcodes, each with its argument, as bytes."""
    places = [place for _, _, place in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(places, [*places[1:], len(pickled)], strict=True)]


def mutated(pickled, rng):
    """The pickle with some of its steps lost, doubled, exchanged, or forged, or with bytes that were changed."""
    steps = steps_of(pickled)
    for _ in range(rng.randrange(1, 6)):
        place, other = rng.randrange(len(steps)), rng.randrange(len(steps))
        change = rng.randrange(6)
        if change == 0:
            steps[place : place + 1] = [] if len(steps) > 1 else steps[:1]
        elif change == 1:
            steps.insert(place, steps[other])
        elif change == 2:
            steps[place], steps[other] = steps[other], steps[place]
        elif change == 3:
            steps.insert(place, rng.choice(FORGED))
        elif change == 4:
            steps[place:place] = [rng.choice(NAMES), rng.choice(FORGED), rng.choice(FORGED)]
        else:
            at, step = rng.randrange(len(steps[place])), bytearray(steps[place])
            step[at] = rng.randrange(256)
            steps[place] = bytes(step)
    return b"".join(steps)


def all_of(value):
    """Everything that a value read from a pickle holds, each once."""
    seen, left = {}, [value]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, Made):
            left += [each.by, each.args, each.state, each.items, each.pairs]
        elif isinstance(each, Stored):
            left.append(each.identity)
        elif isinstance(each, OddKey):
            left.append(each.value)
        elif isinstance(each, dict):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple)):
            left += each
    return list(seen.values())
