"""How a valid file is spoilt: by a seed, and so again."""

import copy
import json
import random
from typing import Any

EDGES = (0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**63 - 1, 2**64)
ODD = (
    None, True, False, "", [], {}, -1, 0, 2**53, 2**80, 1e308, -0.5, float("nan"), float("inf"), "x" * 5000, "\x1b[31m",
    "\n", "../../x", "<script>", "\ud800", [[[[[]]]]], {"a": {"a": {}}}, [0] * 300,
)  # fmt: skip
MOST_CHANGES = 8


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Bytes with some of them flipped, replaced, doubled, cut out, moved, or set to what lengths and sizes fear."""
    found = bytearray(data)
    for _ in range(draw.randint(1, MOST_CHANGES)):
        if not found:
            break
        draw.choice((_flip, _flip, _byte, _edge, _edge, _cut, _double, _move, _end, _noise))(found, draw)
    return bytes(found)


def mutated_json(data: bytes, draw: random.Random) -> bytes:
    """A document with some values of another kind, or fields gone; now and then no JSON any more."""
    if draw.random() < 0.2:
        return mutated(data, draw)
    if draw.random() < 0.05:
        return draw.choice((b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'"' + b"\\u0000" * 50_000 + b'"'))
    values = json.loads(data)
    for _ in range(draw.randint(1, 3)):
        _spoil(values, draw)
    return json.dumps(values).encode("utf-8", "surrogatepass")


def _spoil(values: Any, draw: random.Random) -> None:
    while isinstance(values, (dict, list)) and values:
        key: Any = draw.choice(list(values)) if isinstance(values, dict) else draw.randrange(len(values))
        inner = values[key]
        if isinstance(inner, (dict, list)) and inner and draw.random() < 0.8:
            values = inner
            continue
        _change(values, key, draw)
        return


def _change(values: Any, key: Any, draw: random.Random) -> None:
    kind = draw.randrange(5)
    if kind == 0:
        del values[key]
    elif kind == 1 and isinstance(values, dict):
        values[str(draw.choice(ODD))[:60]] = values.pop(key)
    elif kind == 2 and isinstance(values, list):
        values.append(copy.deepcopy(values[key]))
    else:
        values[key] = copy.deepcopy(draw.choice(ODD))


def _at(found: bytearray, draw: random.Random) -> int:
    # Headers are at the beginning and the end, and decide more than what is between.
    where = draw.random()
    if where < 0.4:
        return draw.randrange(min(len(found), 256))
    return max(0, len(found) - 1 - draw.randrange(min(len(found), 256))) if where < 0.6 else draw.randrange(len(found))


def _flip(found: bytearray, draw: random.Random) -> None:
    found[_at(found, draw)] ^= 1 << draw.randrange(8)


def _byte(found: bytearray, draw: random.Random) -> None:
    found[_at(found, draw)] = draw.randrange(256)


def _edge(found: bytearray, draw: random.Random) -> None:
    at, size = _at(found, draw), draw.choice((1, 2, 4, 8))
    value = draw.choice(EDGES) % (1 << 8 * size)
    found[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))


def _cut(found: bytearray, draw: random.Random) -> None:
    at = _at(found, draw)
    del found[at : at + draw.choice((1, 2, 4, 16, 300))]


def _double(found: bytearray, draw: random.Random) -> None:
    at, size = _at(found, draw), draw.choice((1, 4, 16, 300))
    found[at:at] = found[at : at + size] * draw.choice((1, 2, 50))


def _move(found: bytearray, draw: random.Random) -> None:
    start, end, size = _at(found, draw), _at(found, draw), draw.choice((1, 4, 16, 64))
    found[end : end + size] = found[start : start + size]


def _end(found: bytearray, draw: random.Random) -> None:
    if draw.random() < 0.3:
        del found[_at(found, draw) :]


def _noise(found: bytearray, draw: random.Random) -> None:
    at = _at(found, draw)
    size = draw.choice((2, 8, 32))
    found[at : at + size] = draw.randbytes(size)
